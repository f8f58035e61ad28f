package nft

import "golang.org/x/sys/unix"

// An Expr is an expression of a rule. The kernel gives rules back with the
// registers under other names (see [Reg32]), with defaults spelled out and
// with what follows from other attributes; what is read here is as it was
// written, so that it can be compared. An expression that has more to it than
// its type here is read as an [Other].
type Expr interface {
	expr() string // NFTA_EXPR_NAME
	pass(*codec) Expr
}

// An Other is an expression that this package can't express.
type Other struct {
	Name string
	Data []byte // the inside of NFTA_EXPR_DATA
}

func (o Other) expr() string     { return o.Name }
func (o Other) pass(*codec) Expr { return o }

func blank(name string) Expr {
	for _, e := range []Expr{
		Meta{}, Payload{}, Immediate{}, Ct{}, Fib{}, Cmp{}, Bitwise{}, Lookup{}, Translate{}, Masquerade{},
	} {
		if e.expr() == name {
			return e
		}
	}
	return Other{Name: name}
}

func passExpr(c *codec, e Expr) Expr {
	if c.w != nil {
		c.text(unix.NFTA_EXPR_NAME, e.expr())
		if o, ok := e.(Other); ok {
			c.octets(unix.NFTA_EXPR_DATA, o.Data)
		} else {
			c.nest(unix.NFTA_EXPR_DATA, func(n *codec) { e.pass(n) })
		}
		return e
	}
	e = blank(c.text(unix.NFTA_EXPR_NAME, ""))
	data := c.octets(unix.NFTA_EXPR_DATA, nil)
	known := true
	err := decode(data, func(n *codec) {
		e = e.pass(n)
		known = n.rest()
	})
	if _, other := e.(Other); other || err != nil || !known {
		return Other{e.expr(), data}
	}
	return e
}

// rest says that no attribute is left that has a meaning: one that is zero is
// a default that this or a newer kernel spells out.
func (c *codec) rest() bool {
	for _, a := range c.r {
		for _, x := range a.Data {
			if x != 0 {
				return false
			}
		}
	}
	return true
}
