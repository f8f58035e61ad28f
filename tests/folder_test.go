package tests

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

// folder reports whether the data directory has a folder of the network.
func (b box) folder(network string) bool {
	_, err := b.Try("test", "-e", ipamDir+"/"+network)
	return err == nil
}

// The folder of a network goes with its last lease, by both doors, and the one
// of the default network stays.
func TestFolderGoesWithTheLastLease(t *testing.T) {
	b := newBox(t)
	usual, first, second := b.attach("c0"), b.attach("c1", otherNetwork), b.attach("c2", otherNetwork)
	b.do(first.then("DEL"))
	if !b.folder("other/allocations.json") {
		t.Error("the folder is gone, and c2 has a lease in it")
	}
	b.do(second.then("DEL"))
	b.do(second.then("DEL"))
	if b.folder("other") {
		t.Errorf("the folder of other is left: %s", b.Sh("ls -la "+ipamDir+"/other"))
	}
	for _, d := range doors {
		b.NetNS(d.name)
		if got, failure := d.add(b, d.name); got == nil {
			t.Fatal(failure)
		}
		if !b.folder("five/allocations.json") {
			t.Errorf("%s made no folder", d.name)
		}
		if err := b.netavark("teardown", d.name); err != nil {
			t.Error(err)
		}
		if b.folder("five") {
			t.Errorf("%s: the folder of five is left", d.name)
		}
	}
	b.do(b.attach("c3", hostLocal).then("DEL"))
	if b.folder("net") {
		t.Error("the folder of a network of host-local is left")
	}
	b.do(usual.then("DEL"))
	if !b.folder("allocations.json") {
		t.Error("the lease file of the default network is gone")
	}
}

// Nor does anything stay of calls that lease nothing, but a file that was set
// aside does.
func TestFolderWithoutALease(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	status := lab.Call{Command: "STATUS", Conf: newer(`{"cniVersion":"1.0.0","name":"other","type":"flatnet","bridge":"br9","ipam":{"subnet":"10.87.9.0/24"}}`)}
	b.do(status)
	add := call("ADD", "c1")
	otherNetwork(&add)
	add.Args = "IP=10.87.9.1"
	b.refused(add, 7, "10.87.9.1")
	b.Sh("ip link add br9 type bridge; ip addr add 10.87.9.1/24 dev br9; ip link set br9 up; ip addr add 10.87.9.9/32 dev lo")
	add.Args = "IP=10.87.9.9"
	b.refused(add, 101, "10.87.9.9")
	del := call("DEL", "c1")
	otherNetwork(&del)
	b.do(del)
	if b.folder("other") {
		t.Errorf("left: %s", b.Sh("ls -la "+ipamDir+"/other"))
	}
	// As an earlier version left it.
	b.Sh("mkdir -m 700 " + ipamDir + "/other; touch " + ipamDir + "/other/.lock")
	b.Write(ipamDir+"/other/allocations.json", `{"subnet":"10.87.9.0/24","gateway":"10.87.9.1","allocations":{}}`)
	b.do(del)
	if b.folder("other") {
		t.Errorf("left: %s", b.Sh("ls -la "+ipamDir+"/other"))
	}
	b.Sh("mkdir -m 700 " + ipamDir + "/other")
	b.Write(ipamDir+"/other/allocations.json", `broken`)
	b.do(b.attach("c2", otherNetwork).then("DEL"))
	if left := b.Sh("ls -A " + ipamDir + "/other"); left != "allocations.json.broken-1\n" {
		t.Errorf("left: %s", left)
	}
}

// The folder may come and go with every call of several processes: no two get
// one address, and no ADD finds itself without a folder.
func TestFolderComesAndGoes(t *testing.T) {
	b := newBox(t)
	const n = 6
	var mu sync.Mutex
	holder := map[string]string{}
	var wg sync.WaitGroup
	for i := range n {
		id := fmt.Sprint("c", i)
		b.NetNS(id)
		add := call("ADD", id)
		otherNetwork(&add)
		wg.Go(func() {
			for range 25 {
				r := b.Call(program, add)
				if r.Exit != 0 {
					t.Errorf("%s: %s", id, r.Stdout)
					return
				}
				mu.Lock()
				if other := holder[r.Addr()]; other != "" {
					t.Errorf("%s and %s have %s", id, other, r.Addr())
				}
				holder[r.Addr()] = id
				mu.Unlock()
				if err := b.Ping(r.Addr()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				delete(holder, r.Addr())
				mu.Unlock()
				del := add
				del.Command = "DEL"
				if r := b.Call(program, del); r.Exit != 0 {
					t.Errorf("DEL %s: %s", id, r.Stdout)
				}
			}
		})
	}
	wg.Wait()
	if left := b.Sh("ls -A " + ipamDir); strings.Contains(left, "other") {
		t.Errorf("left: %s", left)
	}
}

// A data directory that other users can look into is closed to them, and one
// that belongs to another user is refused. Parents may be links of root's.
func TestDataDirectoryOfOthers(t *testing.T) {
	b := newBox(t)
	own := func(dir string) func(*lab.Call) {
		return func(c *lab.Call) { c.Conf = conf(`"ipam":{"subnet":"10.87.1.0/24","dataDir":"` + dir + `"}`) }
	}
	b.Sh("mkdir -p " + ipamDir + "; chmod 755 " + ipamDir + "; mkdir -m 755 /run/leases; ln -s /run /run/up")
	b.attach("c1")
	b.attach("c2", own("/run/leases"))
	b.attach("c3", own("/run/up/through"))
	if modes := b.Run("stat", "-c", "%a", ipamDir, "/run/leases", "/run/through"); modes != "700\n700\n700\n" {
		t.Errorf("modes are %q", modes)
	}
	if out, err := b.Try("setpriv", "--reuid", "65534", "--clear-groups", "flock", "-n", ipamDir, "true"); err == nil {
		t.Errorf("another user gets the lock: %s", out)
	}
	b.NetNS("c4")
	for _, c := range []struct {
		script, dir string
		names       []string
	}{
		{"mkdir /run/mixed; touch /run/mixed/x", "/run/mixed", []string{"0755", "chmod"}},
		{"mkdir -m 700 /run/theirs; chown 65534 /run/theirs", "/run/theirs", []string{"65534"}},
		{"ln -s leases /run/link", "/run/link", []string{"link"}},
		{"mkdir -m 777 /run/all; ln -s /run/leases /run/all/link", "/run/all/link/ipam", []string{"/run/all/link", "other users can change"}},
	} {
		b.Sh(c.script)
		add := call("ADD", "c4")
		own(c.dir)(&add)
		b.refused(add, 102, append(c.names, c.dir)...)
	}
}

// Whichever network comes first closes the data directory to other users, for the
// locks of all are below it.
func TestDataDirectoryIsClosed(t *testing.T) {
	b := newBox(t)
	b.attach("c1")
	b.attach("c2", otherNetwork)
	for i, network := range []func(*lab.Call){otherNetwork, func(*lab.Call) {}} {
		b.Sh("chmod 755 " + ipamDir)
		if got := b.attach(fmt.Sprint("d", i), network).result.Stderr; !strings.Contains(got, "0755 and now is 0700") {
			t.Errorf("it is said: %q", got)
		}
		if mode := strings.TrimSpace(b.Run("stat", "-c", "%a", ipamDir)); mode != "700" {
			t.Errorf("the mode is %s", mode)
		}
	}
}
