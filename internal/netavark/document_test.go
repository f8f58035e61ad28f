package netavark

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// typed is what people type, by the keys of definitions and requests that netavark makes
// of it.
var typed = map[string]string{
	"subnet": "--subnet", "subnets": "--subnet", "gateway": "--gateway",
	"lease_range": "--ip-range", "start_ip": "--ip-range", "end_ip": "--ip-range",
	"routes": "--route", "destination": "--route", "route_type": "blackhole", "metric": "metric",
	"ipv6_enabled": "--ipv6", "internal": "--internal", "network_interface": "--interface-name",
	"dns_enabled": "--disable-dns", "network_dns_servers": "--dns", "options": "-o", "vlan": "vlan=ID",
	"interface_name": "interface_name=I", "host_interface_name": "host_interface_name=H",
	"static_ips": "ip=A", "static_mac": "mac=M", "aliases": "names",
	"port_mappings": "-p", "host_ip": "-p", "host_port": "-p", "container_port": "-p", "protocol": "-p", "range": "-p",
}

// spoken are keys that nobody types.
var spoken = []string{"name", "driver", "ipam_options", "network", "network_options", "container_id", "container_name",
	"dns_search_domains", "dns_server_ips", "mac_address"} // the last ones are of the reply

// All that this door reads is in docs/netavark.md, in the words that people type.
func TestOptionsAreDocumented(t *testing.T) {
	content, err := os.ReadFile("../../docs/netavark.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	source, err := os.ReadFile("options.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(source), "return map[string]set{")
	list, _, _ = strings.Cut(list, "}[name]")
	names := regexp.MustCompile(`(?m)^\t\t"([^"]+)":`).FindAllStringSubmatch(list, -1)
	if len(names) < len(options) {
		t.Errorf("only the options %q are found", names)
	}
	for _, m := range names {
		if option(m[1]) == nil || !strings.Contains(text, "`"+m[1]) {
			t.Errorf("docs/netavark.md has no option %s", m[1])
		}
	}
	for _, file := range []string{"network.go", "netavark.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		reads := regexp.MustCompile(`\.(?:Bool|Uint|String|Strings|Object|Objects|ManyObjects|NonZero)\("([^"]+)"|fields\.[A-Za-z0-9\[\]]+\([a-z]+, "([^"]+)"`)
		for _, m := range reads.FindAllStringSubmatch(string(source), -1) {
			key := m[1] + m[2]
			if word := typed[key]; !slices.Contains(spoken, key) && (word == "" || !strings.Contains(text, word)) {
				t.Errorf("%s reads %s, and docs/netavark.md has no %q", file, key, word)
			}
		}
	}
}
