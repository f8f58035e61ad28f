package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"

	"flatnet/internal/nl"
)

// fake is a kernel that gives each answer in a datagram of its own, as
// nfnetlink does.
func fake(t *testing.T, serve func(reqs []netlink.Message) []netlink.Message) *Conn {
	t.Helper()
	var queue []netlink.Message
	return &Conn{nl.New(nltest.Dial(func(reqs []netlink.Message) ([]netlink.Message, error) {
		if reqs != nil {
			queue = append(queue, serve(reqs)...)
			return nil, nil
		}
		if len(queue) == 0 {
			return nil, unix.EAGAIN // what would wait until the deadline
		}
		m := queue[0]
		queue = queue[1:]
		return []netlink.Message{m}, nil
	}))}
}

// answer is a NLMSG_ERROR for a request, with NLMSGERR_ATTR_OFFS unless at is 0.
func answer(req netlink.Message, errno unix.Errno, at int) netlink.Message {
	m := netlink.Message{Header: req.Header}
	m.Header.Type, m.Header.Flags = netlink.Error, netlink.Capped
	m.Data = append(binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno))), make([]byte, unix.NLMSG_HDRLEN)...)
	if at != 0 {
		m.Header.Flags |= netlink.AcknowledgeTLVs
		m.Data = append(m.Data, 8, 0, unix.NLMSGERR_ATTR_OFFS, 0)
		m.Data = binary.NativeEndian.AppendUint32(m.Data, uint32(at))
	}
	return m
}

// batchOf is a batch of three operations.
func batchOf() *Batch {
	var b Batch
	b.Add(ip)
	b.Create(own)
	b.Add(ports)
	return &b
}

func TestOneAcknowledgementPerBatch(t *testing.T) {
	var got []netlink.Header
	c := fake(t, func(reqs []netlink.Message) []netlink.Message {
		for _, r := range reqs {
			got = append(got, netlink.Header{Type: r.Header.Type, Flags: r.Header.Flags})
		}
		return []netlink.Message{answer(reqs[3], 0, 0)}
	})
	if err := c.Commit(batchOf()); err != nil {
		t.Fatal(err)
	}
	want := []netlink.Header{
		{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request},
		{Type: msgType(unix.NFT_MSG_NEWTABLE), Flags: netlink.Request | netlink.Create | netlink.Append},
		{Type: msgType(unix.NFT_MSG_NEWCHAIN), Flags: netlink.Request | netlink.Create | netlink.Excl},
		{Type: msgType(unix.NFT_MSG_NEWSET), Flags: netlink.Request | netlink.Create | netlink.Append | netlink.Acknowledge},
		{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestErrorsOfABatch(t *testing.T) {
	tests := []struct {
		name  string
		serve func(r []netlink.Message) []netlink.Message
		is    error
		not   error
		text  string
	}{
		{"the last is refused", func(r []netlink.Message) []netlink.Message {
			return []netlink.Message{answer(r[3], unix.EEXIST, 0)}
		}, unix.EEXIST, ErrUnsupported, "add map ip flatnet ports: file exists"},
		{"one is refused", func(r []netlink.Message) []netlink.Message {
			return []netlink.Message{answer(r[2], unix.EEXIST, 0), answer(r[3], 0, 0)}
		}, unix.EEXIST, ErrUnsupported, "create chain ip flatnet masq-x: file exists"},
		{"the first of several is the cause", func(r []netlink.Message) []netlink.Message {
			return []netlink.Message{answer(r[1], unix.EOPNOTSUPP, 0), answer(r[2], unix.ENOENT, 20), answer(r[3], unix.ENOENT, 20)}
		}, ErrUnsupported, unix.EOPNOTSUPP, "add table ip flatnet: CONFIG_NF_TABLES_IPV4: not supported by this kernel (operation not supported)"},
		{"no nf_tables", func(r []netlink.Message) []netlink.Message {
			return []netlink.Message{answer(r[0], unix.EOPNOTSUPP, 0)}
		}, ErrUnsupported, unix.EOPNOTSUPP, "CONFIG_NF_TABLES: not supported by this kernel (operation not supported)"},
		{"no permission", func(r []netlink.Message) []netlink.Message {
			return []netlink.Message{answer(r[0], unix.EPERM, 0)}
		}, unix.EPERM, ErrUnsupported, "nf_tables batch: operation not permitted"},
		{"the commit fails", func(r []netlink.Message) []netlink.Message {
			return []netlink.Message{answer(r[0], unix.ENOMEM, 0), answer(r[3], 0, 0)}
		}, unix.ENOMEM, ErrUnsupported, "nf_tables batch: cannot allocate memory"},
		{"an answer to something else", func(r []netlink.Message) []netlink.Message {
			return []netlink.Message{answer(netlink.Message{Header: netlink.Header{Sequence: r[4].Header.Sequence + 7}}, unix.EIO, 0)}
		}, unix.EIO, ErrUnsupported, "nf_tables batch: input/output error"},
		{"no answer", func(r []netlink.Message) []netlink.Message { return nil },
			unix.EAGAIN, ErrUnsupported, "nf_tables batch: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := fake(t, func(reqs []netlink.Message) []netlink.Message {
				if len(reqs) == 1 { // of Has
					return []netlink.Message{answer(reqs[0], unix.EINVAL, 0)}
				}
				return tt.serve(reqs)
			})
			err := c.Commit(batchOf())
			if !errors.Is(err, tt.is) || errors.Is(err, tt.not) || !strings.HasPrefix(err.Error(), tt.text) {
				t.Errorf("got %q, want %q", err, tt.text)
			}
			// No answer of the batch is left for the next request.
			if _, err := c.Has(ip); !errors.Is(err, ErrUnsupported) {
				t.Errorf("after it: %v", err)
			}
		})
	}
}

func TestMissingOptions(t *testing.T) {
	masq := in(postrouting, Payload{NetworkHeader, 12, 4}.Load(Reg1), Ct(CtStatus, Reg1), Masquerade())
	at := func(n int) int {
		r := masq
		r.Exprs = r.Exprs[:n]
		return attrsAt + len(r.define())
	}
	tests := []struct {
		name   string
		object Object
		errno  unix.Errno
		at     int
		want   string // empty: not for lack of an option
	}{
		{"family", Table{IPv6, "x"}, unix.EOPNOTSUPP, 0, "CONFIG_NF_TABLES_IPV6"},
		{"family, old kernel", bridge, unix.EAFNOSUPPORT, 0, "CONFIG_NF_TABLES_BRIDGE"},
		{"table exists", ip, unix.EEXIST, 20, ""},
		{"chain type", postrouting, unix.ENOENT, 48, "CONFIG_NFT_NAT"},
		{"chain type, old kernel", postrouting, unix.ENOENT, 0, "CONFIG_NFT_NAT"},
		{"chain type of a family", output6, unix.ENOENT, 0, "CONFIG_NF_TABLES_IPV6"},
		{"chain without table", postrouting, unix.ENOENT, 20, ""},
		{"plain chain", own, unix.ENOENT, 0, ""},
		{"expression", masq, unix.ENOENT, at(2), "CONFIG_NFT_MASQ"},
		{"earlier expression", masq, unix.ENOENT, at(1), "CONFIG_NFT_CT"},
		{"expression that is always there", masq, unix.ENOENT, at(0), ""},
		{"expression, old kernel", masq, unix.ENOENT, 0, "CONFIG_NFT_CT or CONFIG_NFT_MASQ"},
		{"address translation", in(prerouting, Translate(IPv4, Reg1, 0)), unix.ENOENT, 0, "CONFIG_NFT_NAT"},
		{"address type", in(prerouting, Fib(Reg1)), unix.ENOENT, 0, "CONFIG_NFT_FIB_IPV4"},
		{"rule without chain", masq, unix.ENOENT, 32, ""},
		{"masquerade elsewhere", masq, unix.EOPNOTSUPP, 0, ""},
		{"set", ports, unix.ENOENT, 20, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := fake(t, func(reqs []netlink.Message) []netlink.Message {
				return []netlink.Message{answer(reqs[1], tt.errno, tt.at)}
			})
			err := commit(c, func(b *Batch) { b.Add(tt.object) })
			if tt.want == "" {
				if errors.Is(err, ErrUnsupported) || !errors.Is(err, tt.errno) {
					t.Errorf("got %v", err)
				}
			} else if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), ": "+tt.want+": ") {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestQueriesPassErrorsOn(t *testing.T) {
	queries := map[string]func(*Conn) error{
		"has":      func(c *Conn) error { _, err := c.Has(own); return err },
		"rules":    func(c *Conn) error { _, err := c.Rules(ip, "x"); return err },
		"elements": func(c *Conn) error { _, err := c.Elements(ports); return err },
		"element":  func(c *Conn) error { _, err := find(c, ports, "\x01"); return err },
	}
	for name, query := range queries {
		t.Run(name, func(t *testing.T) {
			var errno, generation unix.Errno
			c := fake(t, func(reqs []netlink.Message) []netlink.Message {
				if reqs[0].Header.Type == msgType(unix.NFT_MSG_GETGEN) {
					return []netlink.Message{answer(reqs[0], generation, 0)}
				}
				return []netlink.Message{answer(reqs[0], errno, 0)}
			})
			if errno = unix.EPERM; !errors.Is(query(c), unix.EPERM) {
				t.Error(query(c))
			}
			if errno = unix.EINVAL; !errors.Is(query(c), unix.EINVAL) {
				t.Error(query(c))
			}
			if generation = unix.EINVAL; !errors.Is(query(c), ErrUnsupported) || errors.Is(query(c), unix.EINVAL) {
				t.Error(query(c))
			}
		})
	}
}

func TestQueriesRefuseBadAnswers(t *testing.T) {
	element := append([]byte{2, 0, 0, 0}, 12, 0, unix.NFTA_SET_ELEM_LIST_ELEMENTS, 0x80, 8, 0, 1, 0x80, 9, 0, 1, 0)
	for name, data := range map[string][]byte{"no header": {1}, "bad nest": element, "nothing": {2, 0, 0, 0}} {
		c := fake(t, func(reqs []netlink.Message) []netlink.Message {
			h := reqs[0].Header
			h.Flags = 0
			return []netlink.Message{{Header: h, Data: data}}
		})
		if _, err := find(c, ports, "\x01"); err == nil || !strings.HasPrefix(err.Error(), "get element of map ip flatnet ports: ") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Rules(ip, "x"); name == "no header" && (err == nil || !strings.HasPrefix(err.Error(), "list chain ip flatnet x: ")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListsAreRestarted(t *testing.T) {
	lists := 0
	c := fake(t, func(reqs []netlink.Message) []netlink.Message {
		if lists++; reqs[0].Header.Flags&netlink.Dump != netlink.Dump {
			t.Errorf("asked for no list: %v", reqs[0].Header.Flags)
		}
		h := reqs[0].Header
		h.Type, h.Flags = netlink.Done, netlink.Multi
		part := netlink.Message{Header: h, Data: []byte{2, 0, 0, 0}}
		if part.Header.Type = msgType(unix.NFT_MSG_NEWRULE); lists == 1 {
			part.Header.Flags |= unix.NLM_F_DUMP_INTR
		}
		return []netlink.Message{part, {Header: h, Data: make([]byte, 4)}}
	})
	if rules, err := c.Rules(ip, "x"); err != nil || len(rules) != 1 || lists != 2 {
		t.Errorf("%d lists, %v, %v", lists, rules, err)
	}
}

func TestEmptyBatchIsNotSent(t *testing.T) {
	c := fake(t, func(reqs []netlink.Message) []netlink.Message {
		t.Errorf("sent %v", reqs)
		return nil
	})
	if err := commit(c, func(b *Batch) { b.Add(Elements{}) }); err != nil {
		t.Error(err)
	}
}

func TestManyLargeElementsFitTheirMessages(t *testing.T) {
	var all Elements
	for range 2 * perMessage {
		all = append(all, Element{ports, strings.Repeat("k", 64), strings.Repeat("d", 64), strings.Repeat("x", 253)})
	}
	var b Batch
	if b.Add(all); len(b.ops) != 2 {
		t.Errorf("%d messages", len(b.ops))
	}
	for _, o := range b.ops {
		if got, err := one(o.msg, ports.elements); err != nil || len(got) != perMessage {
			t.Errorf("a message with %d elements, %v", len(got), err)
		}
	}
}

func TestOperationsOfABatchArePrinted(t *testing.T) {
	b := batchOf()
	b.Delete(elements()[2], rules()[0])
	want := `add table ip flatnet
create chain ip flatnet masq-x
add map ip flatnet ports
delete elements of map ip flatnet ports "flatnet/c/eth0"
delete rule ip flatnet postrouting "flatnet"
`
	got := ""
	for _, o := range b.ops {
		got += fmt.Sprintln(o)
	}
	if got != want {
		t.Errorf("got %s", got)
	}
}
