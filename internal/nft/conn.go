// Package nft speaks to nf_tables: tables, chains, rules, sets and maps as
// plain data, changed by one atomic batch (see [Batch]) and asked for one by
// one. It says how these look in netlink messages, and nothing about what
// they are for. Names are those of nft(8) and linux/netfilter/nf_tables.h.
package nft

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

// A Conn is a netlink socket to the nf_tables of one network namespace. It is
// for one goroutine at a time.
type Conn struct {
	nl *nl.Conn
}

// Dial opens a socket in the calling thread's network namespace.
func Dial() (*Conn, error) {
	c, err := nl.Dial(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, unsupported("CONFIG_NF_TABLES", err)
	}
	if err != nil {
		return nil, fmt.Errorf("nf_tables: %w", err)
	}
	return New(c), nil
}

// New wraps a NETLINK_NETFILTER socket that is open already.
func New(c *nl.Conn) *Conn { return &Conn{c} }

// Close closes the socket. After a batch that deleted something, or added a
// chain that existed, it takes 10 to 30 ms: the kernel waits for a grace period
// before it frees what is left over. Everything else costs nothing here.
func (c *Conn) Close() error { return c.nl.Close() }
