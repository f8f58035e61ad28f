package nft

import (
	"bytes"
	"errors"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Rule is a series of expressions in a chain: each passes the packet on to
// the next, or ends the rule.
type Rule struct {
	Table   Table
	Chain   string
	Exprs   []Expr
	Comment string // up to 253 bytes, as nft shows it
	Handle  uint64 // given by the kernel; what Delete goes by
}

func (r Rule) String() string {
	s := "rule " + r.Table.name() + " " + r.Chain
	if r.Comment != "" {
		s += ` "` + r.Comment + `"`
	}
	return s
}

// pass leaves the table's family out, which is in the header.
func (r Rule) pass(c *codec) Rule {
	r.Table.Name = c.text(unix.NFTA_RULE_TABLE, r.Table.Name)
	r.Chain = c.text(unix.NFTA_RULE_CHAIN, r.Chain)
	r.Handle = c.long(unix.NFTA_RULE_HANDLE, r.Handle)
	r.Exprs = list(c, unix.NFTA_RULE_EXPRESSIONS, r.Exprs, passExpr)
	r.Comment = c.comment(unix.NFTA_RULE_USERDATA, r.Comment)
	return r
}

// create appends the rule to its chain.
func (r Rule) create() []request {
	r.Handle = 0
	return []request{{unix.NFT_MSG_NEWRULE, netlink.Append, r.Table.Family, func(c *codec) { r.pass(c) }}}
}

var errHandle = errors.New("no handle")

func (r Rule) remove() []request {
	del := Chain{Table: r.Table, Name: r.Chain}.rules(unix.NFT_MSG_DELRULE)
	path := del.pass
	del.pass = func(c *codec) {
		if path(c); r.Handle == 0 {
			c.fail(errHandle) // the kernel would take all rules of the chain
		}
		c.long(unix.NFTA_RULE_HANDLE, r.Handle)
	}
	return []request{del}
}

// rules is a request about all rules of the chain.
func (ch Chain) rules(msg uint16) request {
	return request{msg, 0, ch.Table.Family, func(c *codec) {
		c.text(unix.NFTA_RULE_TABLE, ch.Table.Name)
		c.text(unix.NFTA_RULE_CHAIN, ch.Name)
	}}
}

// Equal says that two rules do the same and have the same comment. Handles
// don't count.
func (r Rule) Equal(o Rule) bool {
	r.Handle, o.Handle = 0, 0
	a, err := encode(func(c *codec) { r.pass(c) })
	b, err2 := encode(func(c *codec) { o.pass(c) })
	return err == nil && err2 == nil && r.Table.Family == o.Table.Family && bytes.Equal(a, b)
}

func decodeRule(m netlink.Message) (Rule, error) {
	var r Rule
	family, err := decodeMessage(m, func(c *codec) { r = r.pass(c) })
	r.Table.Family = family
	return r, err
}
