package netavark

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

// created are networks as Podman describes them to create, and its answers.
var created = []struct{ name, stdin, stdout string }{
	{
		// podman network create --driver flatnet flatnet
		"the default network",
		`{"name":"flatnet","id":"1574eaeab4b2","driver":"flatnet","created":"0001-01-01T00:00:00Z","ipv6_enabled":false,"internal":false,"dns_enabled":true}`,
		`{"name":"flatnet","id":"1574eaeab4b2","driver":"flatnet","created":"0001-01-01T00:00:00Z","network_interface":"flatnet-br0",` +
			`"subnets":[{"subnet":"10.87.1.0/24","gateway":"10.87.1.1"}],` +
			`"ipv6_enabled":false,"internal":false,"dns_enabled":true,"ipam_options":{"driver":"flatnet"}}`,
	}, {
		// podman network create --driver flatnet s1
		"another network",
		`{"name":"s1","id":"09467dd520c9","driver":"flatnet","created":"0001-01-01T00:00:00Z","ipv6_enabled":false,"internal":false,"dns_enabled":true}`,
		`{"name":"s1","id":"09467dd520c9","driver":"flatnet","created":"0001-01-01T00:00:00Z","network_interface":"flatnet-br2",` +
			`"subnets":[{"subnet":"10.87.2.0/24","gateway":"10.87.2.1"}],` +
			`"ipv6_enabled":false,"internal":false,"dns_enabled":true,"ipam_options":{"driver":"flatnet"}}`,
	}, {
		// podman network create --driver flatnet --subnet fd00:1::/64 s3
		"IPv6 only",
		`{"name":"s3","id":"bcf7b6acbe81","driver":"flatnet","created":"0001-01-01T00:00:00Z","subnets":[{"subnet":"fd00:1::/64"}],"ipv6_enabled":false,"internal":false,"dns_enabled":true}`,
		`{"name":"s3","id":"bcf7b6acbe81","driver":"flatnet","created":"0001-01-01T00:00:00Z","network_interface":"flatnet-676e999",` +
			`"subnets":[{"subnet":"fd00:1::/64","gateway":"fd00:1::1"}],` +
			`"ipv6_enabled":true,"internal":false,"dns_enabled":true,"ipam_options":{"driver":"flatnet"}}`,
	}, {
		// podman network create --driver flatnet --subnet 10.99.10.0/24 --gateway 10.99.10.254 --ip-range 10.99.10.64/26 s4
		"gateway and range",
		`{"name":"s4","id":"9ffc89ae3bd9","driver":"flatnet","created":"0001-01-01T00:00:00Z","subnets":[{"subnet":"10.99.10.0/24","gateway":"10.99.10.254","lease_range":{"start_ip":"10.99.10.65","end_ip":"10.99.10.127"}}],"ipv6_enabled":false,"internal":false,"dns_enabled":true}`,
		`{"name":"s4","id":"9ffc89ae3bd9","driver":"flatnet","created":"0001-01-01T00:00:00Z","network_interface":"flatnet-bb504fc",` +
			`"subnets":[{"subnet":"10.99.10.0/24","gateway":"10.99.10.254","lease_range":{"start_ip":"10.99.10.65","end_ip":"10.99.10.127"}}],` +
			`"ipv6_enabled":false,"internal":false,"dns_enabled":true,"ipam_options":{"driver":"flatnet"}}`,
	}, {
		// podman network create --driver flatnet --subnet 10.99.11.0/24 --ip-range 10.99.11.5-10.99.11.9 --subnet fd00:2::/64 s5
		"two subnets",
		`{"name":"s5","id":"2a51eedd9a38","driver":"flatnet","created":"0001-01-01T00:00:00Z","subnets":[{"subnet":"10.99.11.0/24","lease_range":{"start_ip":"10.99.11.5","end_ip":"10.99.11.9"}},{"subnet":"fd00:2::/64"}],"ipv6_enabled":false,"internal":false,"dns_enabled":true}`,
		`{"name":"s5","id":"2a51eedd9a38","driver":"flatnet","created":"0001-01-01T00:00:00Z","network_interface":"flatnet-5cb9412",` +
			`"subnets":[{"subnet":"10.99.11.0/24","gateway":"10.99.11.1","lease_range":{"start_ip":"10.99.11.5","end_ip":"10.99.11.9"}},{"subnet":"fd00:2::/64","gateway":"fd00:2::1"}],` +
			`"ipv6_enabled":true,"internal":false,"dns_enabled":true,"ipam_options":{"driver":"flatnet"}}`,
	}, {
		// podman network create --driver flatnet --internal --interface-name br9 -o mtu=1400 -o isolate=false -o forwardAccept=true --label a=b --label c --dns 9.9.9.9 s7
		"everything that is echoed",
		`{"name":"s7","id":"9debcee65fb7","driver":"flatnet","network_interface":"br9","created":"0001-01-01T00:00:00Z","ipv6_enabled":false,"internal":true,"dns_enabled":true,"network_dns_servers":["9.9.9.9"],"labels":{"a":"<b>","c":""},"options":{"forwardAccept":"true","isolate":"false","mtu":"1400"}}`,
		`{"name":"s7","id":"9debcee65fb7","driver":"flatnet","created":"0001-01-01T00:00:00Z","network_interface":"br9",` +
			`"subnets":[{"subnet":"10.87.2.0/24","gateway":"10.87.2.1"}],` +
			`"ipv6_enabled":false,"internal":true,"dns_enabled":true,"network_dns_servers":["9.9.9.9"],` +
			`"labels":{"a":"<b>","c":""},"options":{"forwardAccept":"true","isolate":"false","mtu":"1400"},"ipam_options":{"driver":"flatnet"}}`,
	}, {
		// podman network create --driver flatnet --disable-dns --route 10.5.0.0/16,10.99.13.9,50 --subnet 10.99.13.0/24 s11
		"routes",
		`{"name":"s11","id":"1a36a18628c7","driver":"flatnet","created":"0001-01-01T00:00:00Z","subnets":[{"subnet":"10.99.13.0/24"}],"routes":[{"destination":"10.5.0.0/16","gateway":"10.99.13.9","metric":50}],"ipv6_enabled":false,"internal":false,"dns_enabled":false}`,
		`{"name":"s11","id":"1a36a18628c7","driver":"flatnet","created":"0001-01-01T00:00:00Z","network_interface":"flatnet-9e18490",` +
			`"subnets":[{"subnet":"10.99.13.0/24","gateway":"10.99.13.1"}],"routes":[{"destination":"10.5.0.0/16","gateway":"10.99.13.9","metric":50}],` +
			`"ipv6_enabled":false,"internal":false,"dns_enabled":false,"ipam_options":{"driver":"flatnet"}}`,
	}, {
		// Docker's client over Podman's socket, with driver_opts: dns_enabled is false there
		"Docker's client",
		`{"name":"s12","id":"1","driver":"flatnet","internal":false,"dns_enabled":false,"ipv6_enabled":false,"options":{"dns":"true","com.docker.network.bridge.name":"br12"}}`,
		`{"name":"s12","id":"1","driver":"flatnet","internal":false,"dns_enabled":true,"ipv6_enabled":false,"options":{"dns":"true","com.docker.network.bridge.name":"br12"},` +
			`"network_interface":"br12","subnets":[{"subnet":"10.87.2.0/24","gateway":"10.87.2.1"}],"ipam_options":{"driver":"flatnet"}}`,
	}, {
		"a VLAN",
		`{"name":"s13","id":"1","driver":"flatnet","internal":false,"dns_enabled":true,"ipv6_enabled":false,"options":{"vlan":"4094"},"subnets":[{"subnet":"10.99.5.0/24"}]}`,
		`{"name":"s13","id":"1","driver":"flatnet","internal":false,"dns_enabled":true,"ipv6_enabled":false,"options":{"vlan":"4094"},` +
			`"network_interface":"fbr-96089c","subnets":[{"subnet":"10.99.5.0/24","gateway":"10.99.5.1"}],"ipam_options":{"driver":"flatnet"}}`,
	}, {
		"an unmanaged bridge",
		`{"name":"s14","id":"1","driver":"flatnet","internal":false,"dns_enabled":true,"ipv6_enabled":false,"network_interface":"mine","options":{"mode":"unmanaged"},"subnets":[{"subnet":"10.99.5.0/24"}]}`,
		`{"name":"s14","id":"1","driver":"flatnet","internal":false,"dns_enabled":false,"ipv6_enabled":false,"options":{"mode":"unmanaged"},` +
			`"network_interface":"mine","subnets":[{"subnet":"10.99.5.0/24","gateway":"10.99.5.1"}],"ipam_options":{"driver":"flatnet"}}`,
	}, {
		"what it does not know",
		`{"name":"s1","id":"1","driver":"flatnet","Internal":false,"dns_enabled":false,"future":{"a":[1.50,null]},"labels":{"":"x"},"routes":null}`,
		`{"name":"s1","id":"1","driver":"flatnet","Internal":false,"dns_enabled":false,"network_interface":"flatnet-br2","future":{"a":[1.50,null]},"labels":{"":"x"},"routes":null,` +
			`"subnets":[{"subnet":"10.87.2.0/24","gateway":"10.87.2.1"}],` +
			`"ipv6_enabled":false,"ipam_options":{"driver":"flatnet"}}`,
	}, {
		"its own output",
		`{"name":"s1","id":"1","driver":"flatnet","network_interface":"flatnet-br2","subnets":[{"subnet":"10.87.2.0/24","gateway":"10.87.2.1"}],"internal":false,"dns_enabled":false,"ipam_options":{"driver":"flatnet"}}`,
		`{"name":"s1","id":"1","driver":"flatnet","network_interface":"flatnet-br2",` +
			`"subnets":[{"subnet":"10.87.2.0/24","gateway":"10.87.2.1"}],` +
			`"ipv6_enabled":false,"internal":false,"dns_enabled":false,"ipam_options":{"driver":"flatnet"}}`,
	},
}

// Each stdin is what Podman 5.4.2 sent for the command above it. Bridges of
// subnets outside of 10.87.0.0/16 are named by printf SUBNET | sha256sum.
func TestCreate(t *testing.T) {
	for _, c := range created {
		t.Run(c.name, func(t *testing.T) {
			got := newBench(t).must(t, c.stdin, "create")
			if !reflect.DeepEqual(decode(t, got), decode(t, c.stdout)) {
				t.Errorf("got\n%s\nwant\n%s", got, c.stdout)
			}
		})
	}
}

// decode returns the JSON's values, whatever the order of keys.
func decode(t *testing.T, s string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

func TestCreateIPv6MakesUpASubnet(t *testing.T) {
	want := regexp.MustCompile(`"subnets":\[\{"subnet":"10\.87\.2\.0/24","gateway":"10\.87\.2\.1"\},\{"subnet":"(fd[0-9a-f:]+)/64","gateway":"(fd[0-9a-f:]+)1"\}\]`)
	seen := map[string]bool{}
	for range 2 {
		m := want.FindStringSubmatch(newBench(t).must(t, `{"name":"s2","ipv6_enabled":true}`, "create"))
		if m == nil || m[1] != m[2] {
			t.Fatalf("subnets: %q", m)
		}
		if p := netip.MustParsePrefix(m[1] + "/48"); p != p.Masked() {
			t.Errorf("%s has a subnet ID", p)
		}
		seen[m[1]] = true
	}
	if len(seen) != 2 {
		t.Error("twice the same")
	}
}

func TestCreateChooses(t *testing.T) {
	owner := func(network, addr string) model.Owner {
		return model.Owner{Key: model.Key{Network: network, ContainerID: "c1", IfName: "eth0"}, Addresses: []netip.Addr{netip.MustParseAddr(addr)}}
	}
	for _, c := range []struct {
		name   string
		stored []string
		owners []model.Owner
		taken  []netip.Prefix
		stdin  string
		want   string // a part of stdout
	}{
		{
			"the next free one", []string{
				`{"name":"flatnet","network_interface":"flatnet-br0","subnets":[{"subnet":"10.87.1.0/24"}]}`,
				`{"name":"a","network_interface":"flatnet-br2","subnets":[{"subnet":"10.87.2.0/24"}]}`,
				`{"name":"b","network_interface":"flatnet-br4","subnets":[{"subnet":"10.87.4.0/24"}]}`,
			}, nil, nil, `{"name":"c"}`, `"flatnet-br3","subnets":[{"subnet":"10.87.3.0/24"`,
		},
		{
			"not one with containers of the other door", nil,
			[]model.Owner{owner("cni", "10.87.2.77"), owner("c", "10.87.3.5"), {}}, nil,
			`{"name":"c"}`, `"10.87.3.0/24"`,
		},
		{
			"not one that the host uses", nil, nil,
			[]netip.Prefix{netip.MustParsePrefix("10.87.2.9/32"), netip.MustParsePrefix("10.87.3.0/24")},
			`{"name":"c"}`, `"10.87.4.0/24"`,
		},
		{
			"another for flatnet, too", nil, nil, []netip.Prefix{netip.MustParsePrefix("10.87.1.0/24")},
			`{"name":"flatnet"}`, `"flatnet-br0","subnets":[{"subnet":"10.87.2.0/24"`,
		},
		{
			"no bridge that another has", []string{`{"name":"a","network_interface":"flatnet-br2","subnets":[{"subnet":"10.99.0.0/24"}]}`}, nil, nil,
			`{"name":"c"}`, `"flatnet-br3"`,
		},
		{
			"IPv4 beside a wanted IPv6 subnet", nil, nil, nil,
			`{"name":"c","ipv6_enabled":true,"subnets":[{"subnet":"fd00::/64"}]}`,
			`"subnets":[{"subnet":"10.87.2.0/24","gateway":"10.87.2.1"},{"subnet":"fd00::/64","gateway":"fd00::1"}]`,
		},
		{
			"over networks that are none", []string{`{"name":"a","subnets":[{"subnet":"x"}]}`, `{"name":"b","subnets":7}`}, nil, nil,
			`{"name":"c"}`, `"10.87.2.0/24"`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.host.owners, b.host.taken = c.owners, c.taken
			for _, s := range c.stored {
				b.store(t, s)
			}
			if got := b.must(t, c.stdin, "create"); !strings.Contains(got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestCreateRefusesCollisions(t *testing.T) {
	b := newBench(t)
	b.store(t, `{"name":"a","network_interface":"br-a","subnets":[{"subnet":"10.99.0.0/16"},{"subnet":"fd00:a::/64"}]}`)
	b.store(t, `{"name":"odd","network_interface":"br-odd","subnets":[{},{"subnet":"::ffff:10.0.0.0/112"},{"subnet":"10.97.0.1/16"}]}`)
	b.host.owners = []model.Owner{{Key: model.Key{Network: "cni", ContainerID: "0d8d354710ce77", IfName: "eth0"}, Addresses: []netip.Addr{netip.MustParseAddr("10.50.0.9")}}}
	b.host.taken = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, c := range []struct{ name, stdin, want string }{
		{"with another network", `{"name":"b","subnets":[{"subnet":"10.99.7.0/24"}]}`, "subnet 10.99.7.0/24 overlaps with 10.99.0.0/16 of network a"},
		{"in IPv6", `{"name":"b","subnets":[{"subnet":"10.98.7.0/24"},{"subnet":"fd00::/16"}]}`, "subnet fd00::/16 overlaps with fd00:a::/64 of network a"},
		{"with a container", `{"name":"b","subnets":[{"subnet":"10.50.0.0/24"}]}`, "subnet 10.50.0.0/24 overlaps with 10.50.0.9/32 of container 0d8d354710ce in network cni"},
		{"with Podman's default network", `{"name":"b","subnets":[{"subnet":"10.88.0.0/16"}]}`, "subnet 10.88.0.0/16 overlaps with 10.88.0.0/16 of Podman's default network podman, which is in memory only"},
		{"with the host", `{"name":"b","subnets":[{"subnet":"192.0.2.128/25"}]}`, "192.0.2.128/25 overlaps with 192.0.2.0/24"},
		{"of a bridge", `{"name":"b","network_interface":"br-a"}`, "interface br-a is the one of network a"},
		{"of the bridge of an odd one", `{"name":"b","network_interface":"br-odd"}`, "interface br-odd is the one of network odd"},
		{"with an odd one", `{"name":"b","subnets":[{"subnet":"10.97.7.0/24"}]}`, "overlaps with 10.97.0.0/16 of network odd"},
		{"with itself", `{"name":"b","subnets":[{"subnet":"10.1.0.0/24"},{"subnet":"10.1.0.0/16"}]}`, "subnets[1]: 10.1.0.0/16 overlaps with subnets[0], 10.1.0.0/24"},
	} {
		t.Run(c.name, func(t *testing.T) { b.refused(t, c.want, c.stdin, "create") })
	}
	t.Run("but not with its own definition", func(t *testing.T) {
		b.must(t, `{"name":"a","network_interface":"br-a","subnets":[{"subnet":"10.99.0.0/16"}]}`, "create")
	})
	t.Run("nor with what is no definition of Podman's", func(t *testing.T) {
		copied := []byte(`{"name":"old","network_interface":"br-old","subnets":[{"subnet":"10.96.0.0/16"}]}`)
		if err := os.WriteFile(filepath.Join(b.Networks, "old.json.bak"), copied, 0o600); err != nil {
			t.Fatal(err)
		}
		b.must(t, `{"name":"b","network_interface":"br-old","subnets":[{"subnet":"10.96.0.0/16"}]}`, "create")
	})
	t.Run("when nothing is free", func(t *testing.T) {
		b.host.taken = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		b.refused(t, "no /24 of 10.87.0.0/16 can be had for network b: 10.87.2.0/24 overlaps with 10.0.0.0/8", `{"name":"b"}`, "create")
	})
	t.Run("and not what it can't find out", func(t *testing.T) {
		b.host.taken, b.host.err = nil, model.ErrUnsupported
		b.refused(t, model.ErrUnsupported.Error(), `{"name":"b"}`, "create")
	})
}

func TestCreateSaysThatNamesAreNotServed(t *testing.T) {
	b := newBench(t)
	b.names.installed = false
	for stdin, want := range map[string]bool{
		`{"name":"b","dns_enabled":true}`:  true,
		`{"name":"b","dns_enabled":false}`: false,
	} {
		_, stderr, status := b.call(stdin, "create")
		if status != 0 || strings.Contains(stderr, "aardvark-dns is not installed") != want {
			t.Errorf("%s: status %d, %q", stdin, status, stderr)
		}
	}
	b.refused(t, "aardvark-dns", `{"name":"b","dns_enabled":true,"network_dns_servers":["9.9.9.9"]}`, "create")
}

func TestBridgeNames(t *testing.T) {
	seen := map[string]string{}
	for _, s := range []string{"10.87.2.0/24", "10.87.255.0/24", "10.87.2.0/25", "10.87.0.0/16", "10.88.2.0/24", "fd00::/64", "fd00:1::/64"} {
		name := bridgeName(&model.Network{Name: "n"}, netip.MustParsePrefix(s))
		if err := model.ValidIfName(name); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if seen[name] != "" {
			t.Errorf("%s and %s: %s", seen[name], s, name)
		}
		seen[name] = s
	}
	if seen["flatnet-br255"] == "" {
		t.Errorf("%v", seen)
	}
}
