package tests

import (
	"strings"

	"flatnet/tests/lab"
)

// refusals are failures that leave a world as it was.
var refusals = []trouble{
	{"configuration on stdin: at byte ...: unexpected ...", []string{"unexpected end", "byte 8", "want a value"},
		[]cause{adding(like(`{"name":`))}},
	{"cniVersion: ... is not supported, only ... are", []string{"not supported", `cniVersion: "2.0.0"`, "only 0.1.0"},
		[]cause{adding(like(strings.Replace(lab.Conf, "1.0.0", "2.0.0", 1)))}},
	{"...: want ..., got ...", []string{`got "yes"`, "ipMasq", "want true or false"}, []cause{keyed(`"ipMasq":"yes"`)}},
	{"...: ... is not a subnet in the form ...", []string{"is not a subnet", "subnet", "in the form 10.87.1.0/24"},
		[]cause{keyed(`"ipam":{"subnet":"10.87.1.0"}`), creating(`"subnets":[{"subnet":"10.87.1.0"}]`)}},
	{"range gateway ... is not in subnet ...", []string{"is not in subnet", "10.88.0.1", "leave it out"},
		[]cause{keyed(`"ipam":{"subnet":"10.87.1.0/24","gateway":"10.88.0.1"}`), creating(`"subnets":[{"subnet":"10.87.5.0/24","gateway":"10.88.0.1"}]`)}},
	{"mtu: ... is less than ...", []string{"less than", "mtu", "1280"}, []cause{keyed(`"mtu":1000,"ipam":{"subnet":"fd87::/64"}`),
		creating(`"subnets":[{"subnet":"fd87::/64"}],"options":{"mtu":"1000"}`)}},
	{"prevResult: must not be given to ADD: ...", []string{"must not be given", "prevResult", "first plugin of the list"},
		[]cause{keyed(`"prevResult":{"cniVersion":"1.0.0"}`)}},
	{"ipam.type ...: no such plugin in CNI_PATH ...", []string{"no such plugin", "none-such", "install it there"}, []cause{keyed(`"ipam":{"type":"none-such"}`)}},
	{"options...: flatnet has no such option...", []string{"no such option", "vrf", "ip link set BRIDGE master VRF"},
		[]cause{creating(subnet5 + `,"options":{"vrf":"red"}`)}},
	{"network ... has no free address: ...", []string{"no free address", "network ", "give the network a larger range"},
		[]cause{keyed(`"ipam":{"subnet":"10.87.1.0/24","rangeEnd":"10.87.1.2"}`), keyed(`"ipam":{"subnet":"10.87.1.0/30"}`),
			exhausted}},
	{"address ... is in no subnet of the ranges ...", []string{"is in no subnet", "10.98.0.1", "request one of these"},
		[]cause{adding(wanting("10.98.0.1")), setting(network{container: `"static_ips":["10.98.0.1"]`})}},
	{"address ... is leased to ...", []string{"is leased", "flatnet/first/eth0", "request another one"}, []cause{adding(wanting("10.87.1.2"))}},
	{"host port ... is published by ...", []string{"8080/tcp", "flatnet/first/eth0", "choose another host port"},
		[]cause{adding(like(publish(lab.Conf, mapping(8080, 80, "")))), setting(network{ports: port("")})}},
	{"port ... can't be published on hostIP ...: ...", []string{"can't be published", "::1", "choose another, such as 127.0.0.1"},
		[]cause{adding(like(publish(lab.Conf, mapping(8090, 80, `,"hostIP":"::1"`)))), setting(network{ports: port("::1")})}},
	{"interface ... exists already in the container ...", []string{"exists already", "eth0", "choose another name"},
		[]cause{adding(func(c *lab.Call) { c.NetNS = "/run/netns/first" })}},
	{"CNI_NETNS: network namespace ... does not exist...", []string{"does not exist", "/run/netns/gone", "is the container still running"},
		[]cause{adding(func(c *lab.Call) { c.NetNS = "/run/netns/gone" })}},
	{"subnet ... overlaps with ... of ...", []string{"overlaps", "192.0.2.1/24 of interface up0", "choose another subnet"},
		[]cause{keyed(`"bridge":"br5","ipam":{"subnet":"192.0.2.0/25"}`), creating(`"subnets":[{"subnet":"192.0.2.0/25"}]`)}},
}

// damages are failures of a host, each in a world of its own.
var damages = []trouble{
	{"bridge ... has the address ... and not ...", []string{"has the address 10.87.9.254/24", "bridge br9", "forceAddress would replace it"},
		[]cause{after("ip link add br9 type bridge; ip addr add 10.87.9.254/24 dev br9", keyed(`"bridge":"br9","ipam":{"subnet":"10.87.9.0/24"}`)),
			creating(`"subnets":[{"subnet":"10.87.9.0/24"}],"network_interface":"br9"`)}},
	{"subnetFile: ... does not exist: ...", []string{"does not exist", "/run/flannel/subnet.env", "Start flanneld"},
		[]cause{keyed(`"subnetFile":"/run/flannel/subnet.env"`), creating(`"options":{"subnet_file":"/run/flannel/subnet.env"}`)}},
	{"subnetFile: ... can be written by others ...", []string{"can be written by others", "/run/flannel", "chmod go-w /run/flannel"},
		[]cause{after("mkdir -m 777 /run/flannel", keyed(`"subnetFile":"/run/flannel/subnet.env"`))}},
	{"the subnet of network ... on this host was ... and is now ...", []string{"addresses of the earlier one", "10.100.3.0/24 and is now 10.100.4.0/24", "Stop them all"},
		[]cause{func(b box) string {
			b.attach("c9", like(strings.Replace(conf(`"hostId":3,"bridge":"br9"`), `"name":"flatnet"`, `"name":"several"`, 1)))
			return adding(like(strings.Replace(conf(`"hostId":4,"bridge":"br9"`), `"name":"flatnet"`, `"name":"several"`, 1)))(b)
		}}},
	{"network ...: mtu ... is more than the ... of ...", []string{"is more than", "mtu 1350.*1300 of tunnel", "leave mtu out"},
		[]cause{after("ip link add tunnel mtu 1300 type veth peer peer; ip link set tunnel up; ip link set peer up; ip route add 10.100.9.0/24 dev tunnel",
			adding(like(strings.Replace(conf(`"hostId":3,"bridge":"br9","mtu":1350`), `"name":"flatnet"`, `"name":"several"`, 1))))}},
	{"registry ...: ... failed for ... of ... containers...", []string{"connection refused", "http://192.0.2.2:1/c: POST", "registryEnabled to false"},
		[]cause{keyed(`"registryEndpoints":["http://192.0.2.2:1/c"]`), setting(network{keys: subnet5 + `,"options":{"registry_endpoints":"http://192.0.2.2:1/c"}`})}},
	{"port ... is published although a program of the host listens at ...", []string{"a program of the host listens", "8090", "stop it"},
		[]cause{func(b box) string {
			b.Serve("127.0.0.1:8090")
			return adding(like(publish(lab.Conf, mapping(8090, 80, ""))))(b)
		}}},
	{"...: not supported by this kernel ...", []string{"not supported", "CONFIG_NF_TABLES", "modprobe"}, []cause{func(b box) string {
		lacking := fault{point: point{call: "socket", n: 2}, errno: 93, onward: true}.wrapper(injector(b.t))
		r := b.Call(program, lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}, lacking...)
		return r.Msg + r.Details
	}}},
	{"...: operation not permitted...", []string{"operation not permitted", "flatnet.ports|veth fn-c1", "must be run as root"}, []cause{func(b box) string {
		cmd := b.Cmd("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", program, "reload")
		out, _ := cmd.CombinedOutput()
		return string(out)
	}, func(b box) string {
		r := b.Call(program, call("ADD", "c1"), "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
		return r.Msg + r.Details
	}}},
	{"data directory ...: ... belongs to user ...", []string{"belongs to user 65534", "/var/lib/flatnet/ipam", "run chown"},
		[]cause{after("chown 65534 /var/lib/flatnet/ipam", keyed(`"mtu":1400`)), setting(network{})}},
	{"write ...: no space left on device ...", []string{"no space left", "/var/lib/flatnet/ipam", "make room"},
		[]cause{after("mount -t tmpfs -o size=8k t /var/lib/flatnet/ipam; dd if=/dev/zero of=/var/lib/flatnet/ipam/x bs=4k count=1 2>&1; true", keyed(`"mtu":1400`)), setting(network{})}},
	{"chain ... drops what containers of network ... send ...", []string{"drops what containers", "inet ufw forward", "forwardAccept would add one"},
		[]cause{after(ufw, status), setting(network{})}},
	{"... is not as it should be (flatnet reload mends that)...", []string{"is not as it should be", "ip flatnet", "flatnet reload"},
		[]cause{after("nft flush ruleset", status), func(b box) string {
			out, err := b.Try(program, "status")
			return out + err.Error()
		}}},
	{"sysctl net/ipv4/conf/.../forwarding is 0, ...", []string{"is 0", "net/ipv4/conf/up0/forwarding", "set it to 1"},
		[]cause{after("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/up0/forwarding", status)}},
	{"the host has disabled IPv6, which the network needs: sysctl ... must be 0", []string{"disabled IPv6", "net/ipv6/conf/.*/disable_ipv6", "must be 0"},
		[]cause{after("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6", keyed(`"bridge":"br9","ipam":{"subnet":"fd87::/64"}`)), creating(`"subnets":[{"subnet":"fd87::/64"}]`)}},
	{"aardvark-dns is not installed, so the containers of network ...", []string{"is not installed", "network opt", "--disable-dns"},
		[]cause{after("rm -f /usr/lib/podman/aardvark-dns /usr/libexec/podman/aardvark-dns", func(b box) string {
			cmd := b.Cmd(program, "create")
			cmd.Stdin = strings.NewReader(`{"name":"opt","id":"1","driver":"flatnet","internal":false,"dns_enabled":true,` + subnet5 + `}`)
			out, _ := cmd.CombinedOutput()
			return string(out)
		})}},
}

const ufw = "nft 'add table inet ufw; add chain inet ufw forward { type filter hook forward priority 0; policy drop; }'"

// podmans are failures of Podman before it calls flatnet.
var podmans = []trouble{
	{"Error: failed to find driver or plugin ...", []string{`"flatnet"`}, []cause{podmanOf("trixie", "rm /usr/local/libexec/netavark/flatnet",
		"make -s -C "+lab.Repository+" -o build install")}},
	{"Error: unsupported driver flatnet: invalid argument", nil, []cause{podmanOf("bookworm", "sed -i s/cni/netavark/ /etc/containers/containers.conf",
		`printf '[network]\nnetwork_backend = "cni"\n' >/etc/containers/containers.conf.d/flatnet.conf`)}},
}
