package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fake is a socket that writes to a buffer.
func fake(protocol int) (*Socket, *bytes.Buffer) {
	var b bytes.Buffer
	return &Socket{tracer: tracer{time.Now(), &b}, name: "s", protocol: protocol}, &b
}

// message encodes a netlink message.
func message(typ, flags uint16, sequence uint32, parts ...[]byte) []byte {
	data := slices.Concat(parts...)
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(data)))
	b = binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(b, typ), flags)
	b = binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(b, sequence), 0)
	b = append(b, data...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

// attr encodes an attribute.
func attr(typ uint16, payload ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.NLA_HDRLEN+len(payload)))
	b = append(binary.NativeEndian.AppendUint16(b, typ), payload...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

func text(typ uint16, s string) []byte { return attr(typ, append([]byte(s), 0)...) }
func nest(typ uint16, attrs ...[]byte) []byte {
	return attr(typ|unix.NLA_F_NESTED, slices.Concat(attrs...)...)
}
func errno(e int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(-e)) }

// lines returns what was written, without times.
func lines(b *bytes.Buffer) string {
	return regexp.MustCompile(`(?m)^trace \+[0-9.]+ms (-|[0-9.]+ms) `).ReplaceAllString(b.String(), "")
}

func TestLines(t *testing.T) {
	const request = unix.NLM_F_REQUEST
	info := make([]byte, unix.SizeofIfInfomsg)
	nfgen := []byte{unix.NFPROTO_IPV4, 0, 0, 0}
	peer := nest(unix.IFLA_INFO_DATA, nest(1, info, text(unix.IFLA_IFNAME, "eth0")))
	veth := message(unix.RTM_NEWLINK, request|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, 7, info, text(unix.IFLA_IFNAME, "fn-\x1b[31m"),
		nest(unix.IFLA_LINKINFO, text(unix.IFLA_INFO_KIND, "veth"), peer), attr(999, 1, 2))
	rule := message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE, request|unix.NLM_F_CREATE|unix.NLM_F_APPEND, 2, nfgen,
		text(unix.NFTA_RULE_TABLE, "flatnet"), text(unix.NFTA_RULE_CHAIN, "forward"),
		nest(unix.NFTA_RULE_EXPRESSIONS, nest(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, "meta"), nest(unix.NFTA_EXPR_DATA, attr(unix.NFTA_META_KEY, 0, 0, 0, 6)))))
	batch := slices.Concat(message(unix.NFNL_MSG_BATCH_BEGIN, request, 1, nfgen), rule,
		message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, request|unix.NLM_F_ACK, 3, nfgen, text(unix.NFTA_TABLE_NAME, "t")),
		message(unix.NFNL_MSG_BATCH_END, request, 4, nfgen))
	ack := func(sequence uint32) []byte { return message(unix.NLMSG_ERROR, 0, sequence, errno(0), veth[:16]) }
	refusal := message(unix.NLMSG_ERROR, unix.NLM_F_CAPPED|unix.NLM_F_ACK_TLVS, 7, errno(int32(unix.EEXIST)), veth[:16], text(unix.NLMSGERR_ATTR_MSG, "no \"such\""))
	dump := message(unix.RTM_GETLINK, request|unix.NLM_F_DUMP, 7, info)
	link := message(unix.RTM_NEWLINK, unix.NLM_F_MULTI, 7, info, text(unix.IFLA_IFNAME, "lo"))
	const made = `s RTM_NEWLINK NLM_F_REQUEST|ACK|EXCL|CREATE IFLA_IFNAME="fn-\x1b[31m" IFLA_LINKINFO={ IFLA_INFO_KIND="veth" ` +
		`IFLA_INFO_DATA={ VETH_INFO_PEER={ IFLA_IFNAME="eth0" } } } #999[2]=0x0102 = `
	for _, tt := range []struct {
		name           string
		protocol       int
		sent, received []byte
		want           string
	}{
		{"acknowledged", unix.NETLINK_ROUTE, veth, ack(7), made + "ack\n"},
		{"refused", unix.NETLINK_ROUTE, veth, refusal, made + `EEXIST ("no \"such\"")` + "\n"},
		{"lost", unix.NETLINK_ROUTE, veth, nil, made + "no answer\n"},
		{"dump", unix.NETLINK_ROUTE, dump, slices.Concat(link, link, message(unix.NLMSG_DONE, unix.NLM_F_MULTI, 7, errno(0))), "s RTM_GETLINK NLM_F_DUMP|REQUEST = 2 messages\n"},
		{"get", unix.NETLINK_ROUTE, message(unix.RTM_GETLINK, request, 7, info), message(unix.RTM_NEWLINK, 0, 7, info, text(unix.IFLA_IFNAME, "lo"), attr(888)),
			"s RTM_GETLINK NLM_F_REQUEST = RTM_NEWLINK IFLA_IFNAME=\"lo\" +1 attributes\n"},
		{"notified", unix.NETLINK_ROUTE, nil, message(unix.RTM_NEWADDR, 0, 0, make([]byte, 8), attr(unix.IFA_ADDRESS, 10, 87, 1, 2)), "s < RTM_NEWADDR IFA_ADDRESS=10.87.1.2\n"},
		{"batch", unix.NETLINK_NETFILTER, batch, ack(3), "s NFNL_MSG_BATCH_BEGIN NLM_F_REQUEST family=2 = no answer asked for\n" +
			`s NFT_MSG_NEWRULE NLM_F_REQUEST|CREATE|APPEND family=2 NFTA_RULE_TABLE="flatnet" NFTA_RULE_CHAIN="forward" ` +
			`NFTA_RULE_EXPRESSIONS={ NFTA_LIST_ELEM={ NFTA_EXPR_NAME="meta" NFTA_EXPR_DATA={ NFTA_META_KEY=6 } } } = no answer asked for` + "\n" +
			"s NFT_MSG_NEWTABLE NLM_F_REQUEST|ACK family=2 NFTA_TABLE_NAME=\"t\" = ack\ns NFNL_MSG_BATCH_END NLM_F_REQUEST family=2 = no answer asked for\n"},
	} {
		s, b := fake(tt.protocol)
		s.Sends(tt.sent)
		s.Receives(tt.received)
		s.Close(nil)
		if got := lines(b); got != tt.want {
			t.Errorf("%s:\n%s\nand not\n%s", tt.name, got, tt.want)
		}
	}
}

// Names have the numbers that the kernel's headers give them.
func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		nest, name string
		typ        uint16
	}{
		{"link", "IFALIAS", unix.IFLA_IFALIAS}, {"link", "GROUP", unix.IFLA_GROUP}, {"link", "EXT_MASK", unix.IFLA_EXT_MASK},
		{"link", "NUM_RX_QUEUES", unix.IFLA_NUM_RX_QUEUES}, {"link", "LINK_NETNSID", unix.IFLA_LINK_NETNSID}, {"link", "NEW_IFINDEX", unix.IFLA_NEW_IFINDEX},
		{"linkinfo", "SLAVE_DATA", unix.IFLA_INFO_SLAVE_DATA}, {"linkinfo bridge", "MULTI_BOOLOPT", unix.IFLA_BR_MULTI_BOOLOPT},
		{"ports", "ISOLATED", unix.IFLA_BRPORT_ISOLATED}, {"ports", "MODE", unix.IFLA_BRPORT_MODE}, {"afspec", "INET6", unix.AF_INET6},
		{"inet6", "ADDR_GEN_MODE", unix.IFLA_INET6_ADDR_GEN_MODE}, {"addr", "FLAGS", unix.IFA_FLAGS}, {"route", "TABLE", unix.RTA_TABLE},
		{"route", "NH_ID", 30}, {"route", "PRIORITY", unix.RTA_PRIORITY}, {"metrics", "ADVMSS", unix.RTAX_ADVMSS}, {"rule", "PROTOCOL", unix.FRA_PROTOCOL},
		{"rule", "FWMASK", unix.FRA_FWMASK}, {"nsid", "FD", unix.NETNSA_FD}, {"gen", "ID", unix.NFTA_GEN_ID}, {"table", "USERDATA", 6},
		{"chain", "TYPE", unix.NFTA_CHAIN_TYPE}, {"hook", "DEV", unix.NFTA_HOOK_DEV}, {"nftrule", "USERDATA", unix.NFTA_RULE_USERDATA},
		{"set", "USERDATA", unix.NFTA_SET_USERDATA}, {"elems", "SET_ID", unix.NFTA_SET_ELEM_LIST_SET_ID}, {"element", "OBJREF", unix.NFTA_SET_ELEM_OBJREF},
		{"expr bitwise", "XOR", unix.NFTA_BITWISE_XOR}, {"expr lookup", "FLAGS", unix.NFTA_LOOKUP_FLAGS}, {"expr payload", "LEN", unix.NFTA_PAYLOAD_LEN},
		{"expr ct", "SREG", unix.NFTA_CT_SREG}, {"expr fib", "FLAGS", unix.NFTA_FIB_FLAGS}, {"expr nat", "FLAGS", unix.NFTA_NAT_FLAGS},
		{"expr masq", "REG_PROTO_MAX", unix.NFTA_MASQ_REG_PROTO_MAX}, {"verdict", "CHAIN", unix.NFTA_VERDICT_CHAIN},
	} {
		_, list := layout(tt.nest)
		if name, _ := find(list, tt.typ); name != tt.name {
			t.Errorf("%s %d is %q and not %s", tt.nest, tt.typ, name, tt.name)
		}
	}
}

// Names of errors are the kernel's.
func TestErrnos(t *testing.T) {
	for errno := range int32(140) {
		if got, want := errnoText(errno), unix.ErrnoName(syscall.Errno(errno)); got != want && !strings.HasPrefix(got, "errno ") && got != "EOPNOTSUPP" {
			t.Errorf("%d is %s and not %s", errno, want, got)
		}
	}
	if got := errnoText(math.MaxInt32); got != "errno 2147483647" {
		t.Error(got)
	}
}

// The trace is off by default, and the variable can't name a file.
func TestOnAndOff(t *testing.T) {
	for value, want := range map[string]bool{"": false, "0": false, "1": true, "/tmp/x": false, "yes": false, "1 12": true, "1 x": true} {
		t.Setenv(Variable, value)
		s, c := Open(unix.NETLINK_ROUTE, 3), Call("setns", "x")
		if (s != nil) != want || (c != nil) != want {
			t.Errorf("%q: %v, %v", value, s != nil, c != nil)
		}
		s.Sends(nil)
		s.Failed(errors.New("x"))
		s.Close(nil)
		c.Done(nil)
	}
	for _, tt := range []struct {
		args, want string
		cni, on    bool
	}{
		{"f trace list", "f list", false, true}, {"f trace trace list x", "f list x", false, true}, {"f list trace", "f list trace", false, false},
		{"f trace", "f trace", false, false}, {"f trace", "f", true, true}, {"f trace --help", "f trace --help", false, false}, {"f", "f", true, false},
	} {
		t.Setenv(Variable, "")
		t.Setenv("CNI_COMMAND", map[bool]string{true: "ADD"}[tt.cni])
		got := strings.Join(Begin(strings.Fields(tt.args)), " ")
		if on := os.Getenv(Variable) != ""; got != tt.want || on != tt.on {
			t.Errorf("%q, %v: %q, %v", tt.args, tt.cni, got, on)
		}
	}
}

// Whatever the messages are, a line is not torn in a pipe and has nothing that a terminal
// obeys.
func FuzzSocket(f *testing.F) {
	info := make([]byte, unix.SizeofIfInfomsg)
	deep := attr(1, 1)
	for range 40 {
		deep = nest(unix.IFLA_LINKINFO, text(unix.IFLA_INFO_KIND, "veth"), nest(unix.IFLA_INFO_DATA, nest(1, info, deep)))
	}
	f.Add(uint8(unix.NETLINK_ROUTE), message(unix.RTM_NEWLINK, unix.NLM_F_ACK, 1, info, deep), message(unix.NLMSG_ERROR, 0x300, 1, errno(math.MaxInt32)))
	f.Add(uint8(unix.NETLINK_ROUTE), message(unix.RTM_GETADDR, 0x300, 1, make([]byte, 3)), message(unix.NLMSG_DONE, 0x202, 1, errno(math.MinInt32)))
	f.Add(uint8(unix.NETLINK_NETFILTER), message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE, 1, 1, []byte{2, 0, 0, 0}, bytes.Repeat(text(unix.NFTA_RULE_TABLE, "\x9b\n"), 999)), []byte{1})
	f.Add(uint8(unix.NETLINK_SOCK_DIAG), message(unix.SOCK_DIAG_BY_FAMILY, 1, 1, make([]byte, 56)), message(unix.NLMSG_ERROR, unix.NLM_F_ACK_TLVS, 1, errno(1), []byte{255, 255, 255, 255}))
	f.Fuzz(func(t *testing.T, protocol uint8, sent, received []byte) {
		s, b := fake(int(protocol))
		s.Sends(sent)
		s.Receives(received)
		s.Close(nil)
		for line := range strings.Lines(b.String()) {
			bad := strings.IndexFunc(line, func(r rune) bool { return r < ' ' && r != '\n' || r > '~' })
			if len(line) > 4096 || bad >= 0 || !strings.HasPrefix(line, "trace +") {
				t.Errorf("%d bytes: %q", len(line), line)
			}
		}
	})
}
