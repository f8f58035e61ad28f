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

// foreignChains lists the chains of all foreign tables that packets of containers
// may pass. Like everything that is read of such tables it is advice: what can't
// be read is reported in unread beside the rest, and fails no verb.
func foreignChains(c *nft.Conn) (found []nft.Chain, unread error) {
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6, nft.Inet} {
		all, err := c.Chains(family)
		unread = errors.Join(unread, err)
		for _, ch := range all {
			if !ours(ch.Table) {
				found = append(found, ch)
			}
		}
	}
	return found, unread
}

// filters says whether a chain may drop what containers send.
func filters(ch nft.Chain) bool {
	return ch.Type == nft.Filter && (ch.Hook == nft.Forward || ch.Hook == nft.Input)
}

// blockers finds what blocks the firewalls' network. A chain is not among them
// if its table can't be read, which unread reports.
func blockers(c *nft.Conn, firewalls []Firewall) (found []blocker, unread error) {
	chains, unread := foreignChains(c)
	for _, ch := range chains {
		if !filters(ch) || !slices.ContainsFunc(firewalls, func(f Firewall) bool { return f.passes(ch) }) {
			continue
		}
		rules, err := c.Rules(ch.Table, ch.Name)
		if err == nil && !drops(ch, rules) {
			continue
		}
		if err == nil {
			rules, err = c.Rules(ch.Table, "")
		}
		unread = errors.Join(unread, err)
		if err == nil && !slices.ContainsFunc(rules, func(r nft.Rule) bool {
			return mentions(r, firewalls[0].Bridge) || ch.Hook == nft.Input && mentionsDNS(r)
		}) {
			found = append(found, blocker{ch})
		}
	}
	return found, unread
}

// passes says whether packets from the subnet pass a chain, and are to.
func (f Firewall) passes(ch nft.Chain) bool {
	wanted := !f.Internal
	if ch.Hook == nft.Input {
		wanted = f.ServesDNS
	}
	return wanted && f.Subnet.IsValid() && (ch.Table.Family == nft.Inet || ch.Table.Family == familyOf(f.Subnet.Addr()))
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

// comment is that of the network's own rules. It names what the rules
// themselves don't show, so that a change is seen.
func (f Firewall) comment() string {
	comment := "flatnet network " + f.Network
	if f.ForwardAccept {
		comment = f.acceptComment()
	}
	if f.ForwardAccept && f.ServesDNS {
		comment += ", dns"
	}
	return comment
}

// acceptComment is that of the network's rules in foreign chains.
func (f Firewall) acceptComment() string { return "flatnet network " + f.Network + ", forwardAccept" }

// unblock inserts accept rules into the chains that block the network, or warns
// of them. It fails no ADD: the chains are others'.
func (h *Host) unblock(c *nft.Conn, firewalls []Firewall) {
	f := firewalls[0]
	found, unread := blockers(c, firewalls)
	if unread != nil {
		h.records.say(fmt.Errorf("can't find out whether other firewalls block network %s: %w", f.Network, unread))
	}
	if len(found) == 0 {
		return
	}
	if !f.ForwardAccept {
		h.records.say(blocked(found, f))
		return
	}
	var tables []nft.Table
	for _, ch := range found {
		if !slices.Contains(tables, ch.Table) {
			tables = append(tables, ch.Table)
		}
	}
	for _, t := range tables { // one may refuse what another takes
		err := c.Transact(func(b *nft.Batch) error {
			found, _ := blockers(c, firewalls)
			for _, ch := range found {
				if ch.Table == t {
					b.Insert(f.accept(ch)...)
				}
			}
			return nil
		})
		if err != nil {
			h.records.say(fmt.Errorf("forwardAccept: %w", err))
		}
	}
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
			matches = append(matches, slices.Concat(ifName(nft.MetaIifName, nft.Equal, f.Bridge), toDNS(protocol)))
		}
	}
	var rules []nft.Rule
	for _, m := range matches {
		rules = append(rules, nft.Rule{
			Table: ch.Table, Chain: ch.Name, Comment: f.acceptComment(), Exprs: accept(m),
		})
	}
	return rules
}

// block takes the network's accept rules out of foreign chains, or warns.
func (h *Host) block(c *nft.Conn, network string) {
	var unread error
	err := c.Transact(func(b *nft.Batch) error {
		var chains []nft.Chain
		chains, unread = foreignChains(c)
		for _, ch := range chains {
			if !filters(ch) {
				continue
			}
			rules, err := c.Rules(ch.Table, ch.Name)
			unread = errors.Join(unread, err)
			for _, r := range rules {
				if r.Comment == (Firewall{Network: network}).acceptComment() {
					b.Delete(r)
				}
			}
		}
		return nil
	})
	if err = errors.Join(err, unread); err != nil {
		h.records.say(fmt.Errorf("forwardAccept: rules of network %s may be left in foreign chains: %w", network, err))
	}
}

// blocked reports foreign chains that block the network, unless the next ADD
// will take care of them.
func (h *Host) blocked(n Network, alloc Allocator) error {
	if n.ForwardAccept {
		if owners, err := h.attached(n, alloc); err != nil || len(owners) == 0 {
			return err
		}
	}
	var firewalls []Firewall
	for _, p := range n.Subnets {
		firewalls = append(firewalls, n.firewall(p.Prefix, p.Gateway))
	}
	err := h.withNFT(len(firewalls) > 0, func(c *nft.Conn) error {
		found, _ := blockers(c, firewalls)
		if len(found) == 0 {
			return nil
		}
		return fmt.Errorf("%w: %w", blocked(found, firewalls[0]), ErrConflict)
	})
	if errors.Is(err, ErrUnsupported) {
		return nil // and so nothing can block
	}
	return err
}
