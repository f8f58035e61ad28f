package trace

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// isGet reports whether a message is a query, in which the higher flags have another meaning.
func isGet(protocol int, typ uint16) bool {
	switch {
	case protocol == unix.NETLINK_ROUTE:
		return typ&3 == unix.RTM_GETLINK&3
	case protocol == unix.NETLINK_NETFILTER && typ>>8 == unix.NFNL_SUBSYS_NFTABLES:
		return typ&0xff == unix.NFT_MSG_GETGEN || typ&0xff < unix.NFT_MSG_NEWGEN && typ&0xff%3 == 1
	case protocol == unix.NETLINK_NETFILTER:
		return typ&0xff == 1 // IPCTNL_MSG_CT_GET
	}
	return true
}

// flagNames returns the flags of a message (NLM_F_* of linux/netlink.h).
func flagNames(h header, get bool) string {
	low, high := []string{"REQUEST", "MULTI", "ACK", "ECHO", "DUMP_INTR", "DUMP_FILTERED"}, []string{"REPLACE", "EXCL", "CREATE", "APPEND"}
	flags := h.flags
	var names []string
	if get && flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
		names, flags = append(names, "DUMP"), flags&^unix.NLM_F_DUMP
	}
	if get {
		high = []string{"ROOT", "MATCH", "ATOMIC"}
	}
	for i, name := range append(append(low, "", ""), high...) {
		if name != "" && flags&(1<<i) != 0 {
			names, flags = append(names, name), flags&^(1<<i)
		}
	}
	if flags != 0 {
		names = append(names, fmt.Sprintf("%#x", flags))
	}
	if names == nil {
		return ""
	}
	return " NLM_F_" + strings.Join(names, "|")
}

// kindOf returns a message's name, its fixed header's fields for [decoder.fixed], and the nest of
// its attributes.
func kindOf(protocol int, typ uint16) (name, fixed, nest string) {
	const nfgen = "family/1 /1 /2" // struct nfgenmsg
	switch {
	case typ < unix.NLMSG_MIN_TYPE:
		return pick("NLMSG_", "#0 NOOP ERROR DONE OVERRUN", typ, "#"), "", ""
	case protocol == unix.NETLINK_ROUTE:
		return routeKind(typ)
	case protocol == unix.NETLINK_NETFILTER && typ < 1<<8:
		return pick("NFNL_MSG_BATCH_", "BEGIN END", typ-unix.NFNL_MSG_BATCH_BEGIN, "#"), nfgen, "batch"
	case protocol == unix.NETLINK_NETFILTER && typ>>8 == unix.NFNL_SUBSYS_NFTABLES:
		name, nest = nftKind(typ & 0xff)
		return name, nfgen, nest
	case protocol == unix.NETLINK_NETFILTER && typ>>8 == unix.NFNL_SUBSYS_CTNETLINK:
		return pick("IPCTNL_MSG_CT_", "NEW GET DELETE", typ&0xff, "#"), nfgen, "ct"
	case protocol == unix.NETLINK_SOCK_DIAG && typ == unix.SOCK_DIAG_BY_FAMILY:
		return "SOCK_DIAG_BY_FAMILY", "family/1 protocol/1 /2 states/4", ""
	}
	return fmt.Sprintf("message#%d", typ), "", ""
}

// pick returns the word at an index of a list or, beyond its end, the index after a mark.
func pick(prefix, list string, at uint16, mark string) string {
	if words := strings.Fields(list); int(at) < len(words) {
		return prefix + words[at]
	}
	return prefix + mark + strconv.Itoa(int(at))
}

// routeKind is kindOf for rtnetlink: four numbers for each noun (linux/rtnetlink.h).
func routeKind(typ uint16) (name, fixed, nest string) {
	noun, verb := "", [...]string{"NEW", "DEL", "GET", "SET"}[typ&3]
	switch typ &^ 3 {
	case unix.RTM_NEWLINK:
		noun, fixed, nest = "LINK", "family/1 /1 type/2 index/4 flags/4 change/4", "link"
	case unix.RTM_NEWADDR:
		noun, fixed, nest = "ADDR", "family/1 prefixlen/1 flags/1 scope/1 index/4", "addr"
	case unix.RTM_NEWROUTE:
		noun, fixed, nest = "ROUTE", "family/1 dst_len/1 src_len/1 tos/1 table/1 protocol/1 scope/1 type/1 flags/4", "route"
	case unix.RTM_NEWNEIGH:
		noun, fixed, nest = "NEIGH", "family/1 /3 index/4 state/2 flags/1 type/1", "neigh"
	case unix.RTM_NEWRULE:
		noun, fixed, nest = "RULE", "family/1 dst_len/1 src_len/1 tos/1 table/1 /2 action/1 flags/4", "rule"
	case unix.RTM_NEWQDISC:
		noun, fixed, nest = "QDISC", "family/1 /3 index/4 handle/4 parent/4 info/4", "tc"
	case unix.RTM_NEWTFILTER:
		noun, fixed, nest = "TFILTER", "family/1 /3 index/4 handle/4 parent/4 info/4", "tc"
	case unix.RTM_NEWNETCONF:
		noun, fixed, nest = "NETCONF", "family/1 /3", "netconf"
	case unix.RTM_NEWNSID:
		noun, fixed, nest = "NSID", "family/1 /3", "nsid"
	default:
		return fmt.Sprintf("RTM_#%d", typ), "", ""
	}
	return "RTM_" + verb + noun, fixed, nest
}

// nftKind is kindOf for nf_tables (enum nf_tables_msg_types): three numbers for each noun.
func nftKind(msg uint16) (name, nest string) {
	switch msg {
	case unix.NFT_MSG_NEWGEN:
		return "NFT_MSG_NEWGEN", "gen"
	case unix.NFT_MSG_GETGEN:
		return "NFT_MSG_GETGEN", "gen"
	}
	nouns, nests := "TABLE CHAIN RULE SET SETELEM", "table chain nftrule set elems"
	if msg > unix.NFT_MSG_DELSETELEM {
		return fmt.Sprintf("NFT_MSG_#%d", msg), ""
	}
	verb := [...]string{"NEW", "GET", "DEL"}[msg%3]
	return pick("NFT_MSG_"+verb, nouns, msg/3, "#"), pick("", nests, msg/3, "#")
}

// find returns the name and kind of an attribute of a list.
func find(list string, typ uint16) (name, kind string) {
	number := uint16(0)
	for _, word := range strings.Fields(list) {
		if text, ok := strings.CutPrefix(word, "="); ok {
			n, _ := strconv.Atoi(text)
			number = uint16(n - 1)
			continue
		}
		if number++; number == typ {
			name, kind, _ = strings.Cut(word, ":")
			return name, kind
		}
	}
	return "", ""
}

// layout returns the prefix of a nest's attributes and their names in the order of their
// numbers, from 1 on or the one after "=". A name has a kind: a letter of a text (s), a number
// in the host's byte order (n; i with a sign) or the network's (N; I), an address (a), a MAC
// address (m), or what replies leave out (-); the word of another nest; that of a nest after a
// struct ifinfomsg (@); or a nest whose word depends on the text before it (?). Attributes
// without a kind are written in hexadecimal digits.
func layout(nest string) (prefix, list string) {
	family, _, _ := strings.Cut(nest, " ")
	switch family {
	case "link", "bridgeport", "linkinfo", "afspec", "inet6", "ports", "vlans":
		return linkLayout(nest)
	case "expr", "data", "verdict", "list":
		return exprLayout(nest)
	case "ct", "tuple", "ip", "proto", "filter":
		return conntrackLayout(nest)
	case "addr":
		return "IFA_", "ADDRESS:a LOCAL:a LABEL:s BROADCAST:a ANYCAST:a CACHEINFO:- MULTICAST:a FLAGS:n RT_PRIORITY:n"
	case "route":
		return "RTA_", "DST:a SRC:a IIF:n OIF:n GATEWAY:a PRIORITY:n PREFSRC:a METRICS:metrics MULTIPATH PROTOINFO FLOW:n CACHEINFO:- " +
			"=15 TABLE:n MARK:n =18 VIA =20 PREF:n =30 NH_ID:n"
	case "metrics":
		return "RTAX_", "LOCK:n MTU:n WINDOW:n RTT:n RTTVAR:n SSTHRESH:n CWND:n ADVMSS:n"
	case "neigh":
		return "NDA_", "DST:a LLADDR:m CACHEINFO:-"
	case "rule":
		return "FRA_", "DST:a SRC:a IIFNAME:s GOTO:n =6 PRIORITY:n =10 FWMARK:n FLOW:n =15 TABLE:n FWMASK:n OIFNAME:s =21 PROTOCOL:n"
	case "tc":
		return "TCA_", "KIND:s OPTIONS STATS:- XSTATS:- RATE:- FCNT:- STATS2:-"
	case "netconf":
		return "NETCONFA_", "IFINDEX:i FORWARDING:n RP_FILTER:n MC_FORWARDING:n"
	case "nsid":
		return "NETNSA_", "NSID:i PID:n FD:n"
	}
	return tableLayout(nest)
}

func linkLayout(nest string) (prefix, list string) {
	const link = "ADDRESS:m BROADCAST:- IFNAME:s MTU:n LINK:n QDISC:s STATS:- COST:- PRIORITY:- MASTER:n WIRELESS:- PROTINFO:ports TXQLEN:- MAP:- " +
		"WEIGHT:- OPERSTATE:- LINKMODE:- LINKINFO:linkinfo NET_NS_PID:n IFALIAS:s NUM_VF:- VFINFO_LIST:- STATS64:- VF_PORTS:- PORT_SELF:- " +
		"AF_SPEC:%s GROUP:n NET_NS_FD:n EXT_MASK:n PROMISCUITY:- NUM_TX_QUEUES:n NUM_RX_QUEUES:n =37 LINK_NETNSID:i =45 NEW_NETNSID:i =49 NEW_IFINDEX:n"
	switch nest {
	case "link":
		return "IFLA_", fmt.Sprintf(link, "afspec")
	case "bridgeport":
		return "IFLA_", fmt.Sprintf(link, "vlans")
	case "linkinfo":
		return "IFLA_INFO_", "KIND:s DATA:? XSTATS:- SLAVE_KIND:s SLAVE_DATA:-"
	case "linkinfo veth":
		return "VETH_INFO_", "PEER:@link"
	case "linkinfo bridge":
		return "IFLA_BR_", "=7 VLAN_FILTERING:n =46 MULTI_BOOLOPT"
	case "ports":
		return "IFLA_BRPORT_", "STATE:n PRIORITY:n COST:n MODE:n GUARD:n PROTECT:n FAST_LEAVE:n LEARNING:n UNICAST_FLOOD:n =33 ISOLATED:n"
	case "afspec":
		return "AF_", "=2 INET:- =10 INET6:inet6"
	case "inet6":
		return "IFLA_INET6_", "FLAGS:n CONF:- STATS:- MCAST:- CACHEINFO:- ICMP6STATS:- TOKEN:a ADDR_GEN_MODE:n"
	case "vlans":
		return "IFLA_BRIDGE_", "=1 MODE:n VLAN_INFO"
	}
	return "", ""
}

func tableLayout(nest string) (prefix, list string) {
	switch nest {
	case "batch":
		return "NFNL_BATCH_", "GENID:N"
	case "gen":
		return "NFTA_GEN_", "ID:N PROC_PID:N PROC_NAME:s"
	case "table":
		return "NFTA_TABLE_", "NAME:s FLAGS:N USE:N HANDLE:N PAD:- USERDATA"
	case "chain":
		return "NFTA_CHAIN_", "TABLE:s HANDLE:N NAME:s HOOK:hook POLICY:N USE:N TYPE:s COUNTERS:- PAD:- FLAGS:N"
	case "hook":
		return "NFTA_HOOK_", "HOOKNUM:N PRIORITY:I DEV:s DEVS"
	case "nftrule":
		return "NFTA_RULE_", "TABLE:s CHAIN:s HANDLE:N EXPRESSIONS:list COMPAT:- POSITION:N USERDATA"
	case "set":
		return "NFTA_SET_", "TABLE:s NAME:s FLAGS:N KEY_TYPE:N KEY_LEN:N DATA_TYPE:N DATA_LEN:N POLICY:N DESC ID:N TIMEOUT:N GC_INTERVAL:N USERDATA PAD:- OBJ_TYPE:N HANDLE:N"
	case "elems":
		return "NFTA_SET_ELEM_LIST_", "TABLE:s SET:s ELEMENTS:elements SET_ID:N"
	case "elements":
		return "NFTA_LIST_", "ELEM:element"
	case "element":
		return "NFTA_SET_ELEM_", "KEY:data DATA:data FLAGS:N TIMEOUT:N EXPIRATION:N USERDATA EXPR PAD:- OBJREF:s KEY_END:data"
	}
	return "", ""
}

func exprLayout(nest string) (prefix, list string) {
	switch nest {
	case "list":
		return "NFTA_LIST_", "ELEM:expr"
	case "expr":
		return "NFTA_EXPR_", "NAME:s DATA:?"
	case "data":
		return "NFTA_DATA_", "VALUE VERDICT:verdict"
	case "verdict":
		return "NFTA_VERDICT_", "CODE:N CHAIN:s"
	case "expr immediate":
		return "NFTA_IMMEDIATE_", "DREG:N DATA:data"
	case "expr bitwise":
		return "NFTA_BITWISE_", "SREG:N DREG:N LEN:N MASK:data XOR:data OP:N DATA:data"
	case "expr cmp":
		return "NFTA_CMP_", "SREG:N OP:N DATA:data"
	case "expr lookup":
		return "NFTA_LOOKUP_", "SET:s SREG:N DREG:N SET_ID:N FLAGS:N"
	case "expr payload":
		return "NFTA_PAYLOAD_", "DREG:N BASE:N OFFSET:N LEN:N SREG:N"
	case "expr meta":
		return "NFTA_META_", "DREG:N KEY:N SREG:N"
	case "expr ct":
		return "NFTA_CT_", "DREG:N KEY:N DIRECTION:N SREG:N"
	case "expr fib":
		return "NFTA_FIB_", "DREG:N RESULT:N FLAGS:N"
	case "expr nat":
		return "NFTA_NAT_", "TYPE:N FAMILY:N REG_ADDR_MIN:N REG_ADDR_MAX:N REG_PROTO_MIN:N REG_PROTO_MAX:N FLAGS:N"
	case "expr masq":
		return "NFTA_MASQ_", "FLAGS:N REG_PROTO_MIN:N REG_PROTO_MAX:N"
	}
	return "", ""
}

func conntrackLayout(nest string) (prefix, list string) {
	switch nest {
	case "ct":
		return "CTA_", "TUPLE_ORIG:tuple TUPLE_REPLY:tuple STATUS:N PROTOINFO:- HELP:- NAT_SRC:- TIMEOUT:N MARK:N =12 ID:N =25 FILTER:filter"
	case "tuple":
		return "CTA_TUPLE_", "IP:ip PROTO:proto ZONE:N"
	case "ip":
		return "CTA_IP_", "V4_SRC:a V4_DST:a V6_SRC:a V6_DST:a"
	case "proto":
		return "CTA_PROTO_", "NUM:N SRC_PORT:N DST_PORT:N"
	case "filter":
		return "CTA_FILTER_", "ORIG_FLAGS:n REPLY_FLAGS:n"
	}
	return "", ""
}
