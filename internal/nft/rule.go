package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

// A Rule is a series of expressions in a chain: each passes the packet on to
// the next, or ends the rule.
type Rule struct {
	Table   Table
	Chain   string
	Exprs   []Expr
	Comment string // up to 253 bytes, as nft shows it
	Handle  uint64 // given by the kernel; Delete goes by it
}

func (r Rule) String() string {
	s := "rule " + r.Table.name() + " " + r.Chain
	if r.Comment != "" {
		s += ` "` + r.Comment + `"`
	}
	return s
}

func (r Rule) kind() (uint16, Family) { return unix.NFT_MSG_NEWRULE, r.Table.Family }

var errHandle = errors.New("no handle")

func (r Rule) identify(c *nl.Codec) {
	if r.Handle == 0 {
		c.Fail(errHandle) // the kernel would take all rules of the chain
	}
	allRules{Chain{Table: r.Table, Name: r.Chain}}.identify(c)
	r.handle(c)
}

func (r Rule) define(c *nl.Codec) { r.pass(c) }

// pass leaves the table's family out, which is in the header.
func (r Rule) pass(c *nl.Codec) Rule {
	r.Table.Name = c.Text(unix.NFTA_RULE_TABLE, r.Table.Name)
	r.Chain = c.Text(unix.NFTA_RULE_CHAIN, r.Chain)
	if c.Reading() {
		r.Handle = r.handle(c)
	}
	r.Exprs = nl.List(c, unix.NFTA_RULE_EXPRESSIONS, unix.NFTA_LIST_ELEM, r.Exprs, passExpr)
	r.Comment = comment(c, unix.NFTA_RULE_USERDATA, r.Comment)
	return r
}

func (r Rule) handle(c *nl.Codec) uint64 {
	return binary.BigEndian.Uint64(c.Fixed(unix.NFTA_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, r.Handle)))
}

func readRule(family Family, c *nl.Codec) []Rule {
	return []Rule{Rule{Table: Table{Family: family}}.pass(c)}
}

// Equal reports whether two rules do the same and have the same comment. Handles
// don't count.
func (r Rule) Equal(o Rule) bool {
	a, err := encode(r, newMsg, 0)
	b, err2 := encode(o, newMsg, 0)
	return err == nil && err2 == nil && bytes.Equal(a.Data, b.Data)
}

// allRules are the rules of a chain, or without its name of a table.
type allRules struct{ Chain }

func (r allRules) kind() (uint16, Family) { return unix.NFT_MSG_NEWRULE, r.Table.Family }

func (r allRules) identify(c *nl.Codec) {
	c.Text(unix.NFTA_RULE_TABLE, r.Table.Name)
	c.Text(unix.NFTA_RULE_CHAIN, r.Name)
}

const (
	// userDataSize is NFT_USERDATA_MAXLEN, which the kernel enforces.
	userDataSize = 256
	// commentTag is the type of a comment in nft's own user data, which is a
	// series of {type, length, value}: NFTNL_UDATA_RULE_COMMENT and
	// NFTNL_UDATA_SET_ELEM_COMMENT of libnftnl's udata.h.
	commentTag = 0
)

// comment passes over user data that contains a comment as nft writes and shows
// it. An empty one is left out. Other programs keep what they like there: user
// data of another form has no comment.
func comment(c *nl.Codec, typ uint16, s string) string {
	if c.Reading() {
		return commentIn(c.Bytes(typ, nil))
	}
	if len(s) > userDataSize-3 {
		c.Fail(fmt.Errorf("comment of %d bytes is too long: %.20q", len(s), s))
	} else if s != "" {
		c.Bytes(typ, append(append([]byte{commentTag, byte(len(s) + 1)}, s...), 0))
	}
	return s
}

func commentIn(userData []byte) string {
	for b := userData; len(b) >= 2; b = b[2+int(b[1]):] {
		end := 2 + int(b[1])
		if end > len(b) {
			break
		}
		if b[0] == commentTag && end > 2 {
			return string(b[2 : end-1])
		}
	}
	return ""
}
