package cni

import (
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
)

// anyKeys are keys of configurations, of which DEL takes every one.
var anyKeys = []string{
	``,
	`"cniVersion":"9.9.9",`,
	`"cniVersion":"x",`,
	`"cniVersion":"0.2.0",`,
	`"type":17,`,
	`"bridge":17,`,
	`"bridge":"a/b",`,
	`"mtu":-1,`,
	`"mtu":"1500",`,
	`"mtu":5,`,
	`"ipMasq":"yes","isGateway":[],"isDefaultGateway":{},"forceAddress":1,"hairpinMode":"","promiscMode":17,`,
	`"hairpinMode":true,"promiscMode":true,`,
	`"noMasq":"10.0.0.0/8",`,
	`"noMasq":["x"],`,
	`"dns":17,`,
	`"dns":{"nameservers":["x"],"domain":"a b"},`,
	`"vlan":5,"portIsolation":true,`,
	`"args":17,`,
	`"runtimeConfig":"x",`,
	`"runtimeConfig":{"mac":"x","ips":["x"],"ipRanges":17,"portMappings":[17],"bandwidth":{"a":1},"aliases":[]},`,
	`"prevResult":17,`,
	`"prevResult":{"cniVersion":"9.9.9","ips":[{"address":"x","interface":9}]},`,
	`"prevResult":{"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.3/24"}},`,
	`"cni.dev/valid-attachments":17,`,
	`"MTU":1500,"mtu":1400,`,
}

// TestDelTakesAnyConfig: nothing but name, container ID and interface name may
// make DEL fail.
func TestDelTakesAnyConfig(t *testing.T) {
	envs := map[string]map[string]string{
		"namespace there":   environ("DEL"),
		"namespace empty":   environ("DEL", "CNI_NETNS"),
		"namespace no path": environ("DEL", "CNI_NETNS=\x01 no/such"),
		"bad arguments":     environ("DEL", "CNI_ARGS=;;=;MAC=x;IP=y;FOO", "CNI_PATH"),
		"loopback":          environ("DEL", "CNI_IFNAME=lo"),
	}
	for _, keys := range anyKeys {

		for name, env := range envs {
			for ipam, dir := range map[string]string{
				`17`:                                    "",
				`{"type":17,"dataDir":"/x"}`:            "/x",
				`{"type":"a/b","dataDir":"/x"}`:         "",
				`{"type":"flatnet"}`:                    "",
				`{"dataDir":"relative"}`:                "",
				`{"dataDir":17}`:                        "",
				`{"subnet":"x","dataDir":"/x"}`:         "/x",
				`{"ranges":[[]],"dataDir":"/x"}`:        "/x",
				`{"routes":[{"dst":1}],"dataDir":"/x"}`: "/x",
			} {
				stdin := `{` + keys + `"name":"n","ipam":` + ipam + `}`
				var f fake
				status, out := call(&f, env, stdin)
				if status != 0 || out != "" || len(f.calls) != 1 {
					t.Fatalf("%s: %s: %s", name, stdin, out)
				}
				c := f.config
				want := model.Key{Network: "n", ContainerID: env["CNI_CONTAINERID"], IfName: env["CNI_IFNAME"]}
				if c.Network.Name != "n" || c.Request.Key != want || c.Request.NetNS != env["CNI_NETNS"] || c.IPAM.DataDir != dir {
					t.Fatalf("%s: %s: %+v", name, stdin, *c)
				}
				if model.ValidIfName(c.Network.Bridge) != nil || c.IPAM.Type != "" || c.IPAM.Sets != nil || c.Network.MTU > fields.MaxMTU {
					t.Fatalf("%s: %s: %+v", name, stdin, *c)
				}
			}
		}
	}
}

func TestDelDelegates(t *testing.T) {
	var f fake
	call(&f, environ("DEL", "CNI_PATH"), `{"name":"n","mtu":"x","ipam":{"type":"dhcp"}}`)
	if f.config == nil || f.config.IPAM.Type != "dhcp" {
		t.Fatalf("config %+v", f.config)
	}
}
