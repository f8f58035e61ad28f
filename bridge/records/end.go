package records

import (
	"cmp"
	"net/netip"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/rtnl"
)

// An End is the host's side of an attachment: what is to be there, and its link.
type End struct {
	*model.Attachment
	Link rtnl.Link
	Was  string // the link's recorded name, if that is another
	// MadeMTU is the link's recorded MTU; 0: it is not known. The attachment then has that of
	// the network.
	MadeMTU uint32
}

// Ends finds the host ends of the network's attachments among links, with what is
// recorded of each.
func (d Dir) Ends(s *model.Shared, links []rtnl.Link) ([]End, error) {
	recorded, err := d.Attachments(s.Name, "*")
	var all []End
	for _, l := range links {
		for _, o := range host.Owners([]rtnl.Link{l}) {
			if o.Key.Network != s.Name {
				continue
			}
			e := End{Attachment: &model.Attachment{Key: o.Key}, Link: l}
			if a := recorded[o.Key]; a != nil {
				e.Attachment = a
				if a.HostEnd != l.Name {
					e.Was = a.HostEnd
				}
			}
			spoof, mtu := e.SpoofCheck, e.MTU
			e.Shared, e.HostEnd, e.MadeMTU = *s, l.Name, mtu
			e.SpoofCheck, e.MTU = spoof, cmp.Or(mtu, s.MTU) // as it was attached
			if len(e.Addresses) == 0 {
				for _, ip := range o.Addresses {
					e.Addresses = append(e.Addresses, model.Address{Prefix: netip.PrefixFrom(ip, ip.BitLen())})
				}
			}
			all = append(all, e)
		}
	}
	return all, err
}
