package tests

import (
	"strings"
	"testing"
)

// What people name, and what somebody may have put into the place of a file, is read only if
// it is a regular file: a pipe without a writer keeps no call waiting, and a device does not
// feed one without end.
func TestInputsAreRegularFiles(t *testing.T) {
	b := newBox(t)
	b.attach("web")
	b.NetNS("next")
	resolv := call("ADD", "next")
	pipes := []string{"/run/pipe", "/etc/cni/net.d/10-pipe.conflist", "/etc/containers/networks/pipe.json", "/etc/containers/containers.conf",
		"/var/lib/containers/storage/overlay-containers/containers.json", "/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1/config.json"}
	for _, path := range pipes {
		b.Sh("rm -f " + path + "; mkdir -p $(dirname " + path + "); mkfifo " + path)
	}
	quick := []string{"timeout", "-s", "KILL", "5"}
	for _, tt := range []struct{ path, want string }{
		{"/run/pipe", "/run/pipe is a pipe, not a regular file (-f - reads stdin)"},
		{"/dev/zero", "/dev/zero is a device or socket, not a regular file"},
		{"/run", "/run is a directory, not a regular file"},
	} {
		if _, err := b.Try(append(quick, program, "plan", "-f", tt.path)...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("plan -f %s: %v", tt.path, err)
		}
		resolv.Conf = conf(`"ipam":{"resolvConf":"` + tt.path + `"}`)
		if r := b.Call(program, resolv, quick...); r.Exit != 1 || !strings.Contains(r.Msg, "not a regular file") {
			t.Errorf("resolvConf %s: %s", tt.path, r.Stdout)
		}
	}
	if _, err := b.Try(append(quick, program, "plan", "none")...); err == nil || !strings.Contains(err.Error(), `no flatnet network "none" is configured`) {
		t.Errorf("plan beside pipes: %v", err)
	}
	for _, command := range []string{"list", "show", "gc", "status", "doctor"} {
		if out, err := b.Try(append(quick, program, command)...); err != nil && !strings.Contains(err.Error(), "status 1") {
			t.Errorf("%s beside pipes: %v %s", command, err, out)
		}
	}
	create := b.Cmd(append(quick, program, "create")...)
	create.Stdin = strings.NewReader(`{"name":"n","id":"1","driver":"flatnet"}`)
	if out, err := create.CombinedOutput(); err != nil {
		t.Errorf("create beside pipes: %v %s", err, out)
	}
	b.Sh("cd /run/flatnet/*/flatnet; mv web:eth0 kept; mkfifo web:eth0")
	if _, err := b.Try(append(quick, program, "reload")...); err == nil || !strings.Contains(err.Error(), "web:eth0 is a pipe, not a regular file") {
		t.Errorf("reload of a record that is a pipe: %v", err)
	}
}
