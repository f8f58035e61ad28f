package subnetfile

import (
	"fmt"
	"strings"
	"testing"

	"flatnet/ipam"
)

const good = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{good, "[10.244.0.0/16] [10.244.3.1/24] 1450 true"},
		{"# by hand\n\n" + strings.Replace(good, "true", "false", 1) + "FLANNEL_LATER=x y\n", "[10.244.0.0/16] [10.244.3.1/24] 1450 false"},
		{good + "FLANNEL_IPV6_NETWORK=fd00:10:244::/56\nFLANNEL_IPV6_SUBNET=fd00:10:244:3::1/64\n",
			"[10.244.0.0/16 fd00:10:244::/56] [10.244.3.1/24 fd00:10:244:3::1/64] 1450 true"},
		{"FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:3::/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false", "[fd00::/48] [fd00:0:0:3::/64] 1430 false"},
		{strings.Replace(good, "10.244.0.0/16", "10.100.0.0/16,10.244.0.0/16", 1), "[10.100.0.0/16 10.244.0.0/16] [10.244.3.1/24] 1450 true"},
	} {
		f, err := parse([]byte(tt.in))
		if got := fmt.Sprint(f.networks, f.subnets, f.mtu, f.masquerades); err != nil || got != tt.want {
			t.Errorf("%q: %s, %v, want %s", tt.in, got, err, tt.want)
		}
	}
}

// An error names the line, the key and the value.
func TestParseRefuses(t *testing.T) {
	with := func(old, with string) string { return strings.Replace(good, old, with, 1) }
	for _, tt := range []struct{ in, want string }{
		{"", "FLANNEL_SUBNET is missing"},
		{with("FLANNEL_MTU=1450\n", ""), "FLANNEL_MTU is missing"},
		{with("FLANNEL_IPMASQ=true\n", ""), "FLANNEL_IPMASQ is missing"},
		{with("FLANNEL_NETWORK=10.244.0.0/16\n", ""), "FLANNEL_SUBNET and FLANNEL_NETWORK belong together"},
		{with("FLANNEL_SUBNET=10.244.3.1/24\n", ""), "FLANNEL_SUBNET and FLANNEL_NETWORK belong together"},
		{with("10.244.3.1/24", "10.244.3.1"), `line 2: FLANNEL_SUBNET: "10.244.3.1" is not of the form 10.244.3.1/24`},
		{with("10.244.3.1/24", "fd00::1/64"), `line 2: FLANNEL_SUBNET: "fd00::1/64"`},
		{with("10.244.3.1/24", "10.244.3.1/32"), "no room"},
		{with("10.244.3.1/24", "10.245.3.1/24"), "line 2: FLANNEL_SUBNET: 10.245.3.1/24 is no part of the network [10.244.0.0/16]"},
		{with("10.244.3.1/24", "10.244.3.255/24"), `line 2: FLANNEL_SUBNET: "10.244.3.255/24" has the subnet's broadcast address`},
		{with("10.244.3.1/24", "10.244.3.3/30"), `line 2: FLANNEL_SUBNET: "10.244.3.3/30" has the subnet's broadcast address`},
		{with("10.244.3.1/24", "127.0.0.1/24"), "not a subnet of hosts"},
		{with("10.244.3.1/24", "::ffff:10.1.1.1/120"), "FLANNEL_SUBNET"},
		{with("10.244.0.0/16", "10.0.0.0/0"), "not a subnet of hosts"},
		{with("1450", "14 50"), `line 3: FLANNEL_MTU: "14 50"`},
		{with("1450", "0"), `line 3: FLANNEL_MTU: "0"`},
		{with("1450", "70000"), `line 3: FLANNEL_MTU: "70000"`},
		{with("true", "yes"), `line 4: FLANNEL_IPMASQ: "yes" is neither true nor false`},
		{with("true", "true\r"), `line 4: FLANNEL_IPMASQ: "true\r"`},
		{good + "FLANNEL_MTU=1450\n", `line 5: "FLANNEL_MTU" is given twice, first in line 3`},
		{good + "FLANNEL_MTU\n", `line 5: "FLANNEL_MTU" is not of the form KEY=VALUE`},
		{good + "\x1b]0;x\x07\n", `line 5: "\x1b]0;x\a"`},
		{good + " FLANNEL_X=1\n", `line 5: " FLANNEL_X=1"`},
	} {
		if _, err := parse([]byte(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.in, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, "3.1/24", "3.255/24", 1)))
	f.Add([]byte(good + "FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00::3:ffff/112\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse(data)
		if err == nil && (len(file.subnets) == 0 || len(file.ranges()) != len(file.subnets) || file.mtu == 0) {
			t.Fatalf("%+v", file)
		}
		for _, set := range file.ranges() { // what is wrong with one is said here, by line and key
			if _, rerr := ipam.NewRange(set[0]); err == nil && rerr != nil {
				t.Fatalf("%q: %v", data, rerr)
			}
		}
	})
}
