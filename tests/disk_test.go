package tests

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"flatnet/tests/lab"
)

const (
	ipamDir = "/var/lib/flatnet/ipam"
	runDir  = "/run/flatnet"
)

// While the disk is as it should not be, errors say so and nothing is lost:
// who is attached stays, and when the disk is well again, all is as before.
func TestSickDisk(t *testing.T) {
	for _, c := range []struct {
		name, spoil, heal string
		text              string // that the error has
	}{
		{"full", "dd if=/dev/zero of=$D/full bs=4k || :", "rm $D/full", "no space left on device"},
		{"read-only", "mount -o remount,ro $D", "mount -o remount,rw $D", "read-only file system"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.Sh("mkdir -p " + ipamDir + "; mount -t tmpfs -o size=64k leases " + ipamDir)
			c1, c2 := b.attach("c1"), b.attach("c2")
			b.NetNS("c3")
			before := b.state()
			b.Sh("D=" + ipamDir + ";" + c.spoil)
			for range 2 {
				b.refused(call("ADD", "c3"), 5, ipamDir, c.text)
				b.do(call("DEL", "c3"))
				b.same(before)
			}
			b.refused(lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}, 50, ipamDir, c.text)
			b.refused(c2.then("DEL"), 5, ipamDir, c.text)
			if b.leases()["c2"] != c2.addr || b.leases()["c1"] != c1.addr {
				t.Errorf("leases are lost: %v", b.leases())
			}
			if err := c1.Ping(lab.OutsideAddr); err != nil {
				t.Error(err)
			}
			b.Sh("D=" + ipamDir + ";" + c.heal)
			b.do(c2.then("DEL"))
			if addr := b.do(call("ADD", "c3")).Addr(); addr == c1.addr {
				t.Errorf("c3 got c1's address %s", addr)
			}
			b.do(c1.then("CHECK"))
			b.do(c1.then("DEL"))
			b.do(call("DEL", "c3"))
			b.clean()
		})
	}
}

// Records for flatnet reload that can't be written are no reason to refuse a
// container, and are not in the way of its removal.
func TestSickRecords(t *testing.T) {
	for name, spoil := range map[string]string{
		"full":         "mount -t tmpfs -o size=4k records $D; dd if=/dev/zero of=$D/full bs=4k || :",
		"read-only":    "mount -t tmpfs -o ro records $D",
		"no directory": "rmdir $D; touch $D",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.Sh("D=" + runDir + "; mkdir $D;" + spoil)
			c1 := b.attach("c1", like(ported))
			b.do(c1.then("CHECK"))
			b.do(gc(ported, "c1"))
			if err := b.Outside.Ping(lab.HostAddr); err != nil {
				t.Error(err)
			}
			b.do(c1.then("DEL"))
			b.clean()
		})
	}
}

// On a disk of which each operation takes its time, all wait for each other.
func TestSlowDisk(t *testing.T) {
	b := newBox(t)
	const n = 8
	addrs := make([]string, n)
	var all sync.WaitGroup
	for i := range n {
		id := fmt.Sprint("c", i)
		b.NetNS(id)
		all.Go(func() {
			r := b.Call(program, call("ADD", id), "strace", "-f", "-o", "/dev/null",
				"-e", "trace=openat,flock,fdatasync,renameat", "-e", "inject=openat,flock,fdatasync,renameat:delay_enter=20000")
			if addrs[i] = r.Addr(); r.Exit != 0 {
				t.Errorf("%s: %s", id, r.Stdout)
			}
		})
	}
	all.Wait()
	leases := b.leases()
	for i, addr := range addrs {
		if leases[fmt.Sprint("c", i)] != addr {
			t.Errorf("c%d got %s, and the leases are %v", i, addr, leases)
		}
	}
	if twice := doubled(leases); twice != "" || len(leases) != n {
		t.Errorf("%d leases, %q twice", len(leases), twice)
	}
}

// Who holds the lock holds nobody up for ever.
func TestLockThatIsHeld(t *testing.T) {
	b := newBox(t)
	b.attach("n1")
	b.NetNS("late")
	before := b.state()
	holder := b.Cmd("flock", ipamDir+"/.lock", "sh", "-c", "echo held; cat")
	in, errIn := holder.StdinPipe()
	out, errOut := holder.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); holder.Wait() })
	if _, err := out.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	b.refused(call("ADD", "late"), 11, ipamDir+"/.lock")
	b.same(before)
	in.Close()
	b.do(call("ADD", "late"))
}

// A lease file that was cut off anywhere, or whose rest is zeros, is rebuilt:
// who is attached keeps the address, and nobody else gets it.
func TestTornLeaseFile(t *testing.T) {
	b := newBox(t)
	var held []container
	for i := range 4 {
		held = append(held, b.attach(fmt.Sprint("c", i)))
	}
	b.NetNS("next")
	whole, step, tried := b.Read(leaseFile), 37, 0
	if long {
		step = 1
	}
	for n := 0; n < len(strings.TrimRight(whole, "}\n")); n += step {
		for _, rest := range []string{"", strings.Repeat("\x00", len(whole)-n)} {
			b.Write(leaseFile, whole[:n]+rest)
			addr := b.do(call("ADD", "next")).Addr()
			leases := b.leases()
			for _, c := range held {
				if leases[c.add.ID] != c.addr || addr == c.addr {
					t.Fatalf("cut off after %d bytes: next got %s, and the leases are %v", n, addr, leases)
				}
			}
			b.do(call("DEL", "next"))
			tried++
		}
	}
	if aside := b.Sh("ls " + ipamDir + " | grep -c broken"); aside != "9\n" {
		t.Errorf("%s broken files are kept", aside)
	}
	for _, c := range held {
		b.do(c.then("CHECK"))
		b.do(c.then("DEL"))
	}
	t.Logf("%d torn files", tried)
	b.clean()
}

// A lock file that somebody removes again and again still keeps two from
// getting one address.
func TestLockFileRemoved(t *testing.T) {
	b := newBox(t)
	const n = 40
	for i := range n {
		b.NetNS(fmt.Sprint("c", i))
	}
	b.attach("n1")
	b.Write("/run/go", "")
	remover := b.Cmd("sh", "-c", "while [ -e /run/go ]; do rm -f "+ipamDir+"/.lock; done")
	if err := remover.Start(); err != nil {
		t.Fatal(err)
	}
	addrs := b.together(n, "ADD")
	b.Run("rm", "/run/go")
	if err := remover.Wait(); err != nil {
		t.Error(err)
	}
	if twice := doubled(b.leases()); twice != "" || len(b.leases()) != n+1 {
		t.Errorf("%d leases, %q twice", len(b.leases()), twice)
	}
	seen := map[string]bool{}
	for _, addr := range addrs {
		if seen[addr] {
			t.Errorf("%s was given twice", addr)
		}
		seen[addr] = true
	}
}

// What is no file or directory of ours is neither followed nor overwritten,
// whoever put it there.
func TestLinksInPlaceOfFiles(t *testing.T) {
	for _, c := range []struct {
		name, prepare string
		conf          string
		names         string // what the error names; empty: it works all the same
	}{
		{"the data directory", "mv $D /precious; ln -s /precious $D", lab.Conf, ipamDir},
		{"the lease file", "mv $D/allocations.json /precious; ln -s /precious $D/allocations.json", lab.Conf, "allocations.json"},
		{"the lock", "touch /precious; ln -sf /precious $D/.lock", lab.Conf, ".lock"},
		{"the temporary file", "touch /precious; ln -s /precious $D/allocations.json.tmp", lab.Conf, ""},
		{"another network's folder", "mkdir /precious; ln -s /precious $D/other", otherConf, ipamDir + "/other"},
		{"a directory for the lease file", "rm $D/allocations.json; mkdir $D/allocations.json", lab.Conf, "allocations.json"},
		{"a pipe for the lease file", "rm $D/allocations.json; mkfifo $D/allocations.json", lab.Conf, "allocations.json"},
		{"a file for the data directory", "rm -r $D; touch $D", lab.Conf, ipamDir},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			b.Sh("mkdir -p /run/lab/p; mount --bind /run/lab/p /mnt")
			b.attach("n1")
			b.NetNS("c1")
			b.Sh("D=" + ipamDir + ";" + strings.ReplaceAll(c.prepare, "/precious", "/mnt/precious"))
			look := func() string {
				return b.Sh("find /mnt | sort | xargs ls -lid --full-time; find /mnt -type f | sort | xargs -r cat; ip -o link | cut -d: -f2 | cut -d@ -f1; find " + ipamDir + " | xargs ls -lid --full-time")
			}
			if c.names == "" {
				before := b.Sh("find /mnt | xargs ls -lid --full-time")
				add := call("ADD", "c1")
				add.Conf = c.conf
				b.do(add)
				if after := b.Sh("find /mnt | xargs ls -lid --full-time"); after != before {
					t.Errorf("%s", difference(before, after))
				}
				return
			}
			before := look()
			for _, command := range []string{"ADD", "DEL"} {
				broken := call(command, "c1")
				broken.Conf = c.conf
				b.refused(broken, 0, c.names)
				if after := look(); after != before {
					t.Errorf("%s: %s", command, difference(before, after))
				}
			}
		})
	}
}

// writing is a call that changes a file system, as strace -y shows it: the
// directory that the path starts from, and the path.
var writing = regexp.MustCompile(`(?m)^\S+ +(open|openat|mkdir|mkdirat|rename|renameat|renameat2|unlink|unlinkat|rmdir|link|linkat|symlink|symlinkat|mknod|mknodat|chmod|fchmodat|chown|fchownat|truncate|mount)\((?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"([^"]*)"(.*)$`)

// No verb writes anywhere but in the data directory, in /run/flatnet and, for
// what a container's network needs, in /proc/sys/net.
func TestWritesNowhereElse(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	conf := ported
	add := call("ADD", "c1")
	add.Conf = conf
	writes := 0
	trace := func(c lab.Call) lab.Reply {
		t.Helper()
		r := b.Call(program, c, "strace", "-f", "-y", "-s", "300", "-o", "/run/trace", "-e", "trace=%file,mkdirat,renameat,unlinkat,linkat")
		if r.Exit != 0 {
			t.Fatalf("%s: %s", c.Command, r.Stdout)
		}
		for _, m := range writing.FindAllStringSubmatch(b.trace(), -1) {
			path := m[3]
			if !strings.HasPrefix(path, "/") {
				path = m[2] + "/" + path
			}
			if _, opened, ok := strings.Cut(m[4], "<"); ok && strings.HasPrefix(m[1], "open") { // the file that it came to be
				path = strings.TrimSuffix(opened, ">")
			}
			if strings.HasPrefix(m[1], "open") && !regexp.MustCompile(`O_(WRONLY|RDWR|CREAT|TRUNC)`).MatchString(m[4]) {
				continue
			}
			writes++
			ok := false
			for _, dir := range []string{ipamDir + "/", runDir + "/", "/proc/sys/net/"} {
				ok = ok || strings.HasPrefix(path+"/", dir)
			}
			if !ok || strings.Contains(path, "..") {
				t.Errorf("%s: %s", c.Command, m[0])
			}
		}
		return r
	}
	b.Sh("mkdir -p /var/lib/flatnet")
	result := trace(add)
	check := add
	check.Command, check.Conf = "CHECK", lab.WithPrev(conf, result)
	trace(check)
	trace(lab.Call{Command: "STATUS", Conf: newer(lab.Conf)})
	trace(gc(lab.Conf, "c1"))
	del := check
	del.Command = "DEL"
	trace(del)
	if writes < 10 {
		t.Errorf("%d writes: nothing is shown", writes)
	}
	t.Logf("%d writes, all where they belong", writes)
}
