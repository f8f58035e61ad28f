package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// RawRule adds a rule, which counts, with user data that is no series of
// attributes, as agents of other firewalls write it. nft can't.
func (p Place) RawRule(family, table, chain, data string) {
	t := p.world.TB
	t.Helper()
	if out, err := p.role("raw-rule", strings.Join([]string{family, table, chain, data}, " ")).CombinedOutput(); err != nil {
		t.Fatalf("add a rule with user data: %v: %s", err, out)
	}
}

// Lengths of struct nlmsghdr and nlattr are in host byte order.
func attribute(typ uint16, data []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, typ), data...)
	return append(b, make([]byte, -len(b)&3)...)
}

func message(typ, flags uint16, family byte, resource uint16, attrs ...[]byte) []byte {
	body := binary.BigEndian.AppendUint16([]byte{family, 0}, resource)
	for _, a := range attrs {
		body = append(body, a...)
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	return append(append(b, make([]byte, 8)...), body...)
}

func beRuleMaker(args []string) error {
	f := strings.SplitN(args[0], " ", 4)
	family := map[string]byte{"ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6, "inet": unix.NFPROTO_INET}[f[0]]
	counter := attribute(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, append(
		attribute(unix.NFTA_EXPR_NAME, []byte("counter\x00")), attribute(unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, nil)...))
	batch := message(unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, 0, unix.NFNL_SUBSYS_NFTABLES)
	batch = append(batch, message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE,
		unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_APPEND, family, 0,
		attribute(unix.NFTA_RULE_TABLE, []byte(f[1]+"\x00")), attribute(unix.NFTA_RULE_CHAIN, []byte(f[2]+"\x00")),
		attribute(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, counter), attribute(unix.NFTA_RULE_USERDATA, []byte(f[3])))...)
	batch = append(batch, message(unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, 0, unix.NFNL_SUBSYS_NFTABLES)...)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < 20 {
		return errors.Join(err, fmt.Errorf("an answer of %d bytes", n))
	}
	if errno := int32(binary.NativeEndian.Uint32(answer[16:])); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}
