// Package foreign deals with other people's firewalls. Their tables may drop packets
// from containers to the outside and the answers, with br_netfilter also those from one
// container to another, or queries to the DNS server at the gateway, and no rule in a table of our own can prevent that. They are only read,
// unless the configuration asks for accept rules (forwardAccept). No failure here
// fails a verb.
package foreign

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/advice"
	"flatnet/internal/nft"
	"flatnet/internal/nl"

	"golang.org/x/sys/unix"
)

// Accept inserts accept rules into the foreign chains that drop the network's packets,
// or warns of these chains if the network is without forwardAccept. It costs several
// dumps, so an ADD calls it only if the network's own rules are missing, and before it
// makes these: then a killed ADD leaves it to the next one.
func Accept(h *host.Host, s *model.Shared) {
	found, err := dropping(h, s, s.ForwardAccept)
	owned := errors.Is(err, unix.EPERM) // a table that only its owner may change (NFT_TABLE_F_OWNER)
	if owned {
		found, err = dropping(h, s, false)
	}
	if err != nil {
		h.Say(fmt.Errorf("other firewalls may block network %s: %w", s.Name, err))
	}
	h.Say(report(h, found, s, owned))
}

// Check reports, as a [model.ErrConflict], foreign chains that drop the network's
// packets. A network with forwardAccept and without attachments need not be checked:
// its next ADD calls Accept.
func Check(h *host.Host, s *model.Shared) error {
	found, _ := dropping(h, s, false)
	return report(h, found, s, false)
}

// Remove removes the network's accept rules from foreign chains, or warns.
func Remove(h *host.Host, network string) {
	err := eachChain(h, func(tx *host.Tx, ch nft.Chain) error {
		rules, err := tx.Rules(ch.Table, ch.Name)
		for _, r := range rules {
			if r.Comment == comment(network) {
				tx.Delete(r)
			}
		}
		return err
	})
	if err != nil {
		h.Say(fmt.Errorf("forwardAccept: rules of network %s may be left in foreign chains: %w", network, err))
	}
}

// eachChain runs a transaction for each foreign chain that may drop packets of
// containers. What can't be read or is refused is reported in the error, and the other
// chains have their transactions all the same.
func eachChain(h *host.Host, fill func(*host.Tx, nft.Chain) error) error {
	c, err := h.Rules()
	if err != nil {
		return nil // there are no chains
	}
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6, nft.Inet} {
		chains, cerr := c.Chains(family)
		err = errors.Join(err, cerr)
		for _, ch := range chains {
			if !ours(ch.Table.Name) && ch.Type == nft.Filter && (ch.Hook == nft.Forward || ch.Hook == nft.Input) {
				_, terr := h.Transact(func(tx *host.Tx) error { return fill(tx, ch) })
				err = errors.Join(err, terr)
			}
		}
	}
	return err
}

// ours reports whether flatnet has made a table of that name.
func ours(table string) bool {
	rest, ok := strings.CutPrefix(table, "flatnet")
	return ok && (rest == "" || rest[0] == '-' || rest[0] == '.')
}

// dropping returns the foreign chains that drop the network's packets, but for those
// into which it inserts accept rules, if it may.
func dropping(h *host.Host, s *model.Shared, mayInsert bool) (found []nft.Chain, err error) {
	err = eachChain(h, func(tx *host.Tx, ch nft.Chain) error {
		drops, err := drops(h, tx.Conn, ch, s)
		switch {
		case drops && mayInsert:
			tx.Insert(acceptRules(ch, s)...)
		case drops:
			found = append(found, ch)
		}
		return err
	})
	return slices.Compact(found), err // a transaction may have looked again
}

// drops reports whether a chain drops packets of the network that should get through,
// and neither the chain nor another one of its table mentions the network: then the
// table's owner has decided about them. Rules of our own in other chains don't count.
func drops(h *host.Host, c *nft.Conn, ch nft.Chain, s *model.Shared) (bool, error) {
	enters := func(sub model.Subnet) bool {
		return ch.Table.Family == nft.Inet || ch.Table.Family == nft.FamilyOf(sub.Addr())
	}
	wanted := map[nft.Hook]bool{nft.Forward: !s.Internal || bridged(h, ch, s), nft.Input: s.ServesDNS && s.IsGateway}
	if !wanted[ch.Hook] || !slices.ContainsFunc(s.Served, enters) {
		return false, nil
	}
	rules, err := c.Rules(ch.Table, ch.Name)
	if err != nil || !dropsRest(ch, rules) && !dropsSome(h, c, ch, s, rules) {
		return false, err
	}
	rules, err = c.Rules(ch.Table, "")
	mentioned := slices.ContainsFunc(rules, func(r nft.Rule) bool {
		return (r.Chain == ch.Name || r.Comment != comment(s.Name)) && mentions(r, s, ch.Hook)
	})
	return err == nil && !mentioned, err
}

// dropsSome reports whether a forward chain drops TCP or UDP from the network to the outside
// by rules that certainly match.
func dropsSome(h *host.Host, c *nft.Conn, ch nft.Chain, s *model.Shared, rules []nft.Rule) bool {
	if ch.Hook != nft.Forward || s.Internal || len(rules) == 0 {
		return false
	}
	subs := map[string][]nft.Rule{}
	for _, sub := range s.Served {
		family := nft.FamilyOf(sub.Addr())
		if ch.Table.Family != nft.Inet && ch.Table.Family != family {
			continue
		}
		uplink, _ := h.DefaultRouteLink(family == nft.IPv6) // without one, it is not known
		for _, protocol := range nft.DNSProtocols() {
			j := judge{packet: packet{sub, protocol, s.GatewayName(), uplink.Name}, subs: subs}
			j.rules = func(chain string) ([]nft.Rule, error) { return c.Rules(ch.Table, chain) }
			if j.walk(rules, 0) == dropped {
				return true
			}
		}
	}
	return false
}

// bridged reports whether a chain sees what the network's containers send to each
// other.
func bridged(h *host.Host, ch nft.Chain, s *model.Shared) bool {
	return !s.PortIsolated && h.Bridged(ch.Table.Family)
}

// dropsRest reports whether a chain drops packets that none of its rules accepts: by
// its policy or, in firewalld's manner, by a last rule without conditions. iptables-nft
// has REJECT by a target of xtables.
func dropsRest(ch nft.Chain, rules []nft.Rule) bool {
	if ch.Drop || len(rules) == 0 {
		return ch.Drop
	}
	last := slices.DeleteFunc(slices.Clone(rules[len(rules)-1].Exprs), func(e nft.Expr) bool {
		return e.Name == "counter" || e.Name == "log"
	})
	if len(last) == 0 {
		return false
	}
	rejects := last[0].Name == "reject" ||
		last[0].Name == "target" && bytes.Contains(last[0].Data, nl.Text(unix.NFTA_TARGET_NAME, "REJECT"))
	return rejects || last[0].Equal(nft.Verdict(nft.Drop, ""))
}

// mentions reports whether a rule names the network's interface, or one that begins
// like it (nft's "flatnet*"), or in the way of queries the port of DNS.
func mentions(r nft.Rule, s *model.Shared, hook nft.Hook) bool {
	in, out, port := nft.Meta(nft.MetaIifName, nft.Reg1), nft.Meta(nft.MetaOifName, nft.Reg1), nft.DstPort(nft.Reg1)
	name := nft.Name(s.GatewayName())
	for i := 1; i < len(r.Exprs); i++ {
		load, data := r.Exprs[i-1], r.Exprs[i].Compared()
		ofName := (load.Loads(in) || load.Loads(out)) && len(data) > 0 && bytes.HasPrefix(name, data)
		ofDNS := hook == nft.Input && load.Loads(port) && bytes.Equal(data, nft.BigEndian(nft.DNS))
		if ofName || ofDNS {
			return true
		}
	}
	return false
}

// report returns an error that names the chains, what they drop and what would accept
// it, unless there are none. The kernel has refused rules in them if they are owned.
func report(h *host.Host, found []nft.Chain, s *model.Shared, owned bool) error {
	if len(found) == 0 {
		return nil
	}
	var texts, remedies, commands []string
	for _, ch := range found {
		dropped := "what containers of network " + s.Name + " send to "
		switch {
		case ch.Hook == nft.Input:
			dropped = "the DNS queries of network " + s.Name
		case s.Internal:
			dropped += "each other (br_netfilter is on)"
		case bridged(h, ch, s):
			dropped += "the outside and to each other (br_netfilter is on)"
		default:
			dropped += "the outside"
		}
		texts = append(texts, fmt.Sprintf("%v drops %s", ch, dropped))
		if a := remedy(ch, s, owned); !slices.Contains(remedies, a) {
			remedies = append(remedies, a)
		}
		if c := repair(ch, s, owned); !slices.Contains(commands, c) {
			commands = append(commands, c)
		}
	}
	err := model.Errorf(model.ErrConflict, "%s, unless a rule accepts it (%s)", strings.Join(texts, "; "), strings.Join(remedies, "; "))
	return advice.Repair(err, advice.Firewalls, strings.Join(commands, "; "))
}

// remedy names what adds the rule that a chain lacks. firewalld owns its table, unless
// NftablesTableOwner of firewalld.conf is "no", and makes it anew with each reload.
func remedy(ch nft.Chain, s *model.Shared, owned bool) string {
	switch {
	case ch.Table.Name == "firewalld":
		text := "firewall-cmd --zone=trusted --add-interface=" + s.GatewayName()
		if s.GatewayName() != s.Bridge {
			text += " --add-interface=" + s.Bridge
		}
		return text + " adds one"
	case owned:
		return "only the program that owns the table can add one"
	case s.ForwardAccept:
		return "flatnet reload adds one"
	}
	return "forwardAccept would add one"
}

// repair returns a command that accepts the network's packets, until the chain's owner makes
// it anew.
func repair(ch nft.Chain, s *model.Shared, owned bool) string {
	text, command := strings.CutSuffix(remedy(ch, s, owned), " adds one")
	name := ch.Table.Family.String() + " " + ch.Table.Name + " " + ch.Name
	switch plain := strings.Trim(name+s.GatewayName(), identifier) == ""; {
	case command:
		return text
	case owned || !plain: // what nft would not read, or a shell would
		return "let the program that made the " + strings.TrimSpace(ch.String()) + " accept what " + s.GatewayName() + " sends"
	case ch.Hook == nft.Input:
		return fmt.Sprintf("nft 'insert rule %s iifname \"%s\" meta l4proto { tcp, udp } th dport %d accept'", name, s.GatewayName(), cmp.Or(s.DNSPort, nft.DNS))
	}
	return fmt.Sprintf("nft 'insert rule %s iifname \"%s\" accept; insert rule %s oifname \"%s\" accept'", name, s.GatewayName(), name, s.GatewayName())
}

// identifier has the characters of names that nft reads as they are, and what is between them.
const identifier = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. "

// acceptRules returns the rules that a foreign chain lacks. They have the form in
// which iptables-nft writes its own, so that it can show them.
func acceptRules(ch nft.Chain, s *model.Shared) []nft.Rule {
	r := nft.Ruleset{Chain: ch}
	in := nft.CompareName(nft.MetaIifName, nft.Equal, s.GatewayName())
	if ch.Hook == nft.Forward {
		if !s.Internal {
			out := nft.CompareName(nft.MetaOifName, nft.Equal, s.GatewayName())
			r.Append(comment(s.Name), nft.AcceptIf(out), nft.AcceptIf(in))
		}
		if s.Internal || s.GatewayName() != s.Bridge { // which bridged packets come from and leave by
			r.Append(comment(s.Name), nft.AcceptIf(nft.CompareName(nft.MetaIifName, nft.Equal, s.Bridge),
				nft.CompareName(nft.MetaOifName, nft.Equal, s.Bridge)))
		}
		return r.Rules
	}
	for _, protocol := range nft.DNSProtocols() {
		r.Append(comment(s.Name), nft.AcceptIf(in, nft.ToPort(protocol, cmp.Or(s.DNSPort, nft.DNS))))
	}
	return r.Rules
}

// comment is that of a network's rules in foreign chains.
func comment(network string) string { return "flatnet network " + network + ", forwardAccept" }
