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
// what is attached stays, and when the disk is well again, all is as before.
func TestReadOnlyDisk(t *testing.T) {
	const text = "read-only file system"
	b := newBox(t)
	b.Sh("mkdir -p " + ipamDir + "; mount -t tmpfs -o size=64k leases " + ipamDir)
	c1, c2 := b.attach("c1"), b.attach("c2")
	b.NetNS("c3")
	before := b.state()
	b.Sh("mount -o remount,ro " + ipamDir)
	for range 2 {
		b.refused(call("ADD", "c3"), 5, ipamDir, text)
		b.do(call("DEL", "c3"))
		b.same(before)
	}
	b.refused(lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}, 50, ipamDir, text)
	b.refused(c2.then("DEL"), 5, ipamDir, text)
	if b.leases()["c2"] != c2.addr || b.leases()["c1"] != c1.addr {
		t.Errorf("leases are lost: %v", b.leases())
	}
	if err := c1.Ping(lab.OutsideAddr); err != nil {
		t.Error(err)
	}
	b.Sh("mount -o remount,rw " + ipamDir)
	b.do(c2.then("DEL"))
	if addr := b.do(call("ADD", "c3")).Addr(); addr == c1.addr {
		t.Errorf("c3 got c1's address %s", addr)
	}
	b.do(c1.then("CHECK"))
	b.do(c1.then("DEL"))
	b.do(call("DEL", "c3"))
	b.clean()
}

// On a full disk an ADD is refused and leaves nothing, and DEL and GC do their
// work: the addresses can be had again, at the latest when somebody asks.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for name, mount := range map[string]string{
		"tmpfs": "mount -t tmpfs -o size=64k leases $D",
		"ext4":  "truncate -s 2M /run/disk; mkfs.ext4 -q -m 0 /run/disk; mount -o loop /run/disk $D; rmdir $D/lost+found",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			if out, err := b.Try("sh", "-ec", "D="+ipamDir+"; mkdir -p $D;"+mount); err != nil {
				t.Skipf("NOT TESTED on %s: %v %s", name, err, out)
			}
			all := []container{b.attach("c0"), b.attach("c1"), b.attach("c2"), b.attach("c3")}
			b.NetNS("new")
			before := b.state()
			b.Sh("D=" + ipamDir + "; dd if=/dev/zero of=$D/full bs=4k || :; dd if=/dev/zero of=$D/full2 bs=1 count=4k || :")
			for range 2 {
				b.refused(call("ADD", "new"), 5, ipamDir, "no space left on device")
				b.do(call("DEL", "new"))
				b.same(before)
			}
			b.refused(lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}, 50, ipamDir, "no space left on device")
			b.do(all[3].then("DEL"))
			b.do(gc(lab.Conf, "c0", "c1"))
			if leases := b.leases(); len(leases) != 2 || leases["c0"] != all[0].addr || leases["c1"] != all[1].addr {
				t.Errorf("leases are %v", leases)
			}
			b.refused(call("ADD", "new"), 5, ipamDir, "no space left on device")
			b.Sh("rm " + ipamDir + "/full*")
			add := call("ADD", "new")
			add.Args = "IP=" + all[3].addr
			b.do(add)
			for _, c := range all[:2] {
				b.do(c.then("CHECK"))
				b.do(c.then("DEL"))
			}
			b.do(call("DEL", "new"))
			b.clean()
		})
	}
}

// Where not even that can be written which takes less room, as on a file system
// that writes nothing over, the lease stays and holds up nobody.
func TestFullDiskThatWritesNothingOver(t *testing.T) {
	b := newBox(t)
	all := []container{b.attach("c0", limited), b.attach("c1", limited), b.attach("c2", limited)}
	full := []string{"sh", "-c", `exec "$@" 2>/run/stderr`, "sh", "strace", "-f", "-o", "/run/trace",
		"-P", leaseFile, "-P", leaseFile + ".tmp", "-e", "trace=write,pwrite64", "-e", "inject=write,pwrite64:error=ENOSPC"}
	for _, c := range []lab.Call{all[0].then("DEL"), gc(lab.Conf, "c2")} {
		r := b.Call(program, c, full...)
		if said := b.Read("/run/stderr"); r.Exit != 0 || !strings.Contains(said, leaseFile) || !strings.Contains(said, "no space left") {
			t.Errorf("%s: %s, says %q", c.Command, r.Stdout, said)
		}
	}
	if trace := b.Read("/run/trace"); !strings.Contains(trace, "INJECTED") {
		t.Fatalf("nothing is shown: %s", trace)
	}
	// By name, and because there is no other.
	if new0 := b.attach("new0", limited, wanting(all[1].addr)); new0.addr != all[1].addr {
		t.Errorf("new0 got %s", new0.addr)
	}
	if new1 := b.attach("new1", limited); new1.addr != all[0].addr {
		t.Errorf("new1 got %s", new1.addr)
	}
	b.do(all[2].then("CHECK"))
}

// Records for flatnet reload that can't be written are no reason to refuse a
// container, and are not in the way of its removal.
func TestSickRecords(t *testing.T) {
	t.Parallel()
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

// lock holds the leases' lock until the returned function is called.
func (b box) lock() (unlock func()) {
	b.t.Helper()
	holder := b.Cmd("flock", ipamDir+"/.lock", "sh", "-c", "echo held; cat")
	in, errIn := holder.StdinPipe()
	out, errOut := holder.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		b.t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		b.t.Fatal(err)
	}
	unlock = sync.OnceFunc(func() { in.Close(); holder.Wait() })
	b.t.Cleanup(unlock)
	if _, err := out.Read(make([]byte, 4)); err != nil {
		b.t.Fatal(err)
	}
	return unlock
}

// A process that holds the lock holds no other up for ever.
func TestLockThatIsHeld(t *testing.T) {
	b := newBox(t)
	b.attach("n1")
	b.NetNS("late")
	before := b.state()
	unlock := b.lock()
	b.refused(call("ADD", "late"), 11, ipamDir+"/.lock")
	b.same(before)
	unlock()
	b.do(call("ADD", "late"))
}

// A DEL that could not get the lock is not sent again by Podman. Its lease is
// nobody's then: the address is to be had as soon as the lock is free.
func TestLockThatIsHeldDuringDEL(t *testing.T) {
	b := newBox(t)
	c0, c1, c2 := b.attach("c0", limited), b.attach("c1", limited), b.attach("c2", limited)
	unlock := b.lock()
	var both sync.WaitGroup
	for _, c := range []container{c0, c1} {
		both.Go(func() { b.refused(c.then("DEL"), 11, ipamDir+"/.lock") })
	}
	both.Wait()
	if out := b.Run("ip", "-br", "link"); strings.Contains(out, "fn-c0") || strings.Contains(out, "fn-c1") {
		t.Errorf("links are left: %s", out)
	}
	unlock()
	if new0 := b.attach("new0", limited, wanting(c1.addr)); new0.addr != c1.addr {
		t.Errorf("new0 got %s", new0.addr)
	}
	if new1 := b.attach("new1", limited); new1.addr != c0.addr {
		t.Errorf("new1 got %s", new1.addr)
	}
	b.do(c2.then("CHECK"))
}

// The same with Podman itself, for which a container is gone after rm -f.
func TestPodmanRemovesWhileTheLockIsHeld(t *testing.T) {
	b := newBox(t)
	p := nv{b.debianPodman("trixie"), b.Outside, b.Cgroup(), t}
	p.Do("network", "create", "--driver", "flatnet", "--disable-dns", "flatnet")
	p.run("c0", flatnet, "--ip", "10.87.1.77")
	defer p.Do("rm", "-fat0")
	unlock := box{p.World, t}.lock()
	out, err := p.Try("rm", "-ft0", "c0")
	t.Logf("podman rm -f: %s %v", out, err)
	if left := p.Do("ps", "-aq"); left != "" {
		t.Errorf("containers are left: %s", left)
	}
	unlock()
	p.run("c1", flatnet, "--ip", "10.87.1.77")
	if addr := p.addr("c1", "flatnet"); addr != "10.87.1.77" {
		t.Errorf("c1 got %s", addr)
	}
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
	t.Parallel()
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
