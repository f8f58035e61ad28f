package netavark

import (
	"encoding/json"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
)

// FuzzCall looks for input that makes a call panic, answer with anything but
// one JSON value, or do what is not valid.
func FuzzCall(f *testing.F) {
	commands := []string{"create", "setup", "teardown"}
	for i := range commands {
		for _, stdin := range []string{
			run, least, `{"name":"n","ipv6_enabled":true}`,
			`{"name":"flatnet","subnets":[{"subnet":"10.1.0.0/24","gateway":"10.1.0.9","lease_range":{"start_ip":"10.1.0.4"}}],"options":{"mtu":"1400","isolate":"false"},"labels":{"a":"b"},"routes":[{"destination":"10.5.0.0/16","gateway":"10.1.0.7","metric":1}]}`,
		} {
			f.Add(byte(i), []byte(stdin))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, stdin []byte) {
		b := newBench(t)
		command := commands[int(which)%len(commands)]
		args := []string{command}
		if command != "create" {
			args = append(args, netns)
		}
		stdout, _, status := b.call(string(stdin), args...)
		switch {
		case status == 0 && command == "teardown":
			if stdout != "" || len(b.host.deleted) != 1 {
				t.Fatalf("reply %q, deleted %v", stdout, b.host.deleted)
			}
			return
		case !json.Valid([]byte(stdout)):
			t.Fatalf("reply %q", stdout)
		case status != 0:
			if b.host.deleted != nil || b.host.network.Name != "" {
				t.Fatalf("%s, and something was done", stdout)
			}
			return
		case command == "create":
			// What create makes is complete: setup takes it.
			network := b.must(t, stdout, "create")
			b.must(t, `{"container_id":"c1","network":`+network+`,"network_options":{"interface_name":"eth0"}}`, "setup", netns)
		}
		n, r := b.host.network, b.host.request
		if _, err := model.NewKey(n.Name, r.Key.ContainerID, r.Key.IfName); err != nil {
			t.Fatal(err)
		}
		if err := model.ValidIfName(n.Bridge); err != nil || len(n.Subnets) == 0 || len(r.Ports) > fields.MaxPorts {
			t.Fatalf("bridge: %v, %d subnets, %d ports", err, len(n.Subnets), len(r.Ports))
		}
	})
}
