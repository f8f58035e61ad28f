package cni

import (
	"encoding/json"
	"strings"
	"testing"
)

// refuse makes a call and wants it to fail with code and a message that holds
// want, without the engine being asked for anything.
func refuse(t *testing.T, env map[string]string, stdin string, code uint, want string) {
	t.Helper()
	var f fake
	status, out := call(&f, env, stdin)
	var r reply
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Errorf("%s\nstdout %q: %v", stdin, out, err)
		return
	}
	if status != 1 || r.Code != code || !strings.Contains(r.Msg, want) || f.calls != nil {
		t.Errorf("%s\nstatus %d, calls %v, code %d, want %d with %q in\n%s", stdin, status, f.calls, r.Code, code, want, r.Msg)
	}
	if len(r.Msg) > 400 {
		t.Errorf("%s\nmessage of %d bytes", stdin, len(r.Msg))
	}
}

// malformedEnvironment are environments of a call, and the error of each.
var malformedEnvironment = []struct{ command, change, want string }{
	{"", "", `CNI_COMMAND: "" is none of`},
	{"add", "", `CNI_COMMAND: "add" is none of ADD DEL`},
	{"ADD ", "", `CNI_COMMAND: "ADD " is none of`},
	{"UPDATE", "", `CNI_COMMAND: "UPDATE"`},
	{strings.Repeat("X", 1000), "", `"XXXXXXXXXXXXXXXXXXXX" is none`},

	{"ADD", "CNI_CONTAINERID", "CNI_CONTAINERID must be set for ADD"},
	{"CHECK", "CNI_CONTAINERID", "CNI_CONTAINERID must be set for CHECK"},
	{"DEL", "CNI_CONTAINERID", "CNI_CONTAINERID must be set for DEL"},
	{"ADD", "CNI_CONTAINERID=../x", `CNI_CONTAINERID: "../x" must be letters`},
	{"ADD", "CNI_CONTAINERID=a/b", `"a/b"`},
	{"ADD", "CNI_CONTAINERID=.a", `".a"`},
	{"ADD", "CNI_CONTAINERID=-a", `"-a"`},
	{"ADD", "CNI_CONTAINERID=a b", `"a b"`},
	{"ADD", "CNI_CONTAINERID=a\n", `"a\n"`},
	{"ADD", "CNI_CONTAINERID=é", `"é"`},
	{"ADD", "CNI_CONTAINERID=a;b", `"a;b"`},
	{"DEL", "CNI_CONTAINERID=a\x00", `"a\x00"`},
	{"CHECK", "CNI_CONTAINERID=a\xff", `"a\xff"`},
	{"ADD", "CNI_CONTAINERID=" + strings.Repeat("a", 300), "has 300 bytes, more than"},

	{"ADD", "CNI_IFNAME", "CNI_IFNAME must be set for ADD"},
	{"CHECK", "CNI_IFNAME", "CNI_IFNAME must be set for CHECK"},
	{"DEL", "CNI_IFNAME", "CNI_IFNAME must be set for DEL"},
	{"ADD", "CNI_IFNAME=abcdefghijklmnop", `CNI_IFNAME: "abcdefghijklmnop" has 16 bytes, more than 15`},
	{"ADD", "CNI_IFNAME=.", `"."`},
	{"ADD", "CNI_IFNAME=..", `".."`},
	{"DEL", "CNI_IFNAME=../x", `"../x"`},
	{"ADD", "CNI_IFNAME=eth0:1", `"eth0:1"`},
	{"ADD", "CNI_IFNAME=eth 0", `"eth 0"`},
	{"ADD", "CNI_IFNAME=eth%d", `"eth%d"`},
	{"ADD", "CNI_IFNAME=eth\t", `"eth\t"`},
	{"ADD", "CNI_IFNAME=éth0", `"éth0"`},
	{"ADD", "CNI_IFNAME=lo", `CNI_IFNAME: "lo" is reserved`},
	{"ADD", "CNI_IFNAME=all", `CNI_IFNAME: "all" is reserved`},
	{"ADD", "CNI_IFNAME=default", `CNI_IFNAME: "default" is reserved`},

	{"ADD", "CNI_NETNS", "CNI_NETNS must be set for ADD"},
	{"CHECK", "CNI_NETNS", "CNI_NETNS must be set for CHECK"},

	{"ADD", "CNI_ARGS=FOO", `CNI_ARGS: "FOO" is not of the form KEY=VALUE`},
	{"ADD", "CNI_ARGS=;", `CNI_ARGS: "" is not of the form`},
	{"ADD", "CNI_ARGS==x", `"=x" is not of the form`},
	{"ADD", "CNI_ARGS=IP=10.87.1.5;", `CNI_ARGS: "" is not of the form`},
	{"ADD", "CNI_ARGS=IP=a=b", `"IP=a=b" is not of the form`},
	{"ADD", "CNI_ARGS=FOO=BAR", `CNI_ARGS: "FOO=BAR" means nothing`},
	{"ADD", "CNI_ARGS=FOO=;K8S_POD_NAME=x", `"FOO=" means nothing`},
	{"ADD", "CNI_ARGS=ip=10.87.1.5", `"ip=10.87.1.5" means nothing`},
	{"ADD", "CNI_ARGS=FOO=BAR;IgnoreUnknown=0", `"FOO=BAR" means nothing`},
	{"ADD", "CNI_ARGS=IgnoreUnknown=yes", `IgnoreUnknown: "yes" is none of`},
	{"ADD", "CNI_ARGS=IgnoreUnknown=", `IgnoreUnknown: "" is none of`},
	{"ADD", "CNI_ARGS=IP=10.87.1.5;IP=10.87.1.6", `"IP" is given twice`},
	{"ADD", "CNI_ARGS=IgnoreUnknown=1;FOO=1;FOO=1", `"FOO" is given twice`},
	{"ADD", "CNI_ARGS=IP=x", `CNI_ARGS: IP: "x" is not an IP address`},
	{"ADD", "CNI_ARGS=IP=10.87.1", `"10.87.1" is not an IP address`},
	{"ADD", "CNI_ARGS=IP=10.87.1.256", `"10.87.1.256"`},
	{"ADD", "CNI_ARGS=IP=10.87.1.05", `"10.87.1.05"`},
	{"ADD", "CNI_ARGS=IP=10.87.1.5/33", `"10.87.1.5/33"`},
	{"ADD", "CNI_ARGS=IP=10.87.1.5,", `IP: "" is not an IP address`},
	{"ADD", "CNI_ARGS=IP=fe80::1%eth0", `"fe80::1%eth0" has a zone`},
	{"ADD", "CNI_ARGS=MAC=x", `CNI_ARGS: MAC: "x" is not a MAC address`},
	{"ADD", "CNI_ARGS=MAC=01:00:5e:00:00:01", `"01:00:5e:00:00:01" is a multicast address`},
	{"ADD", "CNI_ARGS=MAC=ff:ff:ff:ff:ff:ff", "multicast"},
	{"ADD", "CNI_ARGS=MAC=00:00:00:00:00:00", "all zero"},
	{"ADD", "CNI_ARGS=MAC=02:00:00:00:00:00:00:01", "is not a MAC address"},
	{"CHECK", "CNI_ARGS=MAC=02:00:00:00:00", "is not a MAC address"},
}

func TestMalformedEnvironment(t *testing.T) {
	for _, tt := range malformedEnvironment {
		refuse(t, environ(tt.command, tt.change), strings.TrimSuffix(minimal, "}")+`,"prevResult":null}`, 4, tt.want)
	}
	refuse(t, map[string]string{"CNI_COMMAND": "ADD"}, minimal, 4, "CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS must be set for ADD")
	for _, command := range []string{"ADD", "CHECK", "GC", "STATUS"} {
		refuse(t, environ(command, "CNI_PATH"), `{"cniVersion":"1.1.0","name":"n","ipam":{"type":"dhcp"}}`, 4,
			`CNI_PATH must be set for ipam.type "dhcp"`)
	}
}

func TestMalformedDocument(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for _, tt := range []struct {
		command, stdin string
		code           uint
		want           string
	}{
		{"ADD", "", 6, "configuration on stdin: empty"},
		{"DEL", "", 6, "empty"},
		{"STATUS", " \n", 6, "empty"},
		{"ADD", "x", 6, `at byte 0: unexpected "x"`},
		{"ADD", "null", 6, "want a JSON object, got null"},
		{"ADD", "[]", 6, "want a JSON object, got a list"},
		{"DEL", `"flatnet"`, 6, `got "flatnet"`},
		{"ADD", `{"cniVersion":"1.1.0","name":"n"`, 6, "unexpected end"},
		{"ADD", `{"cniVersion":"1.1.0","name":"n",}`, 6, `unexpected "}"`},
		{"ADD", `{'name':'n'}`, 6, `unexpected "'name'`},
		{"ADD", `{"name":"n"}{"name":"m"}`, 6, "something follows"},
		{"ADD", `{"name":"n"}x`, 6, "something follows"},
		{"ADD", `{"name":"n","name":"m"}`, 6, `key "name" is given twice`},
		{"DEL", `{"name":"n","ipam":{"dataDir":"/a","dataDir":"/b"}}`, 6, `key "dataDir" is given twice`},
		{"ADD", `{"name":"n","x":[[{"a":1,"a":1}]]}`, 6, `key "a" is given twice`},
		{"ADD", "{\"name\":\"n\xff\"}", 6, "not valid UTF-8"},
		{"ADD", `{"name":"n","x":"\udc00"}`, 6, "can't be decoded"},
		{"ADD", "\ufeff" + minimal, 6, "unexpected"},
		{"ADD", `{"name":"n","x":` + deep + `}`, 6, "nested deeper than 32"},
		{"ADD", `{"name":"n","x":"` + strings.Repeat("x", 32<<20) + `"}`, 6, "more than 33554432 bytes"},
		{"ADD", `{"name":"n","x":01}`, 6, `unexpected "01}"`},
		{"ADD", `{"name":"n","x":NaN}`, 6, `unexpected "NaN}"`},

		{"ADD", `{"cniVersion":17,"name":"n"}`, 6, "cniVersion: want a string, got 17"},
		{"DEL", `{"cniVersion":["1.0.0"],"name":"n"}`, 6, "cniVersion: want a string, got a list"},
		{"ADD", `{"cniVersion":"1.1.0","CNIVersion":"1.0.0","name":"n"}`, 6, `cniVersion: is given twice, as "cniVersion" and as "CNIVersion"`},
		{"ADD", `{"cniVersion":"2.0.0","name":"n"}`, 1, `cniVersion: "2.0.0" is not supported, only 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0 are`},
		{"ADD", `{"cniVersion":"1.0","name":"n"}`, 1, `"1.0" is not supported`},
		{"ADD", `{"cniVersion":"v1.0.0","name":"n"}`, 1, `"v1.0.0" is not supported`},
		{"GC", `{"cniVersion":" 1.1.0","name":"n"}`, 1, `" 1.1.0" is not supported`},
		{"STATUS", `{"cniVersion":"1.2.0","name":"n"}`, 1, `"1.2.0" is not supported`},
		{"ADD", `{"cniVersion":"` + strings.Repeat("1", 5000) + `","name":"n"}`, 1, "is not supported"},
		{"CHECK", `{"cniVersion":"0.3.1","name":"n"}`, 1, `cniVersion: "0.3.1" has no CHECK, which came with "0.4.0"`},
		{"CHECK", `{"name":"n"}`, 1, `"0.1.0" has no CHECK`},
		{"GC", `{"cniVersion":"1.0.0","name":"n"}`, 1, `"1.0.0" has no GC, which came with "1.1.0"`},
		{"STATUS", `{"cniVersion":"1.0.0","name":"n"}`, 1, `"1.0.0" has no STATUS, which came with "1.1.0"`},
		{"STATUS", `{"name":"n"}`, 1, `"0.1.0" has no STATUS`},
	} {
		refuse(t, environ(tt.command), tt.stdin, tt.code, tt.want)
	}
}

func TestMalformedName(t *testing.T) {
	for _, tt := range []struct{ keys, want string }{
		{`"type":"flatnet"`, "name: must not be empty"},
		{`"name":null`, "name: must not be empty"},
		{`"name":""`, "name: must not be empty"},
		{`"name":17`, "name: want a string, got 17"},
		{`"name":{}`, "name: want a string, got an object"},
		{`"name":"a/b"`, `name: "a/b" must be letters`},
		{`"name":".."`, `name: ".."`},
		{`"name":"-n"`, `name: "-n"`},
		{`"name":"a b"`, `name: "a b"`},
		{`"name":"a\u0000"`, `name: "a\x00"`},
		{`"name":"é"`, `name: "é"`},
		{`"name":"` + strings.Repeat("n", 65) + `"`, "name: \"nnnnnnnnnnnnnnnnnnnn\" has 65 bytes"},
		{`"name":"n","NAME":"m"`, `name: is given twice, as "name" and as "NAME"`},
	} {
		for _, command := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
			refuse(t, environ(command), `{"cniVersion":"1.1.0",`+tt.keys+`}`, 7, tt.want)
		}
	}
}

// malformedConfig are keys of a configuration, and the error of each.
var malformedConfig = []struct{ keys, want string }{
	{`"type":17`, "type: want a string, got 17"},
	{`"bridge":17`, "bridge: want a string, got 17"},
	{`"bridge":""`, "bridge: must not be empty"},
	{`"bridge":"a/b"`, `bridge: "a/b" is not an interface name`},
	{`"bridge":"abcdefghijklmnop"`, `bridge: "abcdefghijklmnop" has 16 bytes`},
	{`"bridge":".."`, `bridge: ".." is not an interface name`},
	{`"bridge":"br%d"`, `bridge: "br%d"`},
	{`"bridge":"lo"`, `bridge: "lo" is reserved`},
	{`"bridge":"a","Bridge":"b"`, `bridge: is given twice, as "bridge" and as "Bridge"`},
	{`"mtu":"1500"`, `mtu: want a number, got "1500"`},
	{`"mtu":-1`, "mtu: want a whole number from 0 to 65535, got -1"},
	{`"mtu":1500.5`, "mtu: want a whole number from 0 to 65535, got 1500.5"},
	{`"mtu":1e3`, "got 1e3"},
	{`"mtu":65536`, "got 65536"},
	{`"mtu":99999999999999999999`, "got 99999999999999999999"},
	{`"mtu":67`, "mtu: 67 is neither 0 nor from 68"},
	{`"mtu":true`, "mtu: want a number, got true"},
	{`"ipMasq":"true"`, `ipMasq: want true or false, got "true"`},
	{`"ipMasq":1`, "ipMasq: want true or false, got 1"},
	{`"isGateway":"yes"`, `isGateway: want true or false, got "yes"`},
	{`"isDefaultGateway":[]`, "isDefaultGateway: want true or false, got a list"},
	{`"forceAddress":0`, "forceAddress: want true or false, got 0"},
	{`"hairpinMode":{}`, "hairpinMode: want true or false, got an object"},
	{`"promiscMode":"on"`, `promiscMode: want true or false, got "on"`},
	{`"hairpinMode":true,"promiscMode":true`, "hairpinMode: must not be true together with promiscMode"},
	{`"noMasq":"10.0.0.0/8"`, `noMasq: want a list, got "10.0.0.0/8"`},
	{`"noMasq":["10.0.0.0/8",17]`, "noMasq[1]: want a string, got 17"},
	{`"noMasq":["10.0.0.0"]`, `noMasq[0]: "10.0.0.0" is not a subnet`},

	{`"vlan":4095`, "vlan: want a whole number from 0 to 4094, got 4095"},
	{`"vlan":"5"`, `vlan: want a number, got "5"`},
	{`"bridge":"flatnet-br0","vlan":4094`, `vlan: the bridge's name is too long for the interface "flatnet-br0.4094"`},
	{`"vlanTrunk":[5]`, "vlanTrunk[0]: want an object, got 5"},
	{`"vlanTrunk":[{}]`, "vlanTrunk[0].id: must be given, or minID and maxID"},
	{`"vlanTrunk":[{"id":0}]`, "vlanTrunk[0].id: 0 is no VLAN"},
	{`"vlanTrunk":[{"id":7},{"minID":5}]`, "vlanTrunk[1].minID: and maxID belong together"},
	{`"vlanTrunk":[{"maxID":5}]`, "vlanTrunk[0].minID: and maxID belong together"},
	{`"vlanTrunk":[{"minID":6,"maxID":5}]`, "vlanTrunk[0].maxID: 5 is less than minID 6"},
	{`"vlanTrunk":[{"minID":1,"maxID":4095}]`, "vlanTrunk[0].maxID: want a whole number from 0 to 4094"},
	{`"preserveDefaultVlan":1`, "preserveDefaultVlan: want true or false, got 1"},
	{`"macspoofchk":"true"`, `macspoofchk: want true or false, got "true"`},
	{`"isolation":true`, "isolation: want a string, got true"},
	{`"allowOverlap":"10.0.0.0/8"`, `allowOverlap: want true or false, got "10.0.0.0/8"`},
	{`"inbound":"none"`, `inbound: "none" is none of any, published`},
	{`"isolation":"strict"`, `isolation: "strict" is none of network, none`},
	{`"enabledad":"yes"`, `enabledad: want true or false, got "yes"`},
	{`"disableContainerInterface":true,"ipam":{"subnet":"10.87.1.0/24"}`, "disableContainerInterface: must not be true together with ipam"},
	{`"runtimeConfig":{"portMappings":{}}`, "runtimeConfig.portMappings: want a list, got an object"},
	{`"runtimeConfig":{"portMappings":[{"hostPort":80}]}`, "runtimeConfig.portMappings[0].containerPort: must be a number from 1"},
	{`"runtimeConfig":{"portMappings":[{"hostPort":0,"containerPort":80}]}`, "portMappings[0].hostPort: must be a number from 1"},
	{`"runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":65536}]}`, "portMappings[0].containerPort: want a whole number from 0 to 65535"},
	{`"runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"protocol":"icmp"}]}`, `portMappings[0].protocol: "icmp" is none of tcp, udp, sctp`},
	{`"runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"hostIP":"::1%lo"}]}`, `portMappings[0].hostIP: "::1%lo" has a zone`},
	{`"runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"hostIP":"ff02::1"}]}`, `portMappings[0].hostIP: ff02::1 is a multicast address`},
	{`"runtimeConfig":{"bandwidth":{"ingressRate":-1}}`, "bandwidth.ingressRate: want a whole number"},
	{`"runtimeConfig":{"bandwidth":{"egressBurst":1}}`, "bandwidth.egressBurst: must not be given without egressRate"},

	{`"dns":"1.1.1.1"`, `dns: want an object, got "1.1.1.1"`},
	{`"dns":{"nameservers":"1.1.1.1"}`, "dns.nameservers: want a list"},
	{`"dns":{"nameservers":["1.1.1.1","one"]}`, `dns.nameservers[1]: "one" is not an IP address`},
	{`"dns":{"nameservers":["1.1.1.1/24"]}`, `dns.nameservers[0]: "1.1.1.1/24"`},
	{`"dns":{"nameservers":["1.1.1.1\nnameserver 6.6.6.6"]}`, `dns.nameservers[0]: "1.1.1.1\nnameserver`},
	{`"dns":{"domain":17}`, "dns.domain: want a string, got 17"},
	{`"dns":{"domain":"a b"}`, `dns.domain: "a b" must be`},
	{`"dns":{"search":["a\nnameserver 6.6.6.6"]}`, `dns.search[0]: "a\nnameserver`},
	{`"dns":{"search":["a\u007f"]}`, `dns.search[0]: "a\x7f" must be`},
	{`"dns":{"search":[""]}`, `dns.search[0]: "" must be`},
	{`"dns":{"options":["` + strings.Repeat("o", 256) + `"]}`, `dns.options[0]: "oooo`},

	{`"ipam":"host-local"`, `ipam: want an object, got "host-local"`},
	{`"ipam":[]`, "ipam: want an object, got a list"},
	{`"ipam":{"type":17}`, "ipam.type: want a string, got 17"},
	{`"ipam":{"type":"../host-local"}`, `ipam.type: "../host-local" is not the name of a plugin`},
	{`"ipam":{"type":"/bin/sh"}`, `ipam.type: "/bin/sh"`},
	{`"ipam":{"type":"a\\b"}`, `ipam.type: "a\\b"`},
	{`"ipam":{"type":".."}`, `ipam.type: ".."`},
	{`"ipam":{"type":"a b"}`, `ipam.type: "a b"`},
	{`"ipam":{"type":"flatnet"}`, `ipam.type: "flatnet" would be flatnet itself`},
	{`"type":"fn","ipam":{"type":"fn"}`, `ipam.type: "fn" would be flatnet itself`},
	{`"ipam":{"subnet":17}`, "ipam.subnet: want a string, got 17"},
	{`"ipam":{"subnet":""}`, `ipam.subnet: "" is not a subnet`},
	{`"ipam":{"subnet":"10.1.2.0"}`, `ipam.subnet: "10.1.2.0" is not a subnet`},
	{`"ipam":{"subnet":"10.1.2.0/33"}`, `ipam.subnet: "10.1.2.0/33" is not a subnet`},
	{`"ipam":{"subnet":"10.1.2.0/-1"}`, `ipam.subnet: "10.1.2.0/-1"`},
	{`"ipam":{"subnet":"10.1.2.0/024"}`, `ipam.subnet: "10.1.2.0/024"`},
	{`"ipam":{"subnet":"10.1.2.0/255.255.255.0"}`, "ipam.subnet: "},
	{`"ipam":{"subnet":"::ffff:10.1.2.0/120"}`, `ipam.subnet: "::ffff:10.1.2.0/120" is not a subnet`},
	{`"ipam":{"subnet":"fe80::%eth0/64"}`, `ipam.subnet: "fe80::%eth0/64"`},
	{`"ipam":{"subnet":"10.1.2.0/24","gateway":"x"}`, `ipam.gateway: "x" is not an IP address`},
	{`"ipam":{"subnet":"10.1.2.0/24","gateway":"10.1.2.1/24"}`, `ipam.gateway: "10.1.2.1/24"`},
	{`"ipam":{"subnet":"10.1.2.0/24","rangeStart":17}`, "ipam.rangeStart: want a string, got 17"},
	{`"ipam":{"subnet":"fd00::/64","rangeStart":"fe80::1%eth0"}`, `ipam.rangeStart: "fe80::1%eth0" has a zone`},
	{`"ipam":{"ranges":{}}`, "ipam.ranges: want a list, got an object"},
	{`"ipam":{"ranges":[{"subnet":"10.1.2.0/24"}]}`, "ipam.ranges[0]: want a list, got an object"},
	{`"ipam":{"ranges":[["10.1.2.0/24"]]}`, `ipam.ranges[0][0]: want an object, got "10.1.2.0/24"`},
	{`"ipam":{"ranges":[[{}]]}`, `ipam.ranges[0][0].subnet: "" is not a subnet`},
	{`"ipam":{"ranges":[[{"subnet":17}]]}`, "ipam.ranges[0][0].subnet: want a string, got 17"},
	{`"ipam":{"ranges":[[{"subnet":"10.1.2.0/24"}]],"rangeStart":"10.1.2.5"}`, "ipam.rangeStart: needs a subnet beside it"},
	{`"ipam":{"ranges":[[{"subnet":"10.1.2.0/24"}]],"gateway":"10.1.2.1"}`, "ipam.gateway: needs a subnet beside it"},
	{`"cniVersion":"0.2.0","ipam":{"ranges":[[{"subnet":"10.1.2.0/24"}],[{"subnet":"10.1.4.0/24"}]]}`, "ipam.ranges: more than one address per family needs cniVersion 0.3.0"},
	{`"ipam":{"routes":{}}`, "ipam.routes: want a list, got an object"},
	{`"ipam":{"routes":["0.0.0.0/0"]}`, `ipam.routes[0]: want an object, got "0.0.0.0/0"`},
	{`"ipam":{"routes":[{}]}`, `ipam.routes[0].dst: "" is not a subnet`},
	{`"ipam":{"routes":[{"dst":"default"}]}`, `ipam.routes[0].dst: "default" is not a subnet`},
	{`"ipam":{"routes":[{"dst":"10.0.0.0/8","gw":"x"}]}`, `ipam.routes[0].gw: "x" is not an IP address`},
	{`"ipam":{"routes":[{"dst":"10.0.0.0/8","gw":"fd00::1"}]}`, "ipam.routes[0].gw: fd00::1 is not of the family of dst 10.0.0.0/8"},
	{`"ipam":{"routes":[{"dst":"10.0.0.0/8","mtu":-1}]}`, "ipam.routes[0].mtu: want a whole number from 0 to 65535, got -1"},
	{`"ipam":{"routes":[{"dst":"10.0.0.0/8","advmss":"1"}]}`, `ipam.routes[0].advmss: want a number, got "1"`},
	{`"ipam":{"routes":[{"dst":"10.0.0.0/8","priority":4294967296}]}`, "ipam.routes[0].priority: want a whole number from 0 to 4294967295, got 4294967296"},
	{`"ipam":{"routes":[{"dst":"10.0.0.0/8","table":-1}]}`, "ipam.routes[0].table: "},
	{`"ipam":{"routes":[{"dst":"10.0.0.0/8","scope":256}]}`, "ipam.routes[0].scope: want a whole number from 0 to 255, got 256"},
	{`"ipam":{"dataDir":17}`, "ipam.dataDir: want a string, got 17"},
	{`"ipam":{"dataDir":""}`, `ipam.dataDir: "" must be an absolute path`},
	{`"ipam":{"dataDir":"var/lib"}`, `ipam.dataDir: "var/lib" must be an absolute path`},
	{`"ipam":{"dataDir":"/var/../etc"}`, `ipam.dataDir: "/var/../etc"`},
	{`"ipam":{"dataDir":"/var//lib"}`, `ipam.dataDir: "/var//lib"`},
	{`"ipam":{"dataDir":"/var\u0000"}`, `ipam.dataDir: "/var\x00"`},
	{`"ipam":{"resolvConf":"resolv.conf"}`, `ipam.resolvConf: "resolv.conf" must be an absolute path`},

	{`"runtimeConfig":[]`, "runtimeConfig: want an object, got a list"},
	{`"runtimeConfig":{"ips":"10.87.1.5"}`, `runtimeConfig.ips: want a list, got "10.87.1.5"`},
	{`"runtimeConfig":{"ips":["10.87.1.5","x"]}`, `runtimeConfig.ips[1]: "x" is not an IP address`},
	{`"runtimeConfig":{"ips":["10.87.1.5/99"]}`, `runtimeConfig.ips[0]: "10.87.1.5/99"`},
	{`"runtimeConfig":{"mac":17}`, "runtimeConfig.mac: want a string, got 17"},
	{`"runtimeConfig":{"mac":"02:00"}`, `runtimeConfig.mac: "02:00" is not a MAC address`},
	{`"runtimeConfig":{"mac":"03:00:00:00:00:01"}`, `runtimeConfig.mac: MAC address "03:00:00:00:00:01" is a multicast address`},
	{`"runtimeConfig":{"ipRanges":[[{"subnet":"x"}]]}`, `runtimeConfig.ipRanges[0][0].subnet: "x" is not a subnet`},
	{`"runtimeConfig":{"dns":{"servers":["x"]}}`, `runtimeConfig.dns.servers[0]: "x" is not an IP address`},
	{`"runtimeConfig":{"dns":{"searches":[" "]}}`, `runtimeConfig.dns.searches[0]: " " must be`},
	{`"runtimeConfig":{"aliases":["a"]}`, "runtimeConfig.aliases: want an object, got a list"},
	{`"runtimeConfig":{"aliases":{"n":"a"}}`, `runtimeConfig.aliases.n: want a list, got "a"`},
	{`"args":"x"`, `args: want an object, got "x"`},
	{`"args":{"cni":17}`, "args.cni: want an object, got 17"},
	{`"args":{"cni":{"ips":["x"]}}`, `args.cni.ips[0]: "x" is not an IP address`},
	{`"args":{"cni":{"mac":"x"}},"runtimeConfig":{"mac":"02:00:00:00:00:01"}`, `args.cni.mac: "x" is not a MAC address`},

	{`"prevResult":{}`, "prevResult: must not be given to ADD"},
	{`"prevResult":{"cniVersion":"1.1.0","ips":[]}`, "prevResult: must not be given to ADD"},
	{`"prevResult":"x"`, `prevResult: want an object, got "x"`},
}

func TestMalformedConfig(t *testing.T) {
	for _, tt := range malformedConfig {
		stdin := `{"name":"n",` + tt.keys + `}`
		if !strings.Contains(tt.keys, "cniVersion") || strings.Contains(tt.keys, "prevResult") {
			stdin = `{"cniVersion":"1.1.0",` + stdin[1:]
		}
		refuse(t, environ("ADD"), stdin, 7, tt.want)
	}
}

func TestMalformedOutcome(t *testing.T) {
	for _, tt := range []struct{ command, keys, want string }{
		{"CHECK", `"x":1`, "prevResult: must be given to CHECK"},
		{"CHECK", `"prevResult":null`, "prevResult: must be given to CHECK"},
		{"CHECK", `"prevResult":[]`, "prevResult: want an object, got a list"},
		{"CHECK", `"prevResult":{"cniVersion":"9.9.9"}`, `prevResult.cniVersion: "9.9.9" is not supported`},
		{"CHECK", `"prevResult":{"cniVersion":17}`, "prevResult.cniVersion: want a string, got 17"},
		{"CHECK", `"prevResult":{"interfaces":{}}`, "prevResult.interfaces: want a list, got an object"},
		{"CHECK", `"prevResult":{"interfaces":["eth0"]}`, `prevResult.interfaces[0]: want an object, got "eth0"`},
		{"CHECK", `"prevResult":{"interfaces":[{"name":17}]}`, "prevResult.interfaces[0].name: want a string, got 17"},
		{"CHECK", `"prevResult":{"interfaces":[{"mtu":-1}]}`, "prevResult.interfaces[0].mtu: want a whole number"},
		{"CHECK", `"prevResult":{"ips":[{}]}`, `prevResult.ips[0].address: "" is not an address and length`},
		{"CHECK", `"prevResult":{"ips":[{"address":"10.1.2.3"}]}`, `prevResult.ips[0].address: "10.1.2.3" is not`},
		{"CHECK", `"prevResult":{"ips":[{"address":"::ffff:10.1.2.3/120"}]}`, `prevResult.ips[0].address: "::ffff:10.1.2.3/120" is not`},
		{"CHECK", `"prevResult":{"ips":[{"address":"10.1.2.3/24","gateway":"x"}]}`, `prevResult.ips[0].gateway: "x" is not an IP address`},
		{"CHECK", `"prevResult":{"ips":[{"address":"10.1.2.3/24","interface":0}]}`, "prevResult.ips[0].interface: 0 is not the index of one of 0 interfaces"},
		{"CHECK", `"prevResult":{"interfaces":[{"name":"a"}],"ips":[{"address":"10.1.2.3/24","interface":1}]}`, "prevResult.ips[0].interface: 1 is not the index of one of 1 interfaces"},
		{"CHECK", `"prevResult":{"ips":[{"address":"10.1.2.3/24","interface":-1}]}`, "prevResult.ips[0].interface: want a whole number"},
		{"CHECK", `"prevResult":{"routes":[{"gw":"10.1.2.1"}]}`, `prevResult.routes[0].dst: "" is not`},
		{"CHECK", `"prevResult":{"routes":[{"dst":"10.0.0.0/8","gw":"x"}]}`, `prevResult.routes[0].gw: "x" is not an IP address`},
		{"CHECK", `"prevResult":{"dns":{"search":"x"}}`, `prevResult.dns.search: want a list, got "x"`},
		{"CHECK", `"prevResult":{"cniVersion":"0.2.0","ip4":{"ip":"x"}}`, `prevResult.ip4.ip: "x" is not an address and length`},
		{"CHECK", `"prevResult":{"cniVersion":"0.2.0","ip6":[]}`, "prevResult.ip6: want an object, got a list"},
		{"GC", `"cni.dev/valid-attachments":{}`, "cni.dev/valid-attachments: want a list, got an object"},
		{"GC", `"cni.dev/valid-attachments":["a"]`, `cni.dev/valid-attachments[0]: want an object, got "a"`},
		{"GC", `"cni.dev/valid-attachments":[{"containerID":"a"}]`, "cni.dev/valid-attachments[0]: interface name: must not be empty"},
		{"GC", `"cni.dev/valid-attachments":[{"ifname":"eth0"}]`, "cni.dev/valid-attachments[0]: container ID: must not be empty"},
		{"GC", `"cni.dev/valid-attachments":[{"containerID":"a/b","ifname":"eth0"}]`, `container ID: "a/b" must be`},
		{"GC", `"cni.dev/valid-attachments":[{"containerID":"a","ifname":17}]`, "cni.dev/valid-attachments[0].ifname: want a string, got 17"},
		{"GC", `"cni.dev/valid-attachments":[],"cni.dev/attachments":[{"containerID":"a","ifname":"../x"}]`, `cni.dev/attachments[0]: interface name: "../x"`},
		{"STATUS", `"mtu":-1`, "mtu: want a whole number"},
		{"STATUS", `"ipam":{"subnet":"x"}`, `ipam.subnet: "x" is not a subnet`},
		{"GC", `"ipam":{"subnet":"x"},"cni.dev/valid-attachments":[]`, `ipam.subnet: "x" is not a subnet`},
	} {
		refuse(t, environ(tt.command), `{"cniVersion":"1.1.0","name":"n",`+tt.keys+`}`, 7, tt.want)
	}
}

// TestFirstErrorIsTold: one clear error, not a heap of them.
func TestFirstErrorIsTold(t *testing.T) {
	_, out := call(&fake{}, environ("ADD"), `{"name":"n","ipMasq":1,"mtu":-1,"ipam":{"subnet":"x"}}`)
	if want := `{"cniVersion":"0.1.0","code":7,"msg":"ipMasq: want true or false, got 1"}` + "\n"; out != want {
		t.Errorf("%s, want %s", out, want)
	}
}
