package nft

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

// ErrUnsupported is a kernel that lacks nf_tables or a part of it. The text
// names the CONFIG_ option. Such an error is not also the errno that reported it:
// ENOENT, say, must not be taken for an object that is absent.
var ErrUnsupported = errors.New("not supported by this kernel")

func unsupported(config string, err error) error {
	return fmt.Errorf("%s: %w (%v)", config, ErrUnsupported, err)
}

// refused is the error of an operation that the kernel refused.
func (o op) refused(err error) error {
	if o.verb == "add" || o.verb == "create" {
		if config := missing(o.object, err); config != "" {
			err = unsupported(config, err)
		}
	}
	return fmt.Errorf("%v: %w", o, err)
}

// missing returns the CONFIG_ options whose lack is the reason why an object
// was refused, if any. ENOENT means that a chain type or expression has no
// implementation if the kernel points at it (NLMSGERR_ATTR_OFFS). Older kernels
// such as 5.10 point at nothing then, but do point at a table, chain or set
// that is absent.
func missing(o Object, err error) string {
	at := 0
	if op := nl.Refused(err); op != nil {
		at = op.Offset
	}
	absent := errors.Is(err, unix.ENOENT) && at != attrsAt // where the table's name is
	switch o := o.(type) {
	case Table:
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			return "CONFIG_NF_TABLES_" + o.Family.option()
		}
	case Chain:
		if absent && o.Type == NAT {
			return "CONFIG_NFT_NAT"
		}
		if absent && o.Type != "" {
			return "CONFIG_NF_TABLES_" + o.Table.Family.option()
		}
	case Rule:
		if absent {
			return o.missing(at)
		}
	}
	return ""
}

// missing is that of the expression at an offset, or of all if it is 0.
func (r Rule) missing(at int) string {
	var configs []string
	for i, e := range r.Exprs {
		upTo := Rule{Table: r.Table, Chain: r.Chain, Exprs: r.Exprs[:i+1]}
		here := attrsAt + len(upTo.define()) - len(e.encode())
		if config := module(e, r.Table.Family); config != "" && (at == 0 || at == here) {
			configs = append(configs, config)
		}
	}
	return strings.Join(configs, " or ")
}

// module is the option that builds an expression which nf_tables itself does
// not have built in.
func module(e Expr, f Family) string {
	if e.Name == "meta" && f == Bridge { // nft_meta_get_init leaves all keys to nft_meta_bridge, if that is a module
		return "CONFIG_NFT_BRIDGE_META"
	}
	switch e.Name {
	case "bitwise", "cmp", "immediate", "lookup", "meta", "payload":
		return ""
	case "ct", "masq", "nat":
		return "CONFIG_NFT_" + strings.ToUpper(e.Name)
	case "fib":
		return "CONFIG_NFT_FIB_" + f.option()
	default:
		return "expression " + e.Name
	}
}
