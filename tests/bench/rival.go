package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// A rival is a network program to measure.
type rival struct {
	Name string
	Door string // cni, netavark (its plugins), main (netavark itself) or floor
	Root string // the directory that is its root, if it is not the machine's own
	// Program is its path below Root. Portmap is the plugin called beside it for a
	// published port; without one, the program publishes ports itself.
	Program, Portmap string
	Conf             string
	PortConf         string // Portmap's
	Env              []string
	NoPorts          bool
	Slow             bool // a thousand containers take minutes
}

// A world says where in it the parts of the benchmark are.
type world struct {
	Flatnet, Floor, GoFloor, Empty string
	Stable, Sid                    string // roots with Debian's packages
	Experimental                   string // another one, or empty
	Leases                         string // a directory on a disk
	Quick                          bool
}

// rivals are all that take part. Every one keeps leases on the same disk,
// except netavark, which is told the address.
func (w world) rivals() []rival {
	all := []rival{
		w.floor(floorName, w.Floor),
		w.floor(goFloorName, w.GoFloor),
		{Name: flatnetCNI, Door: "cni", Program: w.Flatnet, Conf: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"cni","type":"flatnet","bridge":"fl-cni",
			"ipam":{"type":"flatnet-ipam","subnet":"10.87.0.0/16","dataDir":%q}}`, w.leases("flatnet"))},
		{Name: "flatnet, netavark's plugin", Door: "netavark", Program: w.Flatnet, Conf: `{"name":"plug","id":"` + strings.Repeat("ab", 32) + `","driver":"flatnet",
			"network_interface":"fl-plug","subnets":[{"subnet":"10.86.0.0/16"}],"ipam_options":{"driver":"flatnet"}}`},
		w.bridge("bridge 1.9.1, no masquerade", w.Sid, "", "iptables"),
		w.bridge("bridge 1.9.1, iptables", w.Sid, "iptables", "iptables"),
		w.bridge("bridge 1.9.1, nftables", w.Sid, "nftables", "nftables"),
		w.bridge("bridge of stable, iptables", w.Stable, "stable", "iptables"),
		w.netavark("netavark, no firewall", w.Sid, "none"),
		w.netavark("netavark, nftables", w.Sid, "nftables"),
	}
	if w.Experimental == "" {
		return all
	}
	return append(all, w.netavark("netavark of experimental, no firewall", w.Experimental, "none"),
		w.netavark("netavark of experimental, nftables", w.Experimental, "nftables"))
}

// roots are the directories with Debian's packages.
func (w world) roots() []string {
	roots := []string{w.Stable, w.Sid}
	if w.Experimental != "" {
		roots = append(roots, w.Experimental)
	}
	return roots
}

// leases is the directory of a rival's leases.
func (w world) leases(rival string) string { return filepath.Join(w.Leases, rival) }

// floor is the yardstick in C or in Go. Rivals' hosts are their own, and so the two may
// have the same bridge and table.
func (w world) floor(name, program string) rival {
	env := []string{"FLOOR_BRIDGE=floor0", "FLOOR_LEASES=" + w.leases(filepath.Base(program))}
	return rival{Name: name, Door: "floor", Program: program, NoPorts: true, Env: env}
}

// bridge is the reference plugin with host-local and, for ports, portmap. Its
// iptables backend was the only one in older versions, which ignore the key.
func (w world) bridge(name, root, masquerade, ports string) rival {
	id := strings.Map(func(r rune) rune {
		if r == ' ' || r == '.' || r == ',' {
			return '-'
		}
		return r
	}, name)
	backend := masquerade
	if masquerade == "stable" {
		backend = "iptables"
	}
	r := rival{Name: name, Door: "cni", Root: root, Program: "/usr/lib/cni/bridge", Portmap: "/usr/lib/cni/portmap", Slow: true}
	r.Conf = fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"type":"bridge","bridge":"ref0","isGateway":true,"isDefaultGateway":true,
		"ipMasq":%v,"ipMasqBackend":%q,"ipam":{"type":"host-local","subnet":"10.89.0.0/16","dataDir":%q}}`,
		id, masquerade != "", backend, w.leases(id))
	r.PortConf = fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"type":"portmap","backend":%q,"snat":true}`, id, ports)
	if ports == "nftables" { // bridge 1.9.1 prefers an iptables that it finds
		r.Env = []string{"PATH=/nft-only"}
	}
	return r
}

// netavark is netavark's own bridge driver.
func (w world) netavark(name, root, firewall string) rival {
	return rival{Name: name, Door: "main", Root: root, Program: "/usr/lib/podman/netavark", Env: []string{"NETAVARK_FW=" + firewall}, NoPorts: firewall == "none",
		Conf: `{"name":"own","id":"` + strings.Repeat("cd", 32) + `","driver":"bridge","network_interface":"nv0","subnets":[{"subnet":"10.90.0.0/16","gateway":"10.90.0.1"}],
			"ipv6_enabled":false,"internal":false,"dns_enabled":false,"ipam_options":{"driver":"host-local"}}`, Slow: firewall != "none"}
}

// with adds keys to an object of JSON.
func with(conf string, keys ...string) string {
	return strings.TrimSuffix(strings.TrimSpace(conf), "}") + "," + strings.Join(keys, ",") + "}"
}

// A port is a published one, from a host port to container port 80.
type port struct {
	Host      int    `json:"hostPort"`
	Container int    `json:"containerPort"`
	Protocol  string `json:"protocol"`
}

// A container is one that a rival attaches to its host.
type container struct {
	id, host, netns string
	number          int // for rivals that are told the address
	ports           []port
	ifname          string
}

// capability is the key of a CNI configuration that publishes ports.
func (c container) capability() string {
	list, _ := json.Marshal(c.ports)
	return `"runtimeConfig":{"portMappings":` + string(list) + `}`
}

// options is what netavark and its plugins read from stdin.
func (r rival) options(c container) string {
	var ports []string
	for _, p := range c.ports {
		ports = append(ports, fmt.Sprintf(`{"container_port":%d,"host_ip":"","host_port":%d,"protocol":%q,"range":1}`, p.Container, p.Host, p.Protocol))
	}
	mapped := `"port_mappings":[` + strings.Join(ports, ",") + `]`
	head := fmt.Sprintf(`{"container_id":%q,"container_name":%q,%s,`, c.id, c.id, mapped)
	if r.Door == "netavark" {
		return head + `"network":` + r.Conf + `,"network_options":{"interface_name":"eth0"}}`
	}
	addr := fmt.Sprintf("10.90.%d.%d", (c.number+2)/256, (c.number+2)%256)
	return head + fmt.Sprintf(`"networks":{"own":{"static_ips":[%q],"interface_name":"eth0"}},"network_info":{"own":%s}}`, addr, r.Conf)
}
