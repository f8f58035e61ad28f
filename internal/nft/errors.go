package nft

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrUnsupported is a kernel that lacks nf_tables or a part of it. The text
// names the CONFIG_ option. Such an error is not also the errno that told it:
// ENOENT, say, must not be taken for an object that is absent.
var ErrUnsupported = errors.New("not supported by this kernel")

func unsupported(config string, err error) error {
	return fmt.Errorf("%s: %w (%v)", config, ErrUnsupported, err)
}

// batchError is that of a batch that was refused as a whole: nfnetlink has no
// nf_tables (EOPNOTSUPP), the caller may not (EPERM), or the commit failed.
func batchError(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return unsupported("CONFIG_NF_TABLES", err)
	}
	return fmt.Errorf("nf_tables batch: %w", err)
}

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
	var at int
	var op *netlink.OpError
	if errors.As(err, &op) {
		at = op.Offset
	}
	switch o := o.(type) {
	case Table:
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			return "CONFIG_NF_TABLES_" + o.Family.config()
		}
	case Chain:
		if errors.Is(err, unix.ENOENT) && o.Type != "" && (at == 0 || at == offset(o.path)) {
			if o.Type == NAT {
				return "CONFIG_NFT_NAT"
			}
			return "CONFIG_NF_TABLES_" + o.Table.Family.config()
		}
	case Rule:
		if errors.Is(err, unix.ENOENT) {
			return o.missing(at)
		}
	}
	return ""
}

func (r Rule) missing(at int) string {
	var configs []string
	for i, e := range r.Exprs {
		before := Rule{Table: r.Table, Chain: r.Chain, Exprs: r.Exprs[:i]}
		if config := module(e, r.Table.Family); config != "" && (at == 0 || at == offset(func(c *codec) { before.pass(c) })) {
			configs = append(configs, config)
		}
	}
	return strings.Join(configs, " or ")
}

// offset is where the attribute after those of pass begins.
func offset(pass func(*codec)) int {
	b, _ := encode(pass) // has been encoded before, as part of the whole
	return attrsAt + len(b)
}

// module is the option that builds an expression which nf_tables itself does
// not have built in.
func module(e Expr, f Family) string {
	switch e := e.(type) {
	case Meta:
		if f == Bridge { // nft_meta_get_init leaves all keys to nft_meta_bridge, if that is a module
			return "CONFIG_NFT_BRIDGE_META"
		}
	case Translate:
		return "CONFIG_NFT_NAT"
	case Masquerade:
		return "CONFIG_NFT_MASQ"
	case Ct:
		return "CONFIG_NFT_CT"
	case Fib:
		return "CONFIG_NFT_FIB_" + f.config()
	case Other:
		return "expression " + e.Name
	}
	return ""
}

func (f Family) config() string {
	switch f {
	case IPv4:
		return "IPV4"
	case IPv6:
		return "IPV6"
	}
	return strings.ToUpper(f.String())
}
