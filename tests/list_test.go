package tests

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"flatnet/tests/lab"
)

// forget takes a container's lease out of a lease file.
func (b box) forget(path, id string) {
	b.t.Helper()
	var file map[string]any
	fromJSON(b.t, b.Read(path), &file)
	delete(file["allocations"].(map[string]any), id)
	text, err := json.Marshal(file)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Write(path, string(text))
}

// Each state that an attachment can be in is told apart, and an age is the time since ADD,
// also after a reload has written the record again.
func TestListStates(t *testing.T) {
	b := newBox(t)
	const elsewhere = "/run/leases"
	b.NetNS("flying")
	began := time.Now().Add(-time.Second) // times are cut to seconds
	add := map[string]func(*lab.Call){
		"fine": nil, "nolease": nil, "norecord": nil, "stale": nil, "older": nil,
		"away": func(c *lab.Call) {
			c.Conf = `{"cniVersion":"1.0.0","name":"away","type":"flatnet","bridge":"br8","ipam":{"subnet":"10.88.8.0/24","dataDir":"` + elsewhere + `"}}`
		},
	}
	for id, edit := range add {
		if edit == nil {
			edit = func(*lab.Call) {}
		}
		b.attach(id, edit)
	}
	b.Sh("rm /run/flatnet/*/flatnet/norecord:eth0")
	b.vanish("stale")
	b.vanish("older")
	goOn := b.pause(call("ADD", "flying")) // which heals the leases
	b.forget(leaseFile, "older")
	b.forget(leaseFile, "nolease")
	want := map[string]string{"fine": "attached", "away": "attached", "nolease": "no lease", "norecord": "no record",
		"stale": "stale lease", "older": "stale record", "flying": "arriving"}
	check := func() {
		t.Helper()
		var rows []struct {
			Container, State string
			Addresses        []string
			Since            time.Time
		}
		fromJSON(t, b.Run(program, "list", "--json"), &rows)
		if len(rows) != len(want) {
			t.Errorf("%+v", rows)
		}
		for _, r := range rows {
			recorded := r.State != "no record" && r.State != "arriving" && want["older"]+r.Container != "stale" // reload drops that
			aged := r.Since.After(began) && !r.Since.After(time.Now())
			if r.State != want[r.Container] || len(r.Addresses) != 1 || recorded != aged {
				t.Errorf("%+v, want %s", r, want[r.Container])
			}
		}
	}
	check()
	b.Sh("ip link set fn-fine down; ip link set fn-fine name renamed; ip link set renamed up")
	b.Cmd(program, "reload").Run() // which names what it can't restore
	delete(want, "older")          // a reload removes records without a link
	check()
	if out := b.Sh(program + " list -q --network away; " + program + " list --no-header away"); !strings.HasPrefix(out, "away\naway  away") {
		t.Errorf("of one network: %s", out)
	}
	goOn()
	if _, err := b.Try(program, "list", "nowhere"); err == nil || !strings.Contains(err.Error(), `network "nowhere" has no attachment`) {
		t.Errorf("of none: %v", err)
	}
}
