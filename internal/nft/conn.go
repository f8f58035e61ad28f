// Package nft speaks to nf_tables: tables, chains, rules, sets and maps as
// plain data, changed by one atomic batch (see [Batch]) and asked for one by
// one. It has their form in netlink messages, and nothing about their
// purpose. Names are those of nft(8) and linux/netfilter/nf_tables.h.
package nft

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

// A Conn is a netlink socket to the nf_tables of one network namespace. It is
// for one goroutine at a time.
type Conn struct{ nl *nl.Conn }

// Dial opens a socket in the calling thread's network namespace.
func Dial() (*Conn, error) {
	c, err := nl.Dial(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, unsupported("CONFIG_NF_TABLES", err)
	}
	if err != nil {
		return nil, fmt.Errorf("nf_tables: %w", err)
	}
	return &Conn{c}, nil
}

// Close closes the socket. After a batch that deleted something, or added a
// chain that existed, it takes 10 to 30 ms: the kernel waits for a grace period
// before it frees what is left over. Everything else costs nothing here.
func (c *Conn) Close() error { return c.nl.Close() }

// headerSize is the size of struct nfgenmsg: nfgen_family, version, res_id.
const headerSize = 4

// attrsAt is where a message's attributes begin, counted from its nlmsghdr.
const attrsAt = unix.NLMSG_HDRLEN + headerSize

// encode returns the message about an object: msg is the distance from its
// NFT_MSG_NEW*.
func encode(o Object, msg uint16, flags netlink.HeaderFlags) (netlink.Message, error) {
	kind, family := o.kind()
	pass := o.identify
	if msg == newMsg {
		pass = o.define
	}
	attrs, err := nl.Encode(pass)
	return netlink.Message{
		Header: netlink.Header{Type: msgType(kind + msg), Flags: netlink.Request | flags},
		Data:   append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, attrs...),
	}, err
}

func msgType(msg uint16) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | msg)
}

var errShort = errors.New("message without a nfgenmsg header")

// decode reads the objects of messages.
func decode[T any](msgs []netlink.Message, read func(Family, *nl.Codec) []T) (all []T, err error) {
	for _, m := range msgs {
		if len(m.Data) < headerSize {
			return nil, errShort
		}
		err := nl.Decode(m.Data[headerSize:], func(c *nl.Codec) {
			all = append(all, read(Family(m.Data[0]), c)...)
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ask sends a request that changes nothing about an object, and returns the answers.
func (c *Conn) ask(o Object, flags netlink.HeaderFlags) ([]netlink.Message, error) {
	m, err := encode(o, getMsg, flags)
	if err != nil {
		return nil, err
	}
	answers, err := c.nl.Do(m.Header.Type, flags, m.Data)
	return answers, c.explain(err)
}

// explain returns ErrUnsupported in place of EINVAL if the kernel lacks nf_tables.
// nfnetlink returns EINVAL for a subsystem that it doesn't have: then every request
// fails so, even the one that has no arguments.
func (c *Conn) explain(err error) error {
	if errors.Is(err, unix.EINVAL) {
		if _, all := c.generation(); errors.Is(all, ErrUnsupported) {
			return all
		}
	}
	return err
}

// generation returns the number of the ruleset's last change (NFTA_GEN_ID), or 0
// if the kernel does not report it.
func (c *Conn) generation() (id uint32, err error) {
	answers, err := c.nl.Do(msgType(unix.NFT_MSG_GETGEN), 0, []byte{0, unix.NFNETLINK_V0, 0, 0})
	if errors.Is(err, unix.EINVAL) {
		return 0, unsupported("CONFIG_NF_TABLES", err)
	}
	_, derr := decode(answers, func(_ Family, c *nl.Codec) []uint32 {
		id = nl.Number(c, unix.NFTA_GEN_ID, id)
		return nil
	})
	if err = errors.Join(err, derr); err != nil {
		return 0, fmt.Errorf("generation of the ruleset: %w", err)
	}
	return id, nil
}

// Has reports whether an object of that family and name exists, at a cost that
// doesn't grow with their number. Its inside is not compared.
func (c *Conn) Has(o Object) (bool, error) {
	_, err := c.ask(o, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get %v: %w", o, err)
	}
	return true, nil
}

// list returns the objects that a dump finds.
func list[T any](c *Conn, o Object, read func(Family, *nl.Codec) []T) ([]T, error) {
	answers, err := c.ask(o, netlink.Dump)
	all, derr := decode(answers, read)
	if err = errors.Join(err, derr); err != nil {
		return nil, fmt.Errorf("list %v: %w", o, err)
	}
	return all, nil
}

// Chains lists the chains of all tables of a family. One of a device has a hook
// of another kind.
func (c *Conn) Chains(family Family) ([]Chain, error) {
	return list(c, Chain{Table: Table{Family: family}}, readChain)
}

// Rules lists the rules of a chain in their order, with their handles; without a
// name of a chain, those of all chains of the table. One that doesn't exist has
// none. Expressions that can't be decoded are each an [Other].
func (c *Conn) Rules(t Table, chain string) ([]Rule, error) {
	return list(c, allRules{Chain{Table: t, Name: chain}}, readRule)
}

// Elements lists the elements of a set, in no particular order. A set that
// doesn't exist is ENOENT.
func (c *Conn) Elements(s Set) ([]Element, error) {
	all, err := list(c, allElements{s}, readElements)
	for i := range all {
		all[i].Set = s
	}
	return all, err
}

// Find returns the elements that are at the places of others, each once and in their
// order. A set that doesn't exist has none. The cost grows with the number of places
// only.
func (c *Conn) Find(at []Element) (found []Element, err error) {
	var requests []netlink.Message
	var places []Element // of the requests
	asked := map[Element]bool{}
	for _, e := range at {
		if asked[e.Place()] {
			continue
		}
		asked[e.Place()] = true
		m, err := encode(Elements{e}, getMsg, 0)
		if err != nil {
			return nil, fmt.Errorf("get element of %v: %w", e.Set, err)
		}
		requests, places = append(requests, m), append(places, e)
	}
	i := -1
	for replies, err := range c.nl.Each(requests) {
		i++
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		elements, derr := decode(replies, readElements)
		if err = errors.Join(err, derr); err == nil && len(elements) != 1 {
			err = fmt.Errorf("the kernel returned %d", len(elements))
		}
		if err != nil {
			return nil, fmt.Errorf("get element of %v: %w", places[i].Set, c.explain(err))
		}
		elements[0].Set = places[i].Set
		found = append(found, elements[0])
	}
	return found, nil
}
