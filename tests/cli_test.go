package tests

import (
	"encoding/json"
	"os"
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
	if out := b.Run(program, "status"); strings.Count(out, " ok") != 2 || !strings.Contains(out, "10.87.1.0/24: 1 used, 252 free") {
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

// The doctor names what is wrong, and changes nothing.
func TestDoctor(t *testing.T) {
	b := newBox(t)
	web := b.attach("web", func(c *lab.Call) { c.Conf = publish(dual, mapping(8080, 80, "")) })
	// What STATUS has found out about the kernel it notes in the file of locks.
	state := func() string {
		return b.state() + b.Sh("find /run/flatnet /var/lib/flatnet ! -path '/run/flatnet/*/.lock' -printf '%p %s %T@\n' | sort")
	}
	examine := func(fails bool, verdict, check string, texts ...string) {
		t.Helper()
		before := state()
		cmd := b.Cmd(program, "doctor", "--json")
		out, err := cmd.Output()
		var found []struct{ Verdict, Check, Seen, Repair string }
		if jerr := json.Unmarshal(out, &found); jerr != nil || (err != nil) != fails {
			t.Errorf("doctor: %v, %v: %s", err, jerr, out)
		}
		seen := false
		for _, f := range found {
			if f.Check == check {
				seen = f.Verdict == verdict
				for _, text := range texts {
					seen = seen && strings.Contains(f.Seen+"\n"+f.Repair, text)
				}
			}
		}
		if !seen {
			t.Errorf("there is no %s %s with %q: %s", verdict, check, texts, out)
		}
		if after := state(); after != before {
			t.Errorf("the doctor changed\n%s\nto\n%s", before, after)
		}
	}
	examine(false, "OK", "bridge, veth, NAT")
	examine(false, "OK", "network flatnet", "1 attached")
	b.Run("nft", "delete", "table", "ip", "flatnet")
	examine(true, "FAIL", "network flatnet", "ip flatnet", "flatnet reload")
	b.reload()
	examine(false, "OK", "network flatnet")
	b.Run("nft", "add table inet ufw; add chain inet ufw forward { type filter hook forward priority 0; policy drop; }")
	examine(false, "WARN", "other firewalls", "inet ufw", "forwardAccept")
	b.Run("nft", "delete table inet ufw")
	b.Sh("rm -r /run/flatnet/*/flatnet")
	examine(false, "WARN", "network flatnet", "no record")
	b.vanish("web")
	examine(false, "WARN", "leftovers", "lease: 1", "published ports: 1", "flatnet gc")
	b.Run(program, "gc", "--yes")
	examine(false, "OK", "leftovers")
	if _, err := b.Try("setpriv", "--reuid=65534", "--clear-groups", program, "doctor"); err == nil || !strings.Contains(err.Error(), "1 of 1 checks failed") {
		t.Errorf("the doctor of another user: %v", err)
	}
	b.do(web.then("DEL"))
}

// Colours are for terminals only, and not for those who don't want them.
func TestColoursOnATerminal(t *testing.T) {
	b := newBox(t)
	b.attach("web")
	for _, tt := range []struct {
		env, command string
		coloured     bool
	}{
		{"TERM=xterm", "script -qec '" + program + " status' /dev/null", true},
		{"TERM=xterm NO_COLOR=1", "script -qec '" + program + " status' /dev/null", false},
		{"TERM=dumb", "script -qec '" + program + " status' /dev/null", false},
		{"TERM=xterm", program + " status", false},
	} {
		out := b.Sh("unset NO_COLOR; export " + tt.env + "; " + tt.command)
		if !strings.Contains(out, "flatnet-br0") || strings.Contains(out, "\x1b[32mok") != tt.coloured {
			t.Errorf("%s %s: %q", tt.env, tt.command, out)
		}
	}
}

// On a full disk, every command that prints says so once and fails. Into a pipe whose reader
// has read enough it ends quietly, also where the caller ignores SIGPIPE.
func TestOutputGoesNowhere(t *testing.T) {
	b := newBox(t)
	for _, id := range []string{"one", "two"} {
		b.attach(id)
	}
	for _, args := range []string{"list", "show", "status", "doctor", "publish", "gc", "version", "help", "list --help", "completion bash", "plan -f " + root + "/cni/flatnet.conflist"} {
		out := b.Sh(program + " " + args + " 2>&1 >/dev/full || echo $?")
		if out != "flatnet: write /dev/stdout: no space left on device\n1\n" {
			t.Errorf("%s on a full disk: %q", args, out)
		}
		for _, trap := range []string{"", "trap '' PIPE; "} {
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			var stderr strings.Builder
			cmd := b.Cmd("sh", "-c", trap+"exec "+program+" "+args)
			cmd.Stdout, cmd.Stderr = write, &stderr
			read.Close()
			err = cmd.Run()
			write.Close()
			if err == nil || stderr.Len() > 0 {
				t.Errorf("%s%s into a pipe that is closed: %v, %q", trap, args, err, stderr.String())
			}
		}
	}
}

// Without root, a command fails with one line that has the command to type, and prints no partial list.
func TestCommandsWithoutRoot(t *testing.T) {
	b := newBox(t)
	b.attach("web")
	before := b.state()
	for _, args := range []string{"list --json", "ps", "show", "status flatnet", "reload", "gc --yes", "publish web 80", "unpublish web --all"} {
		cmd := b.Cmd(append([]string{"setpriv", "--reuid=65534", "--clear-groups", program}, strings.Fields(args)...)...)
		out, err := cmd.CombinedOutput()
		command, _, _ := strings.Cut(args, " ")
		want := "flatnet: " + command + " must be run as root: sudo flatnet " + args + " (for your rootless Podman: podman unshare --rootless-netns flatnet " + args + ")\n"
		if err == nil || string(out) != want {
			t.Errorf("%s: %v, %s", args, err, out)
		}
	}
	if after := b.state(); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}
