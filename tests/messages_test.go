package tests

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// traceLine is what the trace writes.
var traceLine = regexp.MustCompile(`^trace \+[0-9.]+ms (-|[0-9.]+ms) [ -~]+$`)

// traced returns the lines of a trace, each whole, and fails unless each pattern has one.
func traced(t *testing.T, stderr string, patterns ...string) {
	t.Helper()
	for line := range strings.Lines(stderr) {
		if !traceLine.MatchString(strings.TrimSuffix(line, "\n")) {
			t.Errorf("no line of a trace: %q", line)
		}
	}
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(stderr) {
			t.Errorf("the trace has nothing like %s:\n%s", p, stderr)
		}
	}
}

// The trace of ADD and DEL names what they make and remove, in both namespaces, and the
// result on stdout is the same with and without it.
func TestMessagesOfCNI(t *testing.T) {
	b := newBox(t)
	web := b.NetNS("web")
	add := call("ADD", "web")
	add.Conf = publish(dual, mapping(8080, 80, ""))
	del := add
	del.Command = "DEL"
	plain := b.do(add)
	b.do(del)
	for _, args := range [][]string{{"env", "FLATNET_TRACE=1", program}, {program, "trace"}} {
		got := b.callBy(args, add)
		for i, pattern := range []string{`"name":"flatnet-br0","mac":"[^"]*"`} {
			mask := regexp.MustCompile(pattern)
			if want := mask.ReplaceAllString(plain.Stdout, ""); mask.ReplaceAllString(got.Stdout, "") != want {
				t.Errorf("%d: %s and not %s", i, got.Stdout, want)
			}
		}
		traced(t, got.Stderr, `RTM_NEWLINK .*IFLA_IFNAME="fn-web" .*IFLA_INFO_KIND="veth" .*VETH_INFO_PEER=\{.*IFLA_IFNAME="eth0" .* = ack\n`,
			`RTM_NEWADDR .*IFA_LOCAL=10\.87\.1\.2 .* = ack\n`, `RTM_GETLINK .*IFLA_IFNAME="eth0" .* = ENODEV`,
			`RTM_NEWROUTE .*RTA_GATEWAY=10\.87\.1\.1 .* = ack`, `NFNL_MSG_BATCH_BEGIN .*NFNL_BATCH_GENID=`,
			`NFT_MSG_NEWRULE .*NFTA_RULE_TABLE="flatnet" NFTA_RULE_CHAIN="masquerade-10\.87\.1\.0/24" .*NFTA_EXPR_NAME="masq"`,
			`NFT_MSG_NEWSETELEM NLM_F_REQUEST\|ACK.*NFTA_SET_ELEM_LIST_TABLE="flatnet\.ports".* = ack`, `setns "/run/netns/web" = ok`,
			`replace "/var/lib/flatnet/ipam/allocations\.json" = ok`, `lock "/run/flatnet/[^"]*" = ok`)
		gone := b.callBy(args, del)
		traced(t, gone.Stderr, `RTM_DELLINK .* = ack`, `NFT_MSG_DELTABLE .*NFTA_TABLE_NAME="flatnet"`, `RTM_GETLINK .*IFLA_IFNAME="fn-web"`)
	}
	b.clean()
	web.Sh("! ip link show eth0")
}

// callBy calls the plugin by a command line.
func (b box) callBy(args []string, c lab.Call) lab.Reply {
	b.t.Helper()
	cmd := b.Cmd(append(append([]string{"env"}, c.Env()...), args...)...)
	cmd.Stdin = strings.NewReader(c.Conf)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("%q: %v: %s%s", args, err, stdout.String(), stderr.String())
	}
	r := lab.Reply{Stdout: stdout.String(), Stderr: stderr.String()}
	return r
}

// The other doors have the same trace, and no other command line is understood.
func TestMessagesOfOthers(t *testing.T) {
	b := newBox(t)
	b.NetNS("web")
	run := func(stdin string, args ...string) (string, string, error) {
		cmd := b.Cmd(args...)
		cmd.Stdin = strings.NewReader(stdin)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		return stdout.String(), stderr.String(), err
	}
	out, trace, err := run(setup("web"), program, "trace", "setup", "/run/netns/web")
	if err != nil || !strings.Contains(out, `"ipnet":"10.99.5.2/24"`) {
		t.Fatalf("%v: %s%s", err, out, trace)
	}
	traced(t, trace, `RTM_NEWLINK .*IFLA_IFNAME="br-five"`, `RTM_NEWLINK .*IFLA_IFNAME="fn-web"`, `NFTA_RULE_TABLE="flatnet-five"`)
	b.Run("nft", "delete", "table", "ip", "flatnet-five")
	out, trace, err = run("", program, "trace", "reload")
	if err != nil || !strings.Contains(out, "mended: ") {
		t.Errorf("%v: %s", err, out)
	}
	traced(t, trace, `NFT_MSG_NEWTABLE .*NFTA_TABLE_NAME="flatnet-five"`)
	for _, args := range []string{"list", "status", "show --dot", "trace list"} {
		out, trace, err := run("", append([]string{program, "trace"}, strings.Fields(args)...)...)
		if err != nil || !strings.Contains(out, "five") {
			t.Errorf("trace %s: %v: %s", args, err, out)
		}
		traced(t, trace, `RTM_GETLINK NLM_F_DUMP\|REQUEST .* = [0-9]+ messages?\n`)
	}
	file := t.TempDir() + "/trace"
	out, said, err := run("", "env", "FLATNET_TRACE="+file, program, "list")
	if err != nil || !strings.Contains(said, "it must be 1") || strings.Contains(said, "trace +") || !strings.Contains(out, "five") {
		t.Errorf("FLATNET_TRACE with a file: %v: %s%s", err, out, said)
	}
	b.Sh("! test -e " + file)
	if _, said, err := run("", program, "trace"); err == nil || err.(*exec.ExitError).ExitCode() != 2 || !strings.Contains(said, "flatnet trace: it needs COMMAND") {
		t.Errorf("trace alone: %v: %s", err, said)
	}
	if _, trace, err := run(setup("web"), "env", "FLATNET_TRACE=1", program, "teardown", "/run/netns/web"); err != nil {
		t.Errorf("teardown: %v: %s", err, trace)
	} else {
		traced(t, trace, `RTM_DELLINK .* = ack`)
	}
}

// Calls at the same time, with one pipe for their traces, don't tear each other's lines.
func TestMessagesAtOnce(t *testing.T) {
	b := newBox(t)
	b.attach("web")
	script := fmt.Sprintf("for i in 1 2 3 4 5 6; do %s trace status 2>&1 >/dev/null & done | cat", program)
	traced(t, b.Sh("{ "+script+"; }"), `NFT_MSG_GETRULE`)
}
