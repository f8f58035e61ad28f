package tests

import (
	"encoding/json"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// What people see is what the kernel has: attachments of two networks, their ports,
// what is missing after a flush, and nothing after DEL.
func TestCommandsForPeople(t *testing.T) {
	b := newBox(t)
	web := b.attach("web", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
	other := b.attach("other", func(c *lab.Call) { c.Conf = dualOther })
	type row struct {
		Network, Container, Interface, HostInterface, State string
		Addresses                                           []string
		Ports                                               []struct{ HostPort, ContainerPort int }
	}
	list := func() (rows []row) {
		if out := b.Run(program, "list", "--json"); json.Unmarshal([]byte(out), &rows) != nil {
			t.Errorf("no JSON: %s", out)
		}
		return rows
	}
	rows := list()
	if len(rows) != 2 {
		t.Fatalf("%+v", rows)
	}
	r := rows[0]
	if r.Network != "flatnet" || r.Container != "web" || r.Interface != "eth0" || r.HostInterface != "fn-web" || r.State != "attached" ||
		strings.Join(r.Addresses, ",") != web.addr+","+web.addr6() || len(r.Ports) != 2 || r.Ports[0].HostPort != 8080 || r.Ports[0].ContainerPort != 80 {
		t.Errorf("%+v", r)
	}
	for _, args := range []string{"list", "ps", "show", "show --dot", "show --mermaid", "list flatnet"} {
		out := b.Sh(program + " " + args)
		for _, text := range []string{"flatnet", web.addr, web.addr6(), "8080->80/tcp"} {
			if !strings.Contains(out, text) {
				t.Errorf("flatnet %s does not show %s:\n%s", args, text, out)
			}
		}
		if strings.Contains(out, other.addr) != (args != "list flatnet") {
			t.Errorf("flatnet %s:\n%s", args, out)
		}
	}
	if out := b.Run(program, "status"); strings.Count(out, " ok") != 2 || !strings.Contains(out, "1/253 of 10.87.1.0/24") {
		t.Errorf("status:\n%s", out)
	}
	b.Run("nft", "delete", "table", "ip", "flatnet")
	if _, err := b.Try(program, "status"); err == nil || !strings.Contains(err.Error(), "network flatnet: ") || strings.Contains(err.Error(), "network other") {
		t.Errorf("status after a table was deleted: %v", err)
	}
	b.reload()
	b.Run(program, "status")
	b.Sh("rm -r /run/flatnet/*/other")
	if rows := list(); len(rows) != 2 || rows[1].State != "no record" || strings.Join(rows[1].Addresses, ",") != other.addr+","+other.addr6() {
		t.Errorf("without a record: %+v", rows)
	}
	for _, c := range []container{web, other} {
		b.do(c.then("DEL"))
	}
	if rows := list(); len(rows) != 0 {
		t.Errorf("after DEL: %+v", rows)
	}
}
