// Package conntrack finds and deletes the kernel's records of connections by
// ctnetlink. Names are those of linux/netfilter/nfnetlink_conntrack.h.
package conntrack

import (
	"errors"
	"fmt"
	"net/netip"

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

// A Query selects flows of one protocol and family. The kernel goes through all
// that it has, and returns only the selected ones (since 5.8).
type Query struct {
	Protocol uint8 // IPPROTO_*
	IPv6     bool
	Port     uint16     // that the first packet went to; 0: any
	Server   netip.Addr // that answers, of the same family; invalid: any
}

func (q Query) selects(f Flow) bool {
	return f.Protocol == q.Protocol && (q.Port == 0 || f.Dst.Port() == q.Port) &&
		(!q.Server.IsValid() || f.Server.Addr() == q.Server)
}

// Flows lists the flows that a query selects.
func (c *Conn) Flows(q Query) ([]Flow, error) {
	req, err := q.encode()
	if err != nil {
		return nil, err
	}
	msgs, err := c.nl.Dump(msgGet, req)
	if errors.Is(err, unix.EINVAL) { // nfnetlink has no such subsystem
		return nil, ErrUnsupported
	}
	var flows []Flow
	for _, m := range msgs {
		f, derr := decode(m.Data)
		err = errors.Join(err, derr)
		if q.selects(f) { // kernels before 5.8 ignore the filter
			flows = append(flows, f)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	return flows, nil
}

// Delete deletes flows; one that is gone is no error. A newer one with the same
// addresses and ports stays. All are tried; the first error is returned.
func (c *Conn) Delete(flows []Flow) error {
	requests := make([]netlink.Message, len(flows))
	for i, f := range flows {
		data, err := f.encode()
		if err != nil {
			return fmt.Errorf("delete connection %v: %w", f, err)
		}
		header := netlink.Header{Type: msgDelete, Flags: netlink.Request | netlink.Acknowledge}
		requests[i] = netlink.Message{Header: header, Data: data}
	}
	var first error
	for _, err := range c.nl.Each(requests) {
		if first == nil && err != nil && !errors.Is(err, unix.ENOENT) {
			first = fmt.Errorf("delete connection %v: %w", flows[0], err)
		}
		flows = flows[1:]
	}
	return first
}
