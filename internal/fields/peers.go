package fields

import (
	"errors"
	"fmt"
	"slices"

	"flatnet/bridge/model"
	"flatnet/internal/peer"
	"flatnet/internal/strictjson"
)

// maxPeers bounds the subnets of other hosts: each is a route of this host.
const maxPeers = 1024

// Peers reads the subnets of other hosts into a network whose other keys have been read.
// No other plugin reads them, so an unknown key of one is an error.
func Peers(doc *strictjson.Object, n *model.Network) {
	for i, o := range doc.ManyObjects("peers", maxPeers) {
		for key := range o.All() {
			if !slices.Contains([]string{"subnet", "via", "dev"}, key) {
				o.Fail(key, "is unknown; a peer has subnet, via and dev")
			}
		}
		p := peer.Peer{Subnet: Subnet(o, "subnet"), Via: Addr(o, "via"), Dev: Optional(o, "dev", ParseIfName)}
		if doc.Err() != nil {
			return
		}
		if key, err := p.Check(); err != nil {
			o.Fail(key, "%w", err)
		}
		if err := AddPeer(n, p); err != nil {
			doc.Fail(fmt.Sprintf("peers[%d]", i), "%w", err)
		}
	}
}

// ParsePeers is Peers of a list as [peer.Parse] reads its parts, separated by commas.
func ParsePeers(n *model.Network, text string) error {
	peers, err := peer.ParseList(text)
	for i := 0; i < len(peers) && err == nil; i++ {
		p := &peers[i]
		p.Subnet, p.Via = p.Subnet.Masked(), p.Via.Unmap()
		if _, err = p.Check(); err == nil && p.Dev != "" {
			_, err = ParseIfName(p.Dev)
		}
		if err == nil {
			err = AddPeer(n, *p)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", p, err)
		}
	}
	return err
}

// AddPeer adds a peer that is valid to a network, which never masquerades what is sent
// there.
func AddPeer(n *model.Network, p peer.Peer) error {
	switch {
	case len(n.Peers) == maxPeers:
		return fmt.Errorf("there are more than %d", maxPeers)
	case n.Internal:
		return errors.New("an internal network has no way out, so it has no peers")
	case !n.IsGateway:
		return errors.New("the host must be the network's gateway (isGateway): it routes to peers")
	case p.Dev == n.Bridge && !p.Via.IsValid():
		return fmt.Errorf("%s is the network's own bridge", p.Dev)
	}
	n.Peers, n.Spans = append(n.Peers, p), true
	if !slices.Contains(n.Flat, p.Subnet) {
		n.Flat = append(n.Flat, p.Subnet)
	}
	return nil
}
