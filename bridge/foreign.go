package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"flatnet/internal/nft"

	"golang.org/x/sys/unix"
)

// Other people's tables may drop what containers send to the outside and get
// from there, or what they ask the DNS server at the gateway, and no rule in a
// table of our own can help against that. They are only read, unless the
// configuration asks for an accept rule (forwardAccept).

// A blocker is a foreign base chain that drops what it does not know, and knows
// nothing of the network.
type blocker struct{ nft.Chain }

func (b blocker) String() string { return fmt.Sprintf("%v %s", b.Table, b.Name) }

// portDNS is that of DNS (RFC 1035, section 4.2).
const portDNS = 53

// ours says whether a table is one of flatnet's.
func ours(t nft.Table) bool {
	rest, ok := strings.CutPrefix(t.Name, "flatnet")
	return ok && (rest == "" || rest[0] == '-' || rest[0] == '.')
}

// foreignChains lists the chains of all foreign tables that packets of containers may pass.
func foreignChains(c *nft.Conn) (found []nft.Chain, err error) {
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6, nft.Inet} {
		all, err := c.Chains(family)
		if err != nil {
			return nil, err
		}
		for _, ch := range all {
			if !ours(ch.Table) {
				found = append(found, ch)
			}
		}
	}
	return found, nil
}

// filters says whether a chain may drop what containers send.
func filters(ch nft.Chain) bool {
	return ch.Type == nft.Filter && (ch.Hook == nft.Forward || ch.Hook == nft.Input)
}

// blockers finds what blocks the firewalls' network.
func blockers(c *nft.Conn, firewalls []Firewall) (found []blocker, err error) {
	chains, err := foreignChains(c)
	if err != nil {
		return nil, err
	}
	for _, ch := range chains {
		if !filters(ch) || !slices.ContainsFunc(firewalls, func(f Firewall) bool { return f.passes(ch) }) {
			continue
		}
		rules, err := c.Rules(ch.Table, ch.Name)
		if err != nil {
			return nil, err
		}
		if !drops(ch, rules) {
			continue
		}
		known, err := mentioned(c, chains, ch.Table, func(r nft.Rule) bool {
			return mentions(r, firewalls[0].Bridge) || ch.Hook == nft.Input && mentionsDNS(r)
		})
		if err != nil {
			return nil, err
		}
		if !known {
			found = append(found, blocker{ch})
		}
	}
	return found, nil
}

// mentioned says whether any rule of a table is about something.
func mentioned(c *nft.Conn, chains []nft.Chain, t nft.Table, about func(nft.Rule) bool) (bool, error) {
	for _, ch := range chains {
		if ch.Table != t {
			continue
		}
		rules, err := c.Rules(t, ch.Name)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(rules, about) {
			return true, nil
		}
	}
	return false, nil
}

// passes says whether packets from the subnet pass a chain, and are to.
func (f Firewall) passes(ch nft.Chain) bool {
	wanted := !f.Internal
	if ch.Hook == nft.Input {
		wanted = f.ServesDNS
	}
	return wanted && (ch.Table.Family == nft.Inet || ch.Table.Family == familyOf(f.Subnet.Addr()))
}

// drops says whether the chain drops what no rule has accepted: by its policy
// or, as firewalld has it, by a last rule without conditions.
func drops(ch nft.Chain, rules []nft.Rule) bool {
	return ch.Drop || len(rules) > 0 && unconditional(rules[len(rules)-1])
}

func unconditional(r nft.Rule) bool {
	for i, e := range r.Exprs {
		switch e := e.(type) {
		case nft.Other:
			if e.Name == "reject" {
				return true
			}
			if e.Name != "counter" && e.Name != "log" {
				return false
			}
		case nft.Verdict:
			return i == len(r.Exprs)-1 && e.Code == nft.Drop
		default:
			return false
		}
	}
	return false
}

// mentions says whether a rule is about an interface of that name, or one that
// begins like it (nft's "flatnet*").
func mentions(r nft.Rule, name string) bool {
	for i, e := range r.Exprs {
		cmp, ok := e.(nft.Cmp)
		if !ok || i == 0 || len(cmp.Data) == 0 {
			continue
		}
		meta, ok := r.Exprs[i-1].(nft.Meta)
		if ok && (meta.Key == nft.MetaIifName || meta.Key == nft.MetaOifName) && bytes.HasPrefix(nft.Name(name), cmp.Data) {
			return true
		}
	}
	return false
}

// mentionsDNS says whether a rule is about the port.
func mentionsDNS(r nft.Rule) bool {
	for i, e := range r.Exprs {
		cmp, ok := e.(nft.Cmp)
		if !ok || i == 0 || !bytes.Equal(cmp.Data, bigEndian(portDNS)) {
			continue
		}
		if port, ok := r.Exprs[i-1].(nft.Payload); ok && port == dstPort(port.Dst) {
			return true
		}
	}
	return false
}

func (f Firewall) comment() string {
	if f.ForwardAccept {
		return "flatnet network " + f.Network + ", forwardAccept"
	}
	return "flatnet network " + f.Network
}

// unblock inserts accept rules into the chains that block the network, or says
// which do.
func (h *Host) unblock(c *nft.Conn, firewalls []Firewall) error {
	f := firewalls[0]
	found, err := blockers(c, firewalls)
	if err != nil || len(found) == 0 {
		return err
	}
	if !f.ForwardAccept {
		h.records.say(blocked(found, f))
		return nil
	}
	var b nft.Batch
	for _, ch := range found {
		b.Insert(f.accept(ch)...)
	}
	return c.Commit(&b)
}

// blocked names the chains by what they drop, and says what helps.
func blocked(found []blocker, f Firewall) error {
	advice := "forwardAccept would add one"
	if f.ForwardAccept {
		advice = "flatnet reload adds one"
	}
	var texts []string
	for _, drop := range []struct {
		hook nft.Hook
		what string
	}{
		{nft.Forward, "what containers of network " + f.Network + " send to the outside"},
		{nft.Input, "the DNS queries of network " + f.Network},
	} {
		var chains []string
		for _, ch := range found {
			if ch.Hook == drop.hook {
				chains = append(chains, ch.String())
			}
		}
		switch len(chains) {
		case 0:
		case 1:
			texts = append(texts, chains[0]+" drops "+drop.what)
		default:
			texts = append(texts, strings.Join(chains, ", ")+" drop "+drop.what)
		}
	}
	return fmt.Errorf("%s, unless a rule accepts it (%s)", strings.Join(texts, "; "), advice)
}

// accept is, so that iptables-nft can show it, what that writes itself.
func (f Firewall) accept(ch blocker) []nft.Rule {
	matches := [][]nft.Expr{ifName(nft.MetaOifName, nft.Equal, f.Bridge), ifName(nft.MetaIifName, nft.Equal, f.Bridge)}
	if ch.Hook == nft.Input {
		matches = nil
		for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			matches = append(matches, slices.Concat(ifName(nft.MetaIifName, nft.Equal, f.Bridge), []nft.Expr{
				nft.Meta{Key: nft.MetaL4Proto, Dst: nft.Reg1}, nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: []byte{protocol}},
				dstPort(nft.Reg1), nft.Cmp{Src: nft.Reg1, Op: nft.Equal, Data: bigEndian(portDNS)},
			}))
		}
	}
	var rules []nft.Rule
	for _, m := range matches {
		rules = append(rules, nft.Rule{
			Table: ch.Table, Chain: ch.Name, Comment: f.comment(), Exprs: rule(nft.Verdict{Code: nft.Accept}, m),
		})
	}
	return rules
}

// block takes the network's accept rules out of foreign chains.
func block(c *nft.Conn, b *nft.Batch, network string) error {
	chains, err := foreignChains(c)
	for _, ch := range chains {
		if !filters(ch) {
			continue
		}
		rules, rerr := c.Rules(ch.Table, ch.Name)
		err = errors.Join(err, rerr)
		for _, r := range rules {
			if r.Comment == (Firewall{Network: network, ForwardAccept: true}).comment() {
				b.Delete(r)
			}
		}
	}
	return err
}

// blocked reports foreign chains that block the network, unless the next ADD
// will take care of them.
func (h *Host) blocked(n Network, alloc Allocator) error {
	if n.ForwardAccept {
		if owners, err := h.attached(n.Name, alloc); err != nil || len(owners) == 0 {
			return err
		}
	}
	var firewalls []Firewall
	for _, p := range n.Subnets {
		firewalls = append(firewalls, n.firewall(p.Masked(), p.Addr()))
	}
	err := h.withNFT(len(firewalls) > 0, func(c *nft.Conn) error {
		found, err := blockers(c, firewalls)
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("%w: %w", blocked(found, firewalls[0]), ErrConflict)
		}
		return err
	})
	if errors.Is(err, ErrUnsupported) {
		return nil // and so nothing can block
	}
	return err
}
