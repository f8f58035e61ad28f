package tests

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// root is the repository, and program the plugin that make build made in it.
var (
	root, _ = filepath.Abs("..")
	program = filepath.Join(root, "bin", "flatnet")
)

func TestMain(m *testing.M) {
	lab.Main()
	if _, err := os.Stat(program); err != nil {
		println("make build first:", err.Error())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const (
	bridgeName = "flatnet-br0"
	gateway    = "10.87.1.1"
	leaseFile  = "/var/lib/flatnet/ipam/allocations.json"
)

// A box is a world with the plugin in it.
type box struct {
	*lab.World
	t *testing.T
}

// newBox gives a test that runs beside others a world of its own.
func newBox(t *testing.T) box {
	t.Helper()
	t.Parallel()
	return box{lab.New(t), t}
}

// in is the same box for a subtest.
func (b box) in(t *testing.T) box { return box{b.World.In(t), t} }

// call is a call about eth0 of the container id with the least configuration.
func call(command, id string) lab.Call {
	return lab.Call{Command: command, ID: id, NetNS: "/run/netns/" + id, IfName: "eth0", Conf: lab.Conf}
}

// conf is the least configuration with further keys.
func conf(keys string) string {
	return strings.TrimSuffix(lab.Conf, "}") + "," + keys + "}"
}

// do makes a call that must succeed.
func (b box) do(c lab.Call) lab.Reply {
	b.t.Helper()
	r := b.Call(program, c)
	if r.Exit != 0 {
		b.t.Fatalf("%s %s %s: exit %d: %s", c.Command, c.ID, c.Conf, r.Exit, r.Stdout)
	}
	return r
}

// refused makes a call that must fail with an error of that code (0: any)
// which contains all texts.
func (b box) refused(c lab.Call, code int, texts ...string) {
	b.t.Helper()
	r := b.Call(program, c)
	if r.Exit == 0 || r.Code == 0 || r.Msg == "" || code != 0 && r.Code != code {
		b.t.Errorf("%s: exit %d: %s; want an error of code %d", c.Command, r.Exit, r.Stdout, code)
	}
	for _, text := range texts {
		if !strings.Contains(r.Msg+" "+r.Details, text) {
			b.t.Errorf("%s: %q %q does not name %q", c.Command, r.Msg, r.Details, text)
		}
	}
}

// A container is a namespace with an attachment.
type container struct {
	lab.Place
	add    lab.Call
	result lab.Reply
	addr   string
}

// attach makes a namespace and adds it to the network; edit changes the call.
func (b box) attach(id string, edit ...func(*lab.Call)) container {
	b.t.Helper()
	c := container{Place: b.NetNS(id), add: call("ADD", id)}
	for _, f := range edit {
		f(&c.add)
	}
	c.result = b.do(c.add)
	c.addr = c.result.Addr()
	return c
}

// then is a later call about the attachment, with its prevResult.
func (c container) then(command string) lab.Call {
	later := c.add
	later.Command, later.Conf = command, lab.WithPrev(c.add.Conf, c.result)
	return later
}

// A link is what ip -json -details link says about an interface.
type link struct {
	IfName      string
	Address     string
	Ifalias     string
	Master      string
	MTU         int
	Promiscuity int
	Flags       []string
	Linkinfo    struct {
		Kind string         `json:"info_kind"`
		Data map[string]any `json:"info_data"`
		Port map[string]any `json:"info_slave_data"`
	}
	AddrInfo []struct {
		Local     string
		Prefixlen int
		Family    string
		Scope     string
	} `json:"addr_info"`
}

// links are the interfaces of a place, with their addresses.
func links(t *testing.T, p lab.Place) map[string]link {
	t.Helper()
	var list []link
	fromJSON(t, p.Run("ip", "-json", "-details", "addr"), &list)
	byName := map[string]link{}
	for _, l := range list {
		byName[l.IfName] = l
	}
	return byName
}

func (l link) up() bool { return slices.Contains(l.Flags, "UP") }

// ipv4 are the interface's IPv4 addresses as "address/length".
func (l link) ipv4() []string {
	var addrs []string
	for _, a := range l.AddrInfo {
		if a.Family == "inet" {
			prefix, _ := json.Marshal(a.Prefixlen)
			addrs = append(addrs, a.Local+"/"+string(prefix))
		}
	}
	return addrs
}

// leases is the promised part of the lease file.
func (b box) leases() map[string]string {
	b.t.Helper()
	return b.leasesIn(leaseFile)
}

func (b box) leasesIn(path string) map[string]string {
	b.t.Helper()
	file := struct{ Allocations map[string]string }{map[string]string{}}
	if content := b.Read(path); content != "" {
		fromJSON(b.t, content, &file)
	}
	return file.Allocations
}

// state is all that a plugin could have left on the host: interfaces, rules,
// leases.
func (b box) state() string {
	b.t.Helper()
	var s strings.Builder
	names := []string{}
	for name := range links(b.t, b.Place) {
		names = append(names, name)
	}
	slices.Sort(names)
	leases, _ := json.Marshal(b.leases())
	s.WriteString("links: " + strings.Join(names, " ") + "\nrules: " + b.Run("nft", "list", "ruleset") + "\nleases: " + string(leases))
	return s.String()
}

// same fails unless the state is what it was.
func (b box) same(before string) {
	b.t.Helper()
	if after := b.state(); after != before {
		b.t.Errorf("state was\n%s\nand now is\n%s", before, after)
	}
}

// clean fails unless nothing but the bridge is left.
func (b box) clean() {
	b.t.Helper()
	for name := range links(b.t, b.Place) {
		if !slices.Contains([]string{"lo", lab.Uplink, bridgeName}, name) {
			b.t.Errorf("interface %s is left", name)
		}
	}
	if rules := b.Run("nft", "list", "ruleset"); rules != "" {
		b.t.Errorf("rules are left:\n%s", rules)
	}
	if leases := b.leases(); len(leases) != 0 {
		b.t.Errorf("leases are left: %v", leases)
	}
}

func fromJSON(t *testing.T, s string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), v); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
}

// open starts a program that ends with its stdin, which the test's end closes.
func (b box) open(cmd *exec.Cmd) (stdin io.Closer, stdout io.Reader) {
	b.t.Helper()
	in, ierr := cmd.StdinPipe()
	out, oerr := cmd.StdoutPipe()
	if err := errors.Join(ierr, oerr); err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return in, out
}
