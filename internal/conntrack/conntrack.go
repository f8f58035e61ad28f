// Package conntrack finds and deletes the kernel's records of connections by
// ctnetlink. Names are those of linux/netfilter/nfnetlink_conntrack.h.
package conntrack

import (
	"errors"
	"fmt"

	"flatnet/internal/nl"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrUnsupported is a kernel without ctnetlink. The text names the CONFIG_
// option.
var ErrUnsupported = errors.New("CONFIG_NF_CT_NETLINK: not supported by this kernel")

const (
	msgGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	msgDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
)

// A Conn is a netlink socket to the conntrack of one network namespace.
type Conn struct{ nl *nl.Conn }

// Dial opens a socket in the calling thread's network namespace.
func Dial() (*Conn, error) {
	c, err := nl.Dial(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, ErrUnsupported
	}
	if err != nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	return &Conn{c}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.nl.Close() }

// Flows lists the flows of a protocol (IPPROTO_*) whose first packet went to a
// port, in one family.
func (c *Conn) Flows(ipv6 bool, protocol uint8, port uint16) ([]Flow, error) {
	req, err := encodeQuery(ipv6, protocol, port)
	if err != nil {
		return nil, err
	}
	msgs, err := c.nl.Dump(msgGet, req)
	if errors.Is(err, unix.EINVAL) { // nfnetlink's word for a subsystem that it doesn't have
		return nil, ErrUnsupported
	}
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	var flows []Flow
	for _, m := range msgs {
		f, err := decode(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list connections: %w", err)
		}
		// Kernels before 5.8 ignore the filter.
		if f.Protocol == protocol && f.Dst.Port() == port {
			flows = append(flows, f)
		}
	}
	return flows, nil
}

// Delete deletes a flow; one that is gone is no error. A newer one with the same
// addresses and ports stays.
func (c *Conn) Delete(f Flow) error {
	req, err := f.encode()
	if err == nil {
		_, err = c.nl.Do(msgDelete, netlink.Acknowledge, req)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete connection %v: %w", f, err)
	}
	return nil
}
