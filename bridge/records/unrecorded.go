package records

import (
	"errors"
	"fmt"
	"slices"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
)

// Unrecorded lists the attachments whose links name them and that have no record: their ADD
// wrote it before the alias, so it was lost, or the ADD was of an earlier version. One that a
// verb is under way for is left out.
func (d Dir) Unrecorded(h *host.Host) ([]model.Owner, error) {
	suspects, err := d.lacking(h)
	if len(suspects) == 0 || err != nil {
		return nil, err
	}
	var keys []model.Key
	for _, o := range suspects {
		keys = append(keys, o.Key)
	}
	free, _, turns := d.Turns(keys)
	defer turns.Close()
	again, err := d.lacking(h) // a DEL removes the record before the link
	return slices.DeleteFunc(again, func(o model.Owner) bool { return !slices.Contains(free, o.Key) }), err
}

// lacking is Unrecorded at a moment at which verbs may be under way.
func (d Dir) lacking(h *host.Host) (all []model.Owner, err error) {
	links, err := h.Links()
	recorded, _ := d.Attachments("*", "*") // a reload reports what can't be read
	for _, o := range host.Owners(links) {
		if o.Key != (model.Key{}) && recorded[o.Key] == nil {
			all = append(all, o)
		}
	}
	return all, err
}

// Lost is what to say of an attachment that Unrecorded lists.
func Lost(o model.Owner) error {
	text := o.Key.String()
	if len(o.Addresses) > 0 {
		text += " (" + model.JoinAddrs(o.Addresses) + ")"
	}
	return fmt.Errorf("no record of %s: a reload can't restore its published ports, spoof protection and limits; "+
		"restart the container, which records it", text)
}

// CheckLost names the attachments that no reload restores as they were made: those without a
// record, and those with an address in no recorded subnet, which lack rules. Records are read
// after the links: an ADD may have come meanwhile, which writes its own first.
func (d Dir) CheckLost(h *host.Host) error {
	lost, err := d.Unrecorded(h)
	errs := []error{err}
	for _, o := range lost {
		errs = append(errs, fmt.Errorf("network %s: %w", o.Key.Network, Lost(o)))
	}
	links, err := h.Links()
	errs = append(errs, err)
	networks, _ := d.Networks() // a reload reports what can't be read
	served := map[string][]model.Subnet{}
	for _, s := range networks {
		served[s.Name] = s.Served
	}
	for _, o := range host.Owners(links) {
		if o.Key == (model.Key{}) || slices.ContainsFunc(lost, func(l model.Owner) bool { return l.Key == o.Key }) {
			continue
		}
		for _, a := range o.Addresses {
			if !slices.ContainsFunc(served[o.Key.Network], func(s model.Subnet) bool { return s.Contains(a) }) {
				errs = append(errs, fmt.Errorf("network %s: no record of %s of %s, whose rules and published ports are not restored; "+
					"the network's next ADD records it", o.Key.Network, a, o.Key))
			}
		}
	}
	return errors.Join(errs...)
}
