package rtnl

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// NetNSID is the number that the socket's namespace has given to the namespace of a
// file descriptor (RTM_GETNSID), or -1 if it has given none. The kernel gives one
// when it first describes a link whose other end is there, and never reuses it while
// that namespace exists.
func (c *Conn) NetNSID(fd int) (int, error) {
	b, err := encodeNetNSID(fd)
	if err != nil {
		return unix.NETNSA_NSID_NOT_ASSIGNED, err
	}
	msgs, err := c.nl.Do(unix.RTM_GETNSID, 0, b)
	if err != nil {
		return unix.NETNSA_NSID_NOT_ASSIGNED, err
	}
	if len(msgs) != 1 {
		return unix.NETNSA_NSID_NOT_ASSIGNED, fmt.Errorf("%d replies to one RTM_GETNSID", len(msgs))
	}
	return decodeNetNSID(msgs[0].Data)
}

// sizeofRtGenMsg is that of struct rtgenmsg of linux/rtnetlink.h, aligned.
const sizeofRtGenMsg = 4

func encodeNetNSID(fd int) ([]byte, error) {
	return encode(make([]byte, sizeofRtGenMsg), func(ae *netlink.AttributeEncoder) {
		ae.Uint32(unix.NETNSA_FD, uint32(fd))
	})
}

func decodeNetNSID(b []byte) (int, error) {
	_, ad, err := split(b, sizeofRtGenMsg)
	if err != nil {
		return unix.NETNSA_NSID_NOT_ASSIGNED, fmt.Errorf("namespace ID: %w", err)
	}
	id := unix.NETNSA_NSID_NOT_ASSIGNED
	for ad.Next() {
		if ad.Type() == unix.NETNSA_NSID {
			id = int(ad.Int32())
		}
	}
	return id, ad.Err()
}
