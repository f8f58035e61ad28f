package nft

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

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
	return list(c, Elements{Set: s}, readElements)
}

// Find finds elements by their keys. The result has an entry for each key
// that the set has an element for. A set that doesn't exist has none. The cost
// grows with the number of keys only.
func (c *Conn) Find(s Set, keys [][]byte) (map[string]Element, error) {
	requests := make([]netlink.Message, len(keys))
	for i, key := range keys {
		var err error
		if requests[i], err = encode(Elements{s, []Element{{Key: key}}}, getMsg, 0); err != nil {
			return nil, fmt.Errorf("get element of %v: %w", s, err)
		}
	}
	found := map[string]Element{}
	for replies, err := range c.nl.Each(requests) {
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		elements, derr := decode(replies, readElements)
		if err = errors.Join(err, derr); err == nil && len(elements) != 1 {
			err = fmt.Errorf("the kernel returned %d", len(elements))
		}
		if err != nil {
			return nil, fmt.Errorf("get element of %v: %w", s, c.explain(err))
		}
		found[string(elements[0].Key)] = elements[0]
	}
	return found, nil
}
