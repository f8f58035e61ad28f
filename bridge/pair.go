package bridge

import (
	"errors"
	"fmt"
	"net"

	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// A container that has CAP_NET_ADMIN in its network namespace can rename, move,
// replace and delete whatever is there at any moment, also during an ADD. So a veth
// pair is only ever looked up on the host: by name and mark, and then by index. The
// host's description of its own end also says which interface the peer is.

// makePair makes the veth pair under the first of the owner's names that no other
// owner's link has, and returns its host end.
func makePair(c *rtnl.Conn, inside sandbox, a Attachment) (rtnl.Link, error) {
	mark, names := a.Key.Mark(), a.Key.HostNames()
	for _, name := range names {
		err := c.AddVeth(rtnl.Veth{
			Name: name, MAC: mark[:], MTU: a.MTU,
			Peer: a.Key.IfName, PeerMAC: a.MAC[:], PeerNS: inside.netns.FD(),
		})
		switch {
		case err == nil:
			return findHostEnd(c, a.Key, name)
		case errors.Is(err, unix.EOPNOTSUPP):
			return rtnl.Link{}, fmt.Errorf("make veth %s: %w: CONFIG_VETH", name, ErrUnsupported)
		case !errors.Is(err, unix.EEXIST):
			return rtnl.Link{}, fmt.Errorf("make veth %s with %s in the container: %w", name, a.Key.IfName, err)
		}
	}
	// The container may have made an interface of that name just now.
	if err := checkVacant(inside, a.Key.IfName); err != nil {
		return rtnl.Link{}, err
	}
	return rtnl.Link{}, fmt.Errorf("interfaces %v of the host belong to others: %w", names, ErrConflict)
}

// findHostEnd looks up the host end that this ADD has made.
func findHostEnd(c *rtnl.Conn, key Key, name string) (rtnl.Link, error) {
	l, err := c.LinkByName(name)
	switch {
	case errors.Is(err, unix.ENODEV), err == nil && (l.Kind != "veth" || !owns(key, l)):
		return rtnl.Link{}, takenAway(key, "deleted")
	case err != nil:
		return rtnl.Link{}, fmt.Errorf("find link %s: %w", name, err)
	}
	return l, nil
}

// checkPair reports an [ErrChanged] unless host is still key's host end, its peer
// is in the container's namespace, and has the name and the MAC that ADD gave it.
func checkPair(c *rtnl.Conn, inside sandbox, a Attachment, host rtnl.Link) error {
	now, err := c.LinkByIndex(host.Index)
	switch {
	case errors.Is(err, unix.ENODEV), err == nil && !owns(a.Key, now):
		return takenAway(a.Key, "deleted")
	case err != nil:
		return fmt.Errorf("find link %s: %w", host.Name, err)
	}
	here, err := isPeer(c, inside, now, host.Peer)
	switch {
	case err != nil:
		return err
	case !here:
		return takenAway(a.Key, "moved to another network namespace")
	}
	l, err := inside.LinkByIndex(host.Peer)
	switch {
	case errors.Is(err, unix.ENODEV):
		return takenAway(a.Key, "deleted")
	case err != nil:
		return fmt.Errorf("find %s in the container: %w", a.Key.IfName, err)
	case l.Name != a.Key.IfName:
		return takenAway(a.Key, "renamed to "+l.Name)
	case string(l.MAC) != string(a.MAC[:]):
		return takenAway(a.Key, "given the MAC address "+net.HardwareAddr(l.MAC).String())
	}
	return nil
}

// isPeer reports whether the peer of a host end is the interface with an index in
// the container's namespace.
func isPeer(c *rtnl.Conn, inside sandbox, host rtnl.Link, index int) (bool, error) {
	id, err := c.NetNSID(inside.netns.FD())
	if err != nil {
		return false, fmt.Errorf("look up the container's network namespace: %w", err)
	}
	return host.Peer == index && host.PeerNS == id && id != unix.NETNSA_NSID_NOT_ASSIGNED, nil
}

// because returns why something failed in the container: err, unless the container
// has taken the interface away.
func because(err error, c *rtnl.Conn, inside sandbox, a Attachment, host rtnl.Link) error {
	if taken := checkPair(c, inside, a, host); errors.Is(taken, ErrChanged) {
		return taken
	}
	return err
}

func takenAway(key Key, how string) error {
	return changed("interface %s of %s was %s in the container during the ADD", key.IfName, key, how)
}
