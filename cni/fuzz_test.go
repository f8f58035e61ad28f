package cni

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
)

func isNewIfName(s string) bool {
	_, err := fields.ParseIfName(s)
	return err == nil
}

// invariants are what an engine may rely on, whatever the runtime sends.
func invariants(t *testing.T, f *fake) {
	t.Helper()
	c, command := f.config, f.calls[0]
	must := func(ok bool, what string) {
		t.Helper()
		if !ok {
			t.Fatalf("%s: %s: %+v", command, what, *c)
		}
	}
	must(model.ValidName(c.Network.Name) == nil, "network name")
	must(isNewIfName(c.Network.Bridge), "bridge")
	must(fields.CheckMTU(uint64(c.Network.MTU)) == nil, "MTU")
	must(c.Network.IsGateway || !c.Network.IsDefaultGateway, "default gateway without gateway")
	must(c.IPAM.Type == "" || model.ValidName(c.IPAM.Type) == nil && c.IPAM.Type != "flatnet", "ipam.type")
	must(c.IPAM.DataDir == "" || c.IPAM.DataDir[0] == '/' && !strings.Contains(c.IPAM.DataDir, "/../"), "dataDir")
	for _, p := range c.Network.Flat {
		must(p.IsValid() && p == p.Masked(), "noMasq")
	}
	attachment := command == "ADD" || command == "CHECK" || command == "DEL"
	if k := c.Request.Key; attachment {
		_, err := model.NewKey(k.Network, k.ContainerID, k.IfName)
		must(err == nil && k.Network == c.Network.Name, "key")
		must(command == "DEL" || c.Request.NetNS != "", "network namespace")
	} else {
		must(k == model.Key{}, "key without an attachment")
	}
	must(command != "ADD" || isNewIfName(c.Request.Key.IfName), "interface name")
	must(c.Request.MAC[0]&1 == 0, "MAC")
	for _, ip := range c.Request.IPs {
		must(ip.IsValid() && !ip.Is4In6() && ip.Zone() == "", "requested address")
	}
	if command == "DEL" {
		must(c.IPAM.Sets == nil && c.Request.IPs == nil, "pool on DEL")
		return
	}
	must(!c.Network.HairpinMode || !c.Network.PromiscMode, "hairpin and promiscuous")
	must((c.IPAM.Type == "") == (len(c.IPAM.Sets) > 0), "pool of a delegate")
	must(c.IPAM.Type == "" || c.IPAM.Path != "", "delegate without CNI_PATH")
	poolInvariants(c.IPAM.Sets, must)
	for _, r := range c.Network.Routes {
		must(r.Dst.IsValid() && r.Dst == r.Dst.Masked(), "route")
		must(!r.Gateway.IsValid() || r.Gateway.Is4() == r.Dst.Addr().Is4(), "gateway")
	}
	for _, s := range append(append([]string{}, c.Network.DNS.Search...), c.Request.Names...) {
		must(!strings.ContainsAny(s, " \n\x00"), "word")
	}
	for _, k := range f.valid {
		_, err := model.NewKey(k.Network, k.ContainerID, k.IfName)
		must(err == nil && k.Network == c.Network.Name, "valid attachment")
	}
	for _, ip := range f.prev.IPs {
		must(ip.Address.IsValid() && ip.Interface >= -1 && ip.Interface < len(f.prev.Interfaces), "prevResult address")
	}
	for _, r := range f.prev.Routes {
		must(r.Dst.IsValid(), "prevResult route")
	}
}

func poolInvariants(sets [][]model.Range, must func(bool, string)) {
	for _, set := range sets {
		for _, r := range set {
			must(r.Subnet.IsValid() && r.Subnet == r.Subnet.Masked() && !r.Subnet.Addr().Is4In6(), "subnet")
			for _, a := range []netip.Addr{r.Start, r.End, r.Gateway} {
				must(!a.IsValid() || !a.Is4In6() && a.Zone() == "", "range")
			}
		}
	}
}

// serve makes a call with anything in it and checks what it came to.
func serve(t *testing.T, env map[string]string, stdin string) {
	t.Helper()
	f := &fake{result: full}
	status, out := call(f, env, stdin)
	if len(f.calls) > 0 {
		invariants(t, f)
	}
	if out != "" && !json.Valid([]byte(out)) {
		t.Fatalf("stdout %q", out)
	}
	switch command := env["CNI_COMMAND"]; {
	case status != 0:
		var r reply
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Code == 0 || r.Msg == "" || r.CNIVersion == "" || len(f.calls) > 0 {
			t.Fatalf("status %d, calls %v, stdout %q", status, f.calls, out)
		}
	case command == "VERSION":
		if len(f.calls) > 0 {
			t.Fatalf("calls %v", f.calls)
		}
	case len(f.calls) != 1 || f.calls[0] != command || (out != "") != (command == "ADD"):
		t.Fatalf("calls %v, stdout %q", f.calls, out)
	}
}

func FuzzRequest(f *testing.F) {
	for _, command := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", ""} {
		f.Add(command, "c1", "/run/netns/x", "eth0", "", "/usr/lib/cni", minimal)
	}
	f.Add("ADD", "c1", "x", "eth1", "IgnoreUnknown=1;K8S_POD_NAME=c2;MAC=02:aa:bb:cc:dd:01;IP=10.99.1.77,fd00::5/64", "", podman)
	f.Add("DEL", "c1", "", "eth1", "x", "", `{"name":"n","ipam":{"type":"dhcp","dataDir":"/x"},"mtu":-1}`)
	f.Add("GC", "", "", "", "", "", `{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}]}`)
	f.Add("ADD", "c1", "x", "eth1", "", "/x", `{"name":"n","vlan":0,"mtu":1280,"noMasq":["10.0.0.0/8"],"ipam":{"type":"","subnet":"fd00::/64","gateway":"fd00::1",
		"ranges":[[{"subnet":"10.1.2.0/24","rangeStart":"10.1.2.3","rangeEnd":"10.1.2.9"}]],"routes":[{"dst":"::/0","gw":"fd00::1","mtu":1,"scope":2,"table":3}],
		"resolvConf":"/r"},"dns":{"domain":"d"},"args":{"cni":{"ips":["10.1.2.4/24"],"mac":"02:00:00:00:00:01"}},
		"runtimeConfig":{"ips":["fd00::7"],"ipRanges":[[{"subnet":"10.9.0.0/16"}]],"aliases":{"n":["a"]},"dns":{"searches":["s"]}}}`)
	f.Fuzz(func(t *testing.T, command, id, netns, ifName, args, path, stdin string) {
		serve(t, map[string]string{"CNI_COMMAND": command, "CNI_CONTAINERID": id, "CNI_NETNS": netns,
			"CNI_IFNAME": ifName, "CNI_ARGS": args, "CNI_PATH": path}, stdin)
	})
}

// FuzzPrevResult also gives back to CHECK, in each version, what it was given.
func FuzzPrevResult(f *testing.F) {
	for _, tt := range resultShapes {
		for i, v := range Versions() {
			if strings.Contains(tt.versions, v) {
				f.Add(uint8(i), `{"cniVersion":"`+v+`"`+tt.want)
			}
		}
	}
	f.Fuzz(func(t *testing.T, index uint8, prev string) {
		all := Versions()
		version := all[int(index)%len(all)]
		config := func(prev string) string {
			return `{"cniVersion":"1.1.0","name":"n","prevResult":` + prev + `}`
		}
		serve(t, environ("CHECK"), config(prev))
		first := &fake{}
		if status, _ := call(first, environ("CHECK"), config(prev)); status != 0 {
			return
		}
		again := &fake{}
		text := string(encodeResult(version, &first.prev))
		if status, out := call(again, environ("CHECK"), config(text)); status != 0 {
			t.Fatalf("%s\n%s", text, out)
		}
		if got := string(encodeResult(version, &again.prev)); got != text {
			t.Fatalf("got  %s\nwant %s", got, text)
		}
	})
}
