package bridge

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/rtnl"
)

// Survey returns the networks that have attachments, by their links and records, in
// the order of their names. With deep, it looks for what they miss as well. What can't be
// read of one network is among its faults.
func (h *Host) Survey(deep bool) ([]*model.Survey, error) {
	c, err := h.open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.thorough = deep
	links, err := c.Links()
	if err != nil {
		return nil, err
	}
	networks := map[string]*model.Survey{}
	for _, o := range host.Owners(links) {
		if o.Key != (model.Key{}) && networks[o.Key.Network] == nil {
			networks[o.Key.Network] = c.survey(o.Key.Network, deep, links)
		}
	}
	byName := func(a, b *model.Survey) int { return strings.Compare(a.Name, b.Name) }
	return slices.SortedFunc(maps.Values(networks), byName), nil
}

// survey returns what links and records show of one network.
func (c *call) survey(name string, deep bool, links []rtnl.Link) *model.Survey {
	found := &model.Survey{Shared: model.Shared{Network: model.Network{Name: name}}}
	shared := c.records.Network(name)
	if found.Recorded = shared != nil; found.Recorded {
		found.Shared = *shared
	}
	ends, err := c.records.Ends(&found.Shared, links)
	for _, e := range ends {
		found.Attachments = append(found.Attachments, e.Attachment)
	}
	slices.SortFunc(found.Attachments, func(a, b *model.Attachment) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	if deep && found.Recorded {
		err = errors.Join(err, c.report(&found.Shared, ends))
	}
	found.Faults = err
	return found
}
