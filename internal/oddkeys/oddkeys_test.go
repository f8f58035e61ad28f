package oddkeys

import (
	"strings"
	"testing"

	"flatnet/internal/strictjson"
)

// Keys that resemble known ones are named with these, on each level, and those of other
// plugins and runtimes are not.
func TestFind(t *testing.T) {
	for keys, want := range map[string]string{
		`"ipmasq":true`:                                    `"ipmasq" is read as "ipMasq"`,
		`"ipMaqs":true`:                                    `did you mean "ipMasq"?`,
		`"isolaton":"x"`:                                   `did you mean "isolation"?`,
		`"isDefaultGatway":true`:                           `did you mean "isDefaultGateway"?`,
		`"subnet":"10.87.1.0/24"`:                          `"subnet" means nothing here; it belongs into the ipam object`,
		`"ranges":[]`:                                      `"ranges" means nothing here`,
		`"subnett":"10.1.0.0/24"`:                          `"subnett" means nothing to flatnet; did you mean "subnet"? That means nothing here; it belongs into the ipam object`,
		`"subnets":["10.1.0.0/24"]`:                        `did you mean "subnet"?`,
		`"gatewy":"10.1.0.1"`:                              `did you mean "gateway"?`,
		`"rangeSart":"10.1.0.9"`:                           `did you mean "rangeStart"?`,
		`"hairpin":true`:                                   `did you mean "hairpinMode"?`,
		`"bridgename":"br1"`:                               `did you mean "bridge"?`,
		`"ipam":{"isGatway":true}`:                         `ipam: "isGatway" means nothing to flatnet; did you mean "isGateway"? That means nothing in the ipam object`,
		`"ipam":{"routes":[{"dst":"x","gateway":"y"}]}`:    `ipam.routes: "gateway" means nothing to flatnet; did you mean "gw"?`,
		`"plugins":[{}]`:                                   "whole conflist",
		`"ipam":{"subnett":"10.87.1.0/24"}`:                `ipam: "subnett" means nothing to flatnet; did you mean "subnet"?`,
		`"ipam":{"rangestart":"10.87.1.9"}`:                `ipam: "rangestart" is read as "rangeStart"`,
		`"ipam":{"mtu":1400}`:                              `ipam: "mtu" means nothing in the ipam object; it belongs beside that`,
		`"ipam":{"ranges":[[{"subnet":"x","gatway":""}]]}`: `ipam.ranges: "gatway" means nothing to flatnet; did you mean "gateway"?`,
		`"ipam":{"routes":[{"dts":"x"}]}`:                  `ipam.routes: "dts" means nothing to flatnet; did you mean "dst"?`,
		`"IPMASQ":true`:                                    `"IPMASQ" is read as "ipMasq"`,
		`"capabilites":{}`:                                 `did you mean "capabilities"?`,
		`"capabilities":{"portMapping":true}`:              `capabilities: "portMapping" means nothing to flatnet; did you mean "portMappings"?`,
		`"capabilities":{"portmappings":true}`:             `capabilities: "portmappings" means nothing to runtimes; did you mean "portMappings"?`,
		`"args":{"CNI":{"ipss":[]}}`:                       `args.cni: "ipss" means nothing to flatnet; did you mean "ips"?`,
		`"dns":{"nameserver":[]}`:                          `dns: "nameserver" means nothing to flatnet; did you mean "nameservers"?`,
		`"dns":{"searches":[],"serach":["x"]}`:             `dns: "serach" means`,
		`"vlanTrunk":[{"minId":1,"maxID":2}]`:              `vlanTrunk: "minId" is read as "minID"`,
		`"runtimeConfig":{"portMapping":[]}`:               `runtimeConfig: "portMapping" means nothing to flatnet; did you mean "portMappings"?`,
		`"runtimeConfig":{"ipRanges":[[{"subnt":"x"}]]}`:   `runtimeConfig.ipRanges: "subnt" means`,
		`"runtimeConfig":{"bandwidth":{"ingresRate":1}}`:   `runtimeConfig.bandwidth: "ingresRate" means nothing to flatnet; did you mean "ingressRate"?`,
		`"runtimeConfig":{"portMappings":[{"hostPort":1},{"hostPrt":2},{"hostPrt":3}]}`: `runtimeConfig.portMappings: "hostPrt" means`,
		`"ipam":{"type":"flatnet-ipam","subnett":"x"}`:                                  `ipam: "subnett" means`,
		`"ipam":{"type":"host-local","subnett":"x"},"isGatway":true`:                    `"isGatway" means`,
		`"ipam":{"type":"dhcp"},"capabilities":{"ipRange":true}`:                        `capabilities: "ipRange" means`,

		`"capabilities":{"io.kubernetes.cri.pod-annotations":true,"infinibandGUID":true},"args":{"cri":{"ipss":1},"labels":{},"cni":{"labels":[]}}`: "",
		`"runtimeConfig":{"aliases":{"flatnet":["portMapping"]},"cgroupPath":"x","io.kubernetes.cri.pod-annotations":{"hostPrt":"x"}}`:              "",
		`"prevResult":{"dn":{},"ip":[]},"dns":{"nameservers":[],"search":[],"domain":"x","options":[]}`:                                             "",
		`"ipam":[1],"vlanTrunk":{"id":3},"runtimeConfig":{"portMappings":"x","bandwidth":[[[]]]},"dns":null`:                                        "",

		`"ipam":{"type":"host-local","subnett":"x"},"subnett":1`:                         "",
		`"foo":1,"keyA":["x"],"master":"eth0","mode":"l2","ipMasqBackend":"nftables"`:    "",
		`"ipam":{"type":"host-local","subnet":"10.1.0.0/16","mtu":1}`:                    "",
		`"capabilities":{"portMappings":true},"args":{"cni":{}},"runtimeConfig":{}`:      "",
		`"ipam":{"subnet":"10.87.1.0/24","rangeStart":"x","resolvConf":"y","comment":1}`: "",
	} {
		doc, err := strictjson.Parse([]byte(`{"cniVersion":"1.0.0","name":"n","type":"flatnet",` + keys + `}`))
		if err != nil {
			t.Fatal(keys, err)
		}
		kind, _ := doc.Object("ipam").String("type")
		got := Find(doc, kind == "" || kind == "flatnet-ipam")
		if want == "" && got != nil || want != "" && (len(got) != 1 || !strings.Contains(got[0], want)) {
			t.Errorf("%s: %q, want %q", keys, got, want)
		}
	}
}
