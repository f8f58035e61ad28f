// Package signs restores what shows whose host end a link is (see package host), where
// somebody has changed it. Without its MAC address or its alias no reload finds the rules that
// it has lost, and no DEL the link.
package signs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/bridge/records"
	"flatnet/internal/advice"
	"flatnet/rtnl"
)

// A Change is what a link lacks of its attachment's signs.
type Change struct {
	MAC   model.HardwareAddr // the one that it had; zero: it has it
	Alias string             // empty: it has it
}

// Lacks returns what a link lacks of the signs of an attachment with addresses.
func Lacks(key model.Key, addrs []netip.Addr, l rtnl.Link) (c Change) {
	mark := key.Mark()
	if string(l.MAC) != string(mark[:]) {
		c.MAC = mark
	}
	if model.ParseOwner(l.Name, mark, l.Alias).Key != key {
		c.Alias = model.Owner{Key: key, Addresses: addrs}.Alias()
	}
	return c
}

// String names what was changed.
func (c Change) String() string {
	switch {
	case c.Alias == "":
		return "MAC"
	case c.MAC == model.HardwareAddr{}:
		return "alias"
	}
	return "MAC and alias"
}

// Command is the shell's command line that restores the signs of an interface.
func (c Change) Command(iface string) string {
	words := "ip link set dev " + advice.Word(iface)
	if c.MAC != (model.HardwareAddr{}) {
		words += " address " + c.MAC.String()
	}
	if c.Alias != "" {
		words += " alias " + advice.Word(c.Alias)
	}
	return words
}

// Provable reports whether signs are proof enough for a reload to restore the others: two of
// them, or the MAC address, by which a DEL finds a link. Anybody who is root may have given a
// link just the name, or just the alias.
func Provable(has host.Signs) bool { return has&host.ByMAC != 0 || has == host.ByName|host.ByAlias }

// Restore gives links of recorded attachments the MAC address and alias back that somebody
// has changed, and returns a line for each. One that can't be proved to be the attachment's
// is named in the error.
func Restore(h *host.Host, dir records.Dir, recorded map[model.Key]*model.Attachment) (mended []string, err error) {
	links, err := h.Links()
	if err != nil {
		return nil, err
	}
	x := host.NewIndex(links)
	var changed []*model.Attachment
	for _, a := range recorded {
		if l, has := x.Find(a.Key, a.HostEnd); has != 0 && Lacks(a.Key, nil, l) != (Change{}) {
			changed = append(changed, a)
		}
	}
	slices.SortFunc(changed, func(a, b *model.Attachment) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	var errs []error
	for _, a := range changed {
		line, err := restore(h, dir, a)
		if line != "" {
			mended = append(mended, line)
		}
		errs = append(errs, err)
	}
	return mended, errors.Join(errs...)
}

// restore restores the signs of one attachment's link, unless a verb of it is under way.
func restore(h *host.Host, dir records.Dir, a *model.Attachment) (mended string, err error) {
	free, _, turn := dir.Turns([]model.Key{a.Key})
	defer turn.Close()
	links, err := h.Links()
	if err != nil || len(free) == 0 {
		return "", err
	}
	l, has := host.NewIndex(links).Find(a.Key, a.HostEnd)
	c := Lacks(a.Key, a.IPs(), l)
	switch {
	case has == 0 || c == (Change{}):
		return "", nil
	case !Provable(has):
		return "", fmt.Errorf("%s: the %s of its host interface %s may have been changed; if it is that container's, run: %s",
			a.Key, c, advice.Word(l.Name), c.Command(l.Name))
	case Unfinished(l):
		return "", nil
	}
	set := rtnl.LinkChange{Alias: c.Alias}
	if c.MAC != (model.HardwareAddr{}) {
		set.MAC = c.MAC[:]
	}
	if err := h.SetLink(l, set); err != nil {
		return "", err
	}
	return "mended: the " + c.String() + " of host interface " + advice.Word(l.Name) + " had been changed", nil
}

// Unfinished reports whether a link is that of an ADD which has not come to its end: this
// makes it a port of the bridge and gives it its alias at once.
func Unfinished(l rtnl.Link) bool { return l.Alias == "" && l.Master == 0 }
