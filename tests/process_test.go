package tests

import (
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// The IPAM plugin's process has no signal ignored but those that ours has.
func TestPluginInheritsNoIgnoredSignal(t *testing.T) {
	b, add := stubbed(t)
	b.Write(plugins+"/stub", strings.Replace(stub, "#!/bin/sh\n", "#!/bin/sh\ngrep SigIgn /proc/$$/status >/run/ignored\n", 1))
	b.NetNS("c1")
	b.do(add)
	if got, want := b.Read("/run/ignored"), b.Run("grep", "SigIgn", "/proc/self/status"); got != want {
		t.Errorf("the plugin has %q, and other processes have %q", got, want)
	}
}

// A reply that can't be written is an error also after a plugin has run, and
// undoes the attachment.
func TestReplyThatNobodyReadsAfterAPlugin(t *testing.T) {
	b, add := stubbed(t)
	b.NetNS("c1")
	b.Write("/run/conf", add.Conf)
	out := b.Sh("{ env " + strings.Join(add.Env(), " ") + " sh -c '" + program + " </run/conf; echo $? >/run/status'; } 2>/run/stderr | true; cat /run/status /run/stderr")
	if !strings.HasPrefix(out, "1\n") || !strings.Contains(out, "can't write the reply") {
		t.Errorf("%s", out)
	}
	if links := b.Run("ip", "link"); strings.Contains(links, "fn-c1") {
		t.Errorf("left behind: %s", links)
	}
}

// A limit of the size of files is an error like a full disk.
func TestFileSizeLimit(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	before := b.state()
	r := b.Call(program, call("ADD", "c1"), "sh", "-c", `ulimit -f 0; exec "$0"`)
	if r.Exit != 1 || r.Code != 5 || !strings.Contains(r.Msg, "file too large") {
		t.Errorf("exit %d, %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	b.same(before)
}

// Where /proc is not mounted nobody knows which records are this namespace's.
// Those of the working directory are not.
func TestNoRecordsWithoutProc(t *testing.T) {
	b := newBox(t)
	b.attach("c1")
	b.Sh("mkdir -p /run/dir/flatnet; echo nonsense >/run/dir/flatnet/c1:eth0; echo nonsense >/run/dir/flatnet/firewall:x")
	for _, c := range []lab.Call{gc(lab.Conf, "c1"), gc(lab.Conf)} {
		r := b.Call(program, c, "unshare", "-m", "sh", "-ec", `mount -t tmpfs none /proc; cd /run/dir; exec "$0"`)
		if r.Exit != 0 {
			t.Errorf("GC: exit %d: %s%s", r.Exit, r.Stdout, r.Stderr)
		}
	}
	if leases := b.leases(); len(leases) != 0 {
		t.Errorf("leases are left: %v", leases)
	}
	b.Run("test", "-e", "/run/dir/flatnet/c1:eth0")
}
