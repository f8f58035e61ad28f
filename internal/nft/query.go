package nft

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// An exchange is [nl.Conn.Dump], or get: one request and its answers.
type exchange func(netlink.HeaderType, []byte) ([]netlink.Message, error)

// ask sends one request that changes nothing and returns the answers.
func (c *Conn) ask(r request, do exchange) ([]netlink.Message, error) {
	m, err := r.encode()
	if err != nil {
		return nil, err
	}
	answers, err := do(m.Header.Type, m.Data)
	return answers, c.explain(err)
}

// explain finds out what the kernel lacks. nfnetlink says EINVAL for a subsystem
// that it doesn't have: then every request fails so, even the one that has no
// arguments.
func (c *Conn) explain(err error) error {
	if errors.Is(err, unix.EINVAL) {
		g, _ := getGeneration().encode() // nothing that could fail
		if _, all := c.get(g.Header.Type, g.Data); errors.Is(all, unix.EINVAL) {
			return unsupported("CONFIG_NF_TABLES", err)
		}
	}
	return err
}

func (c *Conn) get(typ netlink.HeaderType, data []byte) ([]netlink.Message, error) {
	return c.nl.Do(typ, 0, data)
}

// Has says whether an object of that family and name exists, at a cost that
// doesn't grow with their number. How it looks inside is not compared.
func (c *Conn) Has(o Container) (bool, error) {
	_, err := c.ask(o.get(), c.get)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get %v: %w", o, err)
	}
	return true, nil
}

// Rules lists the rules of a chain in their order, with their handles. A
// chain that doesn't exist has none. A rule that can't be decoded consists of
// one [Other] without a name.
func (c *Conn) Rules(t Table, chain string) ([]Rule, error) {
	ch := Chain{Table: t, Name: chain}
	return c.listRules(ch, ch.rules(unix.NFT_MSG_GETRULE))
}

// AllRules is [Conn.Rules] for all chains of a table; one that doesn't exist
// has none.
func (c *Conn) AllRules(t Table) ([]Rule, error) {
	r := t.flush()
	r.msg = unix.NFT_MSG_GETRULE
	return c.listRules(t, r)
}

func (c *Conn) listRules(of Object, r request) ([]Rule, error) {
	answers, err := c.ask(r, c.nl.Dump)
	if err != nil {
		return nil, fmt.Errorf("list rules of %v: %w", of, err)
	}
	var rules []Rule
	for _, m := range answers {
		rule, err := decodeRule(m)
		if err != nil {
			rule.Exprs = []Expr{Other{}}
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// Elements lists the elements of a set, in no particular order. A set that
// doesn't exist is ENOENT.
func (c *Conn) Elements(s Set) ([]Element, error) {
	answers, err := c.ask(s.elements(unix.NFT_MSG_GETSETELEM, nil), c.nl.Dump)
	var all []Element
	for _, m := range answers {
		part, derr := decodeElements(m)
		all, err = append(all, part...), errors.Join(err, derr)
	}
	if err != nil {
		return nil, fmt.Errorf("list elements of %v: %w", s, err)
	}
	return all, nil
}

// Element finds an element by its key, at a cost that doesn't grow with their
// number. A set that doesn't exist has none.
func (c *Conn) Element(s Set, key []byte) (e Element, ok bool, err error) {
	found, err := c.Find(s, [][]byte{key})
	e, ok = found[string(key)]
	return e, ok, err
}

// Find finds elements by their keys. What it returns has an entry for each key
// that the set has an element for. A set that doesn't exist has none. The cost
// grows with the number of keys only.
func (c *Conn) Find(s Set, keys [][]byte) (map[string]Element, error) {
	requests := make([]netlink.Message, len(keys))
	for i, key := range keys {
		m, err := s.elements(unix.NFT_MSG_GETSETELEM, []Element{{Key: key}}).encode()
		if err != nil {
			return nil, fmt.Errorf("get element of %v: %w", s, err)
		}
		requests[i] = m
	}
	found := map[string]Element{}
	err := c.nl.Each(requests, func(_ int, reply netlink.Message, err error) error {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		elements, err := decodeElements(reply)
		if err == nil && len(elements) != 1 {
			err = fmt.Errorf("the kernel gave %d", len(elements))
		}
		if err == nil {
			found[string(elements[0].Key)] = elements[0]
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get element of %v: %w", s, c.explain(err))
	}
	return found, nil
}
