// Command gofloor is floor/floor.c in Go, to show what an ADD and a DEL take in a Go
// program: the same messages by the same system calls, in functions of the same names,
// so that the two can be read side by side. The verb is in CNI_COMMAND.
//
// It imports what costs no time at its start: golang.org/x/sys/unix would.
package main

import (
	"bytes"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

const (
	network = 0x0a580000 // 10.88.0.0/16, and the gateway is its first address
	prefix  = 16
	table   = "floor"
	chain   = "masquerade"
	set     = "containers"
)

// What syscall lacks of the kernel's headers, by the names there.
const (
	IFLA_NET_NS_FD                             = 28
	IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES     = 31, 32
	IFLA_INFO_KIND, IFLA_INFO_DATA             = 1, 2
	VETH_INFO_PEER                             = 1
	NFPROTO_IPV4, NF_INET_POST_ROUTING         = 2, 4
	NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END   = 16, 17
	NFNL_SUBSYS_NFTABLES                       = 10
	NFT_MSG_NEWTABLE, NFT_MSG_NEWCHAIN         = 0, 3
	NFT_MSG_NEWRULE                            = 6
	NFT_MSG_NEWSET, NFT_MSG_GETSET             = 9, 10
	NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM     = 12, 14
	NFTA_LIST_ELEM, NFTA_DATA_VALUE            = 1, 1
	NFTA_EXPR_NAME, NFTA_EXPR_DATA             = 1, 2
	NFTA_TABLE_NAME                            = 1
	NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME          = 1, 3
	NFTA_CHAIN_HOOK, NFTA_CHAIN_TYPE           = 4, 7
	NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY      = 1, 2
	NFTA_SET_TABLE, NFTA_SET_NAME, NFTA_SET_ID = 1, 2, 10
	NFTA_SET_KEY_TYPE, NFTA_SET_KEY_LEN        = 4, 5
	NFTA_SET_ELEM_LIST_TABLE                   = 1
	NFTA_SET_ELEM_LIST_SET                     = 2
	NFTA_SET_ELEM_LIST_ELEMENTS                = 3
	NFTA_SET_ELEM_KEY                          = 1
	NFTA_RULE_TABLE, NFTA_RULE_CHAIN           = 1, 2
	NFTA_RULE_EXPRESSIONS                      = 4
	NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_BASE       = 1, 2
	NFTA_PAYLOAD_OFFSET, NFTA_PAYLOAD_LEN      = 3, 4
	NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG          = 1, 2
	NFTA_CMP_SREG, NFTA_CMP_OP, NFTA_CMP_DATA  = 1, 2, 3
	NFT_REG_1, NFT_PAYLOAD_NETWORK_HEADER      = 1, 1
	NFT_CMP_NEQ                                = 1
)

func fail(what, why string) {
	syscall.Write(2, []byte("gofloor: "+what+": "+why+"\n"))
	syscall.Exit(1)
}

func check(err error, what string) {
	if err != nil {
		fail(what, err.Error())
	}
}

func variable(name string) string {
	value, ok := syscall.Getenv(name)
	if !ok {
		fail(name, "not set")
	}
	return value
}

// Netlink messages, one after the other, to be sent at once.
var batch struct {
	_       [0]uint64 // aligns bytes
	bytes   [8192]byte
	used    int
	message *syscall.NlMsghdr
}

func room(size int) unsafe.Pointer {
	at := batch.bytes[batch.used:][:(size+3)&^3]
	batch.used += len(at)
	clear(at)
	return unsafe.Pointer(unsafe.SliceData(at))
}

func put[T any](value T) *T {
	at := (*T)(room(int(unsafe.Sizeof(value))))
	*at = value
	return at
}

// since is how much of the batch is used from a place in it on.
func since(at unsafe.Pointer) int {
	return batch.used - int(uintptr(at)-uintptr(unsafe.Pointer(&batch.bytes)))
}

func begin[T any](kind, flags int, header T) {
	batch.message = put(syscall.NlMsghdr{Type: uint16(kind), Flags: uint16(syscall.NLM_F_REQUEST | flags)})
	put(header)
}

func end() { batch.message.Len = uint32(since(unsafe.Pointer(batch.message))) }

func attribute[T any](kind int, value T) {
	put(syscall.NlAttr{Type: uint16(kind), Len: uint16(syscall.SizeofNlAttr + unsafe.Sizeof(value))})
	put(value)
}

func number(kind, value int)         { attribute(kind, uint32(value)) }
func ordered(kind int, value uint32) { attribute(kind, htonl(value)) }
func htonl(v uint32) (ordered [4]byte) {
	return [4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}
}

func text(kind int, value string) {
	put(syscall.NlAttr{Type: uint16(kind), Len: uint16(syscall.SizeofNlAttr + len(value) + 1)})
	copy(unsafe.Slice((*byte)(room(len(value)+1)), len(value)), value)
}

func openNest(kind int) *syscall.NlAttr {
	return put(syscall.NlAttr{Type: uint16(kind | syscall.NLA_F_NESTED)})
}
func closeNest(a *syscall.NlAttr) { a.Len = uint16(since(unsafe.Pointer(a))) }

func dial(protocol int) int {
	s, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, protocol)
	check(err, "netlink")
	return s
}

// What is read goes here: on a goroutine's stack that would have to grow for it.
var (
	answer struct {
		syscall.NlMsghdr
		syscall.NlMsgerr
		_ [8192]byte
	}
	configuration [4096]byte
	leases        [1 << 20]byte
)

// transact sends the batch and returns the error of the first answer. Only the last
// message asks for one, and the kernel has put it there, or an error of an earlier
// message, before send returns.
func transact(s int) error {
	from, to := uintptr(unsafe.Pointer(&batch.bytes)), uintptr(unsafe.Pointer(&answer))
	socket, size, most := uintptr(s), uintptr(batch.used), unsafe.Sizeof(answer)
	batch.used = 0
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, socket, from, size, 0, 0, 0); errno != 0 {
		return errno
	}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, socket, to, most, 0, 0, 0); errno != 0 {
		return errno
	}
	if answer.Type == syscall.NLMSG_ERROR && answer.Error != 0 {
		return syscall.Errno(-answer.Error)
	}
	return nil
}

func must(s int, what string) { check(transact(s), what) }

func indexOf(s int, name string) int32 {
	var r struct {
		name  [syscall.IFNAMSIZ]byte
		index int32
		_     [20]byte
	}
	copy(r.name[:len(r.name)-1], name)
	syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(s), syscall.SIOCGIFINDEX, uintptr(unsafe.Pointer(&r)))
	return r.index
}

func raiseLink(index int32, flags int) {
	begin(syscall.RTM_NEWLINK, flags, syscall.IfInfomsg{Index: index, Flags: syscall.IFF_UP, Change: syscall.IFF_UP})
	end()
}

func addAddress(index int32, host uint32, flags int) {
	a := syscall.IfAddrmsg{Family: syscall.AF_INET, Prefixlen: prefix, Index: uint32(index)}
	begin(syscall.RTM_NEWADDR, syscall.NLM_F_CREATE|syscall.NLM_F_EXCL|flags, a)
	ordered(syscall.IFA_LOCAL, network|host)
	ordered(syscall.IFA_ADDRESS, network|host)
	ordered(syscall.IFA_BROADCAST, network|0xffff)
	end()
}

func addDefaultRoute(index int32, flags int) {
	r := syscall.RtMsg{Family: syscall.AF_INET, Table: syscall.RT_TABLE_MAIN}
	r.Protocol, r.Type = syscall.RTPROT_BOOT, syscall.RTN_UNICAST
	begin(syscall.RTM_NEWROUTE, syscall.NLM_F_CREATE|syscall.NLM_F_EXCL|flags, r)
	ordered(syscall.RTA_GATEWAY, network|1)
	number(syscall.RTA_OIF, int(index))
	end()
}

func newLink(name string) {
	up := syscall.IfInfomsg{Flags: syscall.IFF_UP, Change: syscall.IFF_UP}
	begin(syscall.RTM_NEWLINK, syscall.NLM_F_CREATE|syscall.NLM_F_EXCL|syscall.NLM_F_ACK, up)
	text(syscall.IFLA_IFNAME, name)
}

func mac(host uint32) [6]byte { return [6]byte{0x02, 0x58, 0, 0, byte(host >> 8), byte(host)} }

// With a MAC address of its own the bridge does not take that of a port.
func bridge(s int) int32 {
	name := variable("FLOOR_BRIDGE")
	if index := indexOf(s, name); index != 0 {
		return index
	}
	newLink(name)
	attribute(syscall.IFLA_ADDRESS, mac(1))
	info := openNest(syscall.IFLA_LINKINFO)
	text(IFLA_INFO_KIND, "bridge")
	closeNest(info)
	end()
	must(s, "bridge")
	index := indexOf(s, name)
	addAddress(index, 1, syscall.NLM_F_ACK)
	must(s, "address of the bridge")
	return index
}

func forward() {
	var now [1]byte
	f, err := syscall.Open("/proc/sys/net/ipv4/ip_forward", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err == nil {
		_, err = syscall.Read(f, now[:])
	}
	if err == nil && now[0] != '1' {
		_, err = syscall.Pwrite(f, []byte("1"), 0)
	}
	check(err, "ip_forward")
	syscall.Close(f)
}

func oneQueue() {
	number(IFLA_NUM_TX_QUEUES, 1)
	number(IFLA_NUM_RX_QUEUES, 1)
}

// The other end can't be raised by the same message: it has no peer yet.
func addVeth(s int, name string, master int32, netns int, host uint32) {
	newLink(name)
	number(syscall.IFLA_MASTER, int(master))
	oneQueue()
	info := openNest(syscall.IFLA_LINKINFO)
	text(IFLA_INFO_KIND, "veth")
	data, peer := openNest(IFLA_INFO_DATA), openNest(VETH_INFO_PEER)
	put(syscall.IfInfomsg{})
	text(syscall.IFLA_IFNAME, "eth0")
	attribute(syscall.IFLA_ADDRESS, mac(host))
	number(IFLA_NET_NS_FD, netns)
	oneQueue()
	closeNest(peer)
	closeNest(data)
	closeNest(info)
	end()
	must(s, "veth")
}

// setns is its system call, which syscall has no name for on amd64.
func setns() uintptr {
	if runtime.GOARCH == "amd64" {
		return 308
	}
	return 268 // arm64, riscv64
}

// The process ends on the thread that is in the container's namespace.
func configure(netns int, host uint32) {
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(setns(), uintptr(netns), syscall.CLONE_NEWNET, 0); errno != 0 {
		fail("setns", errno.Error())
	}
	s := dial(syscall.NETLINK_ROUTE)
	index := indexOf(s, "eth0")
	raiseLink(1, 0) // lo is the first in every namespace
	raiseLink(index, 0)
	addAddress(index, host, 0)
	addDefaultRoute(index, syscall.NLM_F_ACK)
	must(s, "the container's side")
	syscall.Close(s)
}

// nf_tables

func nftBegin(kind, flags int) {
	if kind == NFNL_MSG_BATCH_BEGIN || kind == NFNL_MSG_BATCH_END {
		begin(kind, flags, [4]byte{3: NFNL_SUBSYS_NFTABLES})
		return
	}
	begin(kind|NFNL_SUBSYS_NFTABLES<<8, flags, [4]byte{NFPROTO_IPV4})
}

func nftFence(kind int) {
	nftBegin(kind, 0)
	end()
}

func expressionOf(name string) (e, data *syscall.NlAttr) {
	e = openNest(NFTA_LIST_ELEM)
	text(NFTA_EXPR_NAME, name)
	return e, openNest(NFTA_EXPR_DATA)
}

func loadAddress(offset, size uint32) {
	e, data := expressionOf("payload")
	ordered(NFTA_PAYLOAD_DREG, NFT_REG_1)
	ordered(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER)
	ordered(NFTA_PAYLOAD_OFFSET, offset)
	ordered(NFTA_PAYLOAD_LEN, size)
	closeNest(data)
	closeNest(e)
}

func element(kind, flags int, host uint32) {
	nftBegin(kind, syscall.NLM_F_ACK|flags)
	text(NFTA_SET_ELEM_LIST_TABLE, table)
	text(NFTA_SET_ELEM_LIST_SET, set)
	list, one, key := openNest(NFTA_SET_ELEM_LIST_ELEMENTS), openNest(NFTA_LIST_ELEM), openNest(NFTA_SET_ELEM_KEY)
	ordered(NFTA_DATA_VALUE, network|host)
	closeNest(key)
	closeNest(one)
	closeNest(list)
	end()
}

func tableChainSet() {
	nftBegin(NFT_MSG_NEWTABLE, syscall.NLM_F_CREATE)
	text(NFTA_TABLE_NAME, table)
	end()
	nftBegin(NFT_MSG_NEWCHAIN, syscall.NLM_F_CREATE)
	text(NFTA_CHAIN_TABLE, table)
	text(NFTA_CHAIN_NAME, chain)
	hook := openNest(NFTA_CHAIN_HOOK)
	ordered(NFTA_HOOK_HOOKNUM, NF_INET_POST_ROUTING)
	ordered(NFTA_HOOK_PRIORITY, 100)
	closeNest(hook)
	text(NFTA_CHAIN_TYPE, "nat")
	end()
	nftBegin(NFT_MSG_NEWSET, syscall.NLM_F_CREATE)
	text(NFTA_SET_TABLE, table)
	text(NFTA_SET_NAME, set)
	ordered(NFTA_SET_KEY_TYPE, 7) // nft's ipv4_addr
	ordered(NFTA_SET_KEY_LEN, 4)
	ordered(NFTA_SET_ID, 1)
	end()
}

// ip saddr @containers ip daddr != 10.88.0.0/16 masquerade
func rule() {
	nftBegin(NFT_MSG_NEWRULE, syscall.NLM_F_CREATE|syscall.NLM_F_APPEND)
	text(NFTA_RULE_TABLE, table)
	text(NFTA_RULE_CHAIN, chain)
	list := openNest(NFTA_RULE_EXPRESSIONS)
	loadAddress(12, 4)
	e, data := expressionOf("lookup")
	text(NFTA_LOOKUP_SET, set)
	ordered(NFTA_LOOKUP_SREG, NFT_REG_1)
	closeNest(data)
	closeNest(e)
	loadAddress(16, 2)
	e, data = expressionOf("cmp")
	ordered(NFTA_CMP_SREG, NFT_REG_1)
	ordered(NFTA_CMP_OP, NFT_CMP_NEQ)
	value := openNest(NFTA_CMP_DATA)
	attribute(NFTA_DATA_VALUE, [2]byte{network >> 24, network >> 16 & 255})
	closeNest(value)
	closeNest(data)
	closeNest(e)
	e = openNest(NFTA_LIST_ELEM)
	text(NFTA_EXPR_NAME, "masq")
	closeNest(e)
	closeNest(list)
	end()
}

// A batch that fails would cost 15 ms, and so the set is asked for first.
func masquerade(host uint32) {
	s := dial(syscall.NETLINK_NETFILTER)
	nftBegin(NFT_MSG_GETSET, 0)
	text(NFTA_SET_TABLE, table)
	text(NFTA_SET_NAME, set)
	end()
	missing := transact(s)
	nftFence(NFNL_MSG_BATCH_BEGIN)
	if missing != nil {
		tableChainSet()
		rule()
	}
	element(NFT_MSG_NEWSETELEM, syscall.NLM_F_CREATE, host)
	nftFence(NFNL_MSG_BATCH_END)
	must(s, "nf_tables")
	syscall.Close(s)
}

// Leases: lines "NUMBER ID", in the order in which they were given.

func openLeases() (dir int, content []byte) {
	dir, err := syscall.Open(variable("FLOOR_LEASES"), syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err == nil {
		err = syscall.Flock(dir, syscall.LOCK_EX)
	}
	check(err, "directory of the leases")
	f, err := syscall.Openat(dir, "leases", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return dir, leases[:0]
	}
	n, err := syscall.Read(f, leases[:len(leases)/2])
	check(err, "leases")
	syscall.Close(f)
	return dir, leases[:n]
}

func writeLeases(dir int, content []byte) {
	const flags = syscall.O_WRONLY | syscall.O_CREAT | syscall.O_TRUNC | syscall.O_CLOEXEC
	f, err := syscall.Openat(dir, "leases.new", flags, 0o600)
	if err == nil {
		_, err = syscall.Write(f, content)
	}
	if err == nil {
		err = syscall.Fdatasync(f)
	}
	if err == nil {
		err = syscall.Renameat(dir, "leases.new", dir, "leases")
	}
	check(err, "leases")
	syscall.Close(f)
	syscall.Close(dir)
}

func lease(id string) uint32 {
	dir, content := openLeases()
	host := uint32(2)
	if n := len(content); n > 0 {
		host = leading(content[bytes.LastIndexByte(content[:n-1], '\n')+1:]) + 1
	}
	content = append(strconv.AppendUint(content, uint64(host), 10), " "+id+"\n"...)
	writeLeases(dir, content)
	return host
}

func release(id string) uint32 {
	dir, content := openLeases()
	key := " " + id + "\n"
	at := bytes.Index(content, []byte(key))
	if at < 0 {
		syscall.Close(dir)
		return 0
	}
	next := at + len(key)
	at = bytes.LastIndexByte(content[:at], '\n') + 1
	host := leading(content[at:])
	writeLeases(dir, append(content[:at], content[next:]...))
	return host
}

// leading is the number at the beginning of a lease.
func leading(lease []byte) uint32 {
	digits, _, _ := bytes.Cut(lease, []byte(" "))
	n, err := strconv.ParseUint(string(digits), 10, 32)
	check(err, "leases")
	return uint32(n)
}

func add(id, name string) {
	path := variable("CNI_NETNS")
	host := lease(id)
	s := dial(syscall.NETLINK_ROUTE)
	index := bridge(s)
	forward()
	masquerade(host)
	netns, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	check(err, path)
	addVeth(s, name, index, netns, host)
	configure(netns, host)
	address := "10.88." + strconv.Itoa(int(host>>8)) + "." + strconv.Itoa(int(host&255)) + "/" + strconv.Itoa(prefix)
	result := `{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"` + path + `"}],` +
		`"ips":[{"address":"` + address + `","gateway":"10.88.0.1","interface":0}]}` + "\n"
	_, err = syscall.Write(1, []byte(result))
	check(err, "stdout")
}

// The wait of nf_tables is over before that of the link: its socket stays open.
func del(id, name string) {
	if host := release(id); host != 0 {
		nftFence(NFNL_MSG_BATCH_BEGIN)
		element(NFT_MSG_DELSETELEM, 0, host)
		nftFence(NFNL_MSG_BATCH_END)
		must(dial(syscall.NETLINK_NETFILTER), "nf_tables")
	}
	begin(syscall.RTM_DELLINK, syscall.NLM_F_ACK, syscall.IfInfomsg{})
	text(syscall.IFLA_IFNAME, name)
	end()
	if err := transact(dial(syscall.NETLINK_ROUTE)); err != syscall.ENODEV {
		check(err, "veth")
	}
}

func main() {
	id := variable("CNI_CONTAINERID")
	_, err := syscall.Read(0, configuration[:])
	check(err, "stdin")
	name := "fl-" + id[:min(len(id), 12)]
	switch verb := variable("CNI_COMMAND"); verb {
	case "ADD":
		add(id, name)
	case "DEL":
		del(id, name)
	default:
		fail(verb, "neither ADD nor DEL")
	}
}
