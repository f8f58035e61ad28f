package cli

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/report"
)

// A fakeHost has two networks: one of dual stack with published ports, which misses
// something, and one that is not recorded. A reload finds something to mend.
type fakeHost struct{ err error }

func (h fakeHost) Reload() ([]string, error) { return []string{"mended: x was y"}, h.err }

func (h fakeHost) Survey(deep bool) ([]*model.Survey, error) {
	address := func(prefix, gateway string) model.Address {
		return model.Address{Prefix: netip.MustParsePrefix(prefix), Gateway: netip.MustParseAddr(gateway)}
	}
	v4, v6 := address("10.87.1.2/24", "10.87.1.1"), address("fd87::2/64", "fd87::1")
	web := &model.Attachment{Key: model.Key{Network: "flatnet", ContainerID: "0123456789abcdef", IfName: "eth0"}, MAC: model.HardwareAddr{2},
		Addresses: []model.Address{v4, v6}, HostEnd: "fn-01234567"}
	for _, p := range []struct {
		host, to string
		protocol uint8
	}{{"0.0.0.0:8080", "10.87.1.2:80", model.TCP}, {"[::]:8080", "[fd87::2]:80", model.TCP}, {"0.0.0.0:8081", "10.87.1.2:81", model.TCP},
		{"127.0.0.1:53", "10.87.1.2:53", model.UDP}} {
		web.Ports = append(web.Ports, model.Publication{Protocol: p.protocol, Host: netip.MustParseAddrPort(p.host), Target: netip.MustParseAddrPort(p.to)})
	}
	web.Ports = append(web.Ports, model.Publication{Protocol: model.UDP, Target: netip.MustParseAddrPort("[fd87::2]:53"), Local: true})
	known := model.Survey{Shared: model.Shared{Network: model.Network{Name: "flatnet", Bridge: "flatnet-br0", IsGateway: true}, Served: []model.Subnet{v4, v6}},
		Recorded: true, Attachments: []*model.Attachment{web}}
	if deep {
		known.Faults = errors.New("a rule is missing")
	}
	db := &model.Attachment{Key: model.Key{Network: "other", ContainerID: "db", IfName: "eth1"}, HostEnd: "fn-db"}
	return []*model.Survey{&known, {Shared: model.Shared{Network: model.Network{Name: "other"}}, Attachments: []*model.Attachment{db}}}, h.err
}

// A fakeInventory has the attachments of fakeHost, and a third network whose container went
// without a DEL.
type fakeInventory struct{ err error }

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func only[T any](network string, all []T, of func(T) string) []T {
	return slices.DeleteFunc(all, func(v T) bool { return network != "" && of(v) != network })
}

func (f fakeInventory) List(network string) ([]*report.Attachment, error) {
	surveys, _ := fakeHost{}.Survey(false)
	web, db := surveys[0].Attachments[0], surveys[1].Attachments[0]
	gone := model.Key{Network: "third", ContainerID: "gone", IfName: "eth0"}
	return only(network, []*report.Attachment{
		{Key: web.Key, Name: "web", Addresses: web.IPs(), Ports: web.Ports, HostEnd: web.HostEnd, Since: noon.Add(-3 * time.Hour), State: report.Attached},
		{Key: db.Key, HostEnd: "fn\x1b[2J", State: report.NoRecord},
		{Key: gone, Addresses: []netip.Addr{netip.MustParseAddr("10.88.0.2")}, State: report.StaleLease},
	}, func(a *report.Attachment) string { return a.Key.Network }), f.err
}

func (f fakeInventory) Status(network string) ([]*report.Network, error) {
	surveys, _ := fakeHost{}.Survey(true)
	return only(network, []*report.Network{
		{Survey: surveys[0], Rules: 1, State: "incomplete", Status: "a rule is missing", Pools: []report.Pool{
			{Prefix: netip.MustParsePrefix("10.87.1.0/24"), Used: 1, Free: 252}, {Prefix: netip.MustParsePrefix("fd87::/64"), Used: 1, Free: math.MaxUint64}}},
		{Survey: surveys[1], Rules: -1, State: report.NoRecord, Status: "it is not known"},
	}, func(n *report.Network) string { return n.Name }), f.err
}

func (f fakeInventory) Garbage(network string) ([]*report.Leftover, error) {
	gone := model.Key{Network: "third", ContainerID: "gone", IfName: "eth0"}
	return only(network, []*report.Leftover{
		{Key: gone, Kind: report.Lease, What: "10.88.0.2", Name: "old"}, {Key: gone, Kind: report.Limit, What: "fb-\a"},
		{Key: model.Key{Network: "third"}, Kind: report.Rules, What: "table ip flatnet-third"},
		{Key: model.Key{Network: "fourth", ContainerID: "else", IfName: "eth0"}, Kind: report.Lease, What: "10.89.0.2", Kept: "it lives elsewhere"},
	}, func(l *report.Leftover) string { return l.Key.Network }), f.err
}

func (f fakeInventory) Collect(network string) ([]*report.Leftover, error) {
	return f.Garbage(network)
}

func run(args string, h Host) (status int, stdout, stderr string) {
	return runWords(strings.Fields(args), h)
}

func runWords(args []string, h Host) (status int, stdout, stderr string) {
	var out, err strings.Builder
	names := func() map[string]string { return map[string]string{"0123456789abcdef": "web"} }
	host, _ := h.(fakeHost)
	status = Main(&Call{Args: args, Build: Build{Version: "v1-test", Commit: "c0ffee", CNI: []string{"0.1.0", "1.1.0"}, Netavark: "1.0.0"}, Host: h, Names: names, Stdout: &out, Stderr: &err,
		Inventory: fakeInventory(host), Now: func() time.Time { return noon }})
	return status, out.String(), err.String()
}

// What commands print about the fakes.
const (
	printHeader = "NETWORK  CONTAINER     NAME  INTERFACE  ADDRESSES          PORTS                                      HOST INTERFACE  AGE  STATE\n"
	printWeb    = "flatnet  0123456789ab  web   eth0       10.87.1.2,fd87::2  8080-8081->80-81/tcp,127.0.0.1:53->53/udp  fn-01234567     3h   attached\n"
	printTable  = printHeader + printWeb
	printOthers = "other    db            -     eth1       -                  -                                          \"fn\\x1b[2J\"     -    no record\n" +
		"third    gone          -     eth0       10.88.0.2          -                                          -               -    stale lease\n"
	printVerdict = "NETWORK  BRIDGE       GATEWAYS           ATTACHED  ADDRESSES                                                     RULES      STATUS\n" +
		"flatnet  flatnet-br0  10.87.1.1,fd87::1  1         10.87.1.0/24: 1 used, 252 free; fd87::/64: 1 used, 2^64 free  1 missing  incomplete\n"
	printLeft = "NETWORK  CONTAINER  NAME  INTERFACE  LEFT   WHICH\n" +
		"third    gone       old   eth0       lease  10.88.0.2\n" +
		"third    gone       -     eth0       limit  \"fb-\\a\"\n" +
		"third    -          -     -          rules  table ip flatnet-third\n"
	printKept = "NETWORK  CONTAINER  NAME  INTERFACE  LEFT   WHICH      KEPT\n" +
		"fourth   else       -     eth0       lease  10.89.0.2  it lives elsewhere\n"
	printPending = "3 to remove; nothing was changed (flatnet gc --yes removes)\n"
	printTree    = "flatnet  flatnet-br0  10.87.1.1/24  fd87::1/64\n" +
		"└─ fn-01234567 ── eth0  10.87.1.2,fd87::2  web (0123456789ab)\n      8080-8081->80-81/tcp\n      127.0.0.1:53->53/udp\n"
	printDot = "graph flatnet {\n  \"n1\" [label=\"other \"];\n  \"n2\" [label=\"eth1  db\"];\n  \"n1\" -- \"n2\" [label=\"fn-db\"];\n}\n"
)

func TestCommands(t *testing.T) {
	sick := errors.New("the kernel is sick")
	for _, tt := range []struct {
		args           string
		err            error
		stdout, stderr string
		status         int
	}{
		{"", nil, usage() + "\n", "", 0},
		{"help", nil, usage() + "\n", "", 0},
		{"--help", nil, usage() + "\n", "", 0},
		{"-h", nil, usage() + "\n", "", 0},
		{"version", nil, aboutTest(), "", 0},
		{"--version", nil, aboutTest(), "", 0},
		{"list", nil, printTable + printOthers, "", 0},
		{"ps flatnet", nil, printTable, "", 0},
		{"ps --network flatnet --no-header", nil, "flatnet  0123456789ab  web  eth0  10.87.1.2,fd87::2  8080-8081->80-81/tcp,127.0.0.1:53->53/udp  fn-01234567  3h  attached\n", "", 0},
		{"ps --network=flatnet -q", nil, "0123456789abcdef\n", "", 0},
		{"ps --network other flatnet", nil, "", "flatnet: two networks are asked for: \"other\" and \"flatnet\"\n", 2},
		{"gc", nil, printLeft + printKept + printPending, "", 3},
		{"gc third", nil, printLeft + printPending, "", 3},
		{"gc fourth", nil, printKept + "nothing to remove\n", "", 0},
		{"gc -y", nil, printLeft + printKept + "removed: 3\n", "", 0},
		{"gc --yes flatnet", nil, "nothing to remove\n", "", 0},
		{"gc", sick, printLeft + printKept + printPending, "flatnet: the kernel is sick\n", 1},
		{"gc fourth", sick, printKept, "flatnet: the kernel is sick\n", 1},
		{"list none", nil, "", "flatnet: network \"none\" has no attachment on this host\n", 1},
		{"list", sick, printTable + printOthers, "flatnet: the kernel is sick\n", 1},
		{"status flatnet", nil, printVerdict, "flatnet: network flatnet: a rule is missing\n", 1},
		{"show flatnet", nil, printTree, "", 0},
		{"show other --dot", nil, printDot, "", 0},
		{"show other --mermaid", nil, "graph LR\n  n1[\"other \"]\n  n2[\"eth1  db\"]\n  n1 --- n2\n", "", 0},
		{"show --dot --mermaid", nil, "", "flatnet: --dot and --mermaid are two formats: choose one\n", 2},
		{"list --json -q", nil, "", "flatnet: --json and --quiet are two formats: choose one\n", 2},
		{"reload", nil, "mended: x was y\n", "", 0},
		{"reload", sick, "mended: x was y\n", "flatnet: the kernel is sick\n", 1},
		{"completion tcsh", nil, "", "flatnet: shell \"tcsh\": it must be bash, zsh or fish\n", 2},
		{"list flatnet other", nil, "", "flatnet list: it takes no argument \"other\"\nUsage: flatnet list [--json] [--network NETWORK] [-q] [--no-header] [NETWORK]\n", 2},
		{"reload all", nil, "", "flatnet reload: it takes no argument \"all\"\nUsage: flatnet reload [--json]\n", 2},
		{"completion", nil, "", "flatnet completion: it needs SHELL\nUsage: flatnet completion SHELL\n", 2},
		{"list --jsno", nil, "", "flatnet list: there is no option \"--jsno\"; is \"--json\" meant?\n", 2},
		{"list --json=yes", nil, "", "flatnet list: option --json takes no value\n", 2},
		{"list flatnett", nil, "", "flatnet: network \"flatnett\" has no attachment on this host; is \"flatnet\" meant?\n", 1},
		{"lsit", nil, "", "flatnet: there is no command \"lsit\"; is \"list\" meant?\n", 2},
		{"stat", nil, "", "flatnet: there is no command \"stat\"; is \"status\" meant?\n", 2},
		{"inspect", nil, "", "flatnet: there is no command \"inspect\"; is \"show\" meant?\n", 2},
		{"-v", nil, "", "flatnet: there is no command \"-v\"; is \"version\" meant?\n", 2},
		{"frobnicate", nil, "", "flatnet: there is no command \"frobnicate\"\nflatnet --help lists the commands.\n", 2},
		{"help lsit", nil, "", "flatnet: there is no command \"lsit\"; is \"list\" meant?\nflatnet --help lists the commands.\n", 2},
	} {
		status, stdout, stderr := run(tt.args, fakeHost{tt.err})
		if status != tt.status || stdout != tt.stdout || !strings.HasPrefix(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
			t.Errorf("flatnet %s: %d\n%s%s", tt.args, status, stdout, stderr)
		}
	}
}

// Output that a full disk does not take is one error, however much there is to print, and a
// failure. If the reader has closed its pipe, it is a failure without a message.
func TestOutputThatFails(t *testing.T) {
	for err, want := range map[error]string{syscall.ENOSPC: "flatnet: no space left on device\n", fmt.Errorf("write: %w", syscall.EPIPE): ""} {
		for _, args := range []string{"", "list", "list --json", "show", "status flatnet", "reload", "gc", "gc --yes", "publish 0123", "doctor", "plan", "version", "help list",
			"list --help", "completion bash", completing} {
			var stderr strings.Builder
			c := Call{Args: strings.Fields(args), Host: fakeHost{}, Inventory: fakeInventory{}, Names: func() map[string]string { return nil }, Stdout: broken{err}, Stderr: &stderr,
				Examine: func() []report.Finding { return []report.Finding{{Verdict: report.OK}} }, Plan: func(PlanQuery) ([]string, error) { return []string{"a", "b"}, nil }}
			if status := Main(&c); status != failed || strings.TrimSuffix(stderr.String(), "flatnet: network flatnet: a rule is missing\n") != want {
				t.Errorf("flatnet %s: %d, %s", args, status, stderr.String())
			}
		}
	}
}

// A broken output fails each write.
type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

// Without root, a command that needs it prints what to type instead, and does nothing. Its help
// is for everybody.
func TestWithoutRoot(t *testing.T) {
	for _, cmd := range commands() {
		if !cmd.root {
			continue
		}
		var stdout, stderr strings.Builder
		c := Call{Args: []string{cmd.name}, Stdout: &stdout, Stderr: &stderr, Refusal: func(args ...string) string { return "sudo flatnet " + strings.Join(args, " ") }}
		if cmd.name == "unpublish" {
			c.Args = append(c.Args, "web", "80")
		}
		if status := Main(&c); status != failed || stdout.Len() > 0 || stderr.String() != "flatnet: sudo flatnet "+strings.Join(c.Args, " ")+"\n" {
			t.Errorf("%s: %d, %s%s", cmd.name, status, stdout.String(), stderr.String())
		}
		stderr.Reset()
		c.Args = []string{cmd.name, "--help"}
		if status := Main(&c); status != 0 || stdout.Len() == 0 || stderr.Len() > 0 {
			t.Errorf("%s --help: %d, %s%s", cmd.name, status, stdout.String(), stderr.String())
		}
	}
}

// Every command explains itself in the width of a terminal, and the whole on a screen.
func TestHelp(t *testing.T) {
	all := usage() + "\n"
	for _, name := range names() {
		for _, args := range []string{name + " --help", name + " -h", "help " + name} {
			status, text, stderr := run(args, nil)
			if status != 0 || stderr != "" || !strings.HasPrefix(text, "flatnet "+name) || !strings.Contains(text, "\nExit status:\n  0 ") {
				t.Errorf("flatnet %s: %d, %s%s", args, status, text, stderr)
			}
			all += text
		}
		if !strings.Contains(usage(), "\n  "+name+" ") {
			t.Errorf("the help lacks %s", name)
		}
	}
	for line := range strings.Lines(all) {
		if len(line) > 81 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
	if n := strings.Count(usage(), "\n") + 1; n > 30 {
		t.Errorf("the help has %d lines", n)
	}
}

// Options and arguments come in any order; what follows "--", and all that follows the first
// argument of a command that runs another, is no option.
func TestParse(t *testing.T) {
	c := command{name: "do", arguments: []string{"WHAT", "[MORE...]"}, options: []option{{name: "--file", short: "-f", value: "FILE"}, {name: "--all"}}}
	raw := command{name: "run", arguments: []string{"COMMAND..."}, raw: true, options: c.options}
	for _, tt := range []struct {
		c          command
		args, want string
	}{
		{c, "a", "[a] false "},
		{c, "a b --all c", "[a b c] true "},
		{c, "-f x a", "[a] false x"},
		{c, "a --file=x=y -f z", "[a] false z"},
		{c, "a -f", "option -f needs a value: FILE"},
		{c, "--all", "it needs WHAT"},
		{c, "--all --help", "[] true "},
		{c, "--fil", `there is no option "--fil"; is "--file" meant?`},
		{c, "-x", `there is no option "-x"`},
		{c, "-- --all -f", "[--all -f] false "},
		{c, "-", "[-] false "},
		{raw, "--all list --json --file", "[list --json --file] true "},
		{raw, "", "it needs COMMAND"},
	} {
		q, err := tt.c.parse(strings.Fields(tt.args))
		got := fmt.Sprint(q.args, q.has("--all"), " ", q.value("--file"))
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestJSON(t *testing.T) {
	const list = `[
  {
    "network": "flatnet",
    "container": "0123456789abcdef",
    "name": "web",
    "interface": "eth0",
    "addresses": [
      "10.87.1.2",
      "fd87::2"
    ],
    "ports": [
      {
        "hostIP": "0.0.0.0",
        "hostPort": 8080,
        "containerPort": 80,
        "protocol": "tcp"
      },`
	if status, got, stderr := run("list --json flatnet", fakeHost{}); status != 0 || !strings.HasPrefix(got, list) {
		t.Errorf("%d, %s%s", status, got, stderr)
	}
}

func TestStatusJSON(t *testing.T) {
	const networks = `[
  {
    "network": "flatnet",
    "bridge": "flatnet-br0",
    "gateways": [
      "10.87.1.1",
      "fd87::1"
    ],
    "attachments": 1,
    "pools": [
      {
        "subnet": "10.87.1.0/24",
        "used": 1,
        "free": 252
      },
      {
        "subnet": "fd87::/64",
        "used": 1
      }
    ],
    "missingRules": 1,
    "state": "incomplete",
    "status": "a rule is missing"
  }
]
`
	if status, got, _ := run("status --json flatnet", fakeHost{}); status != 1 || got != networks {
		t.Errorf("%d, %s", status, got)
	}
}

func TestRepairsJSON(t *testing.T) {
	const repairs = "{\n  \"repairs\": [\n    \"mended: x was y\"\n  ]\n}\n"
	if status, got, _ := run("reload --json", fakeHost{}); status != 0 || got != repairs {
		t.Errorf("%d, %s", status, got)
	}
	const gone = `[
  {
    "network": "fourth",
    "container": "else",
    "name": "",
    "interface": "eth0",
    "kind": "lease",
    "what": "10.89.0.2",
    "kept": "it lives elsewhere",
    "removed": false
  }
]
`
	if status, got, _ := run("gc --json fourth", fakeHost{}); status != 0 || got != gone {
		t.Errorf("%d, %s", status, got)
	}
}

// The scripts ask for completions of the last word.
func TestCandidates(t *testing.T) {
	for words, want := range map[string]string{
		"":                  strings.Join(names(), " "),
		"li":                "list",
		"nonsense ":         "",
		"list --j":          "--json",
		"show --":           "--dot --mermaid --help",
		"show ":             "flatnet other",
		"show --dot o":      "other",
		"show flatnet ":     "",
		"help st":           "status",
		"completion ":       "bash zsh fish",
		"reload ":           "",
		"completion bash z": "",
	} {
		last := words[strings.LastIndex(words, " ")+1:]
		status, out, stderr := runWords(append(append([]string{completing}, strings.Fields(strings.TrimSuffix(words, last))...), last), fakeHost{})
		var got []string
		for line := range strings.Lines(out) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		if text := strings.TrimSpace(strings.Join(got, " ")); status != 0 || stderr != "" || text != want {
			t.Errorf("%q: %s, %d %s, want %s", words, text, status, stderr, want)
		}
	}
	c := Call{Host: fakeHost{}, Names: func() map[string]string { return map[string]string{"0123456789abcdef": "web"} }}
	if got := fmt.Sprintf("%q", c.values("CONTAINER")); got != `["0123456789ab\tweb" "db" "web\t0123456789ab"]` {
		t.Errorf("containers: %s", got)
	}
	if got := c.values("FILE"); len(got) != 1 || got[0] != wantsFiles {
		t.Errorf("files: %q", got)
	}
}

// aboutTest is what flatnet version prints in tests.
func aboutTest() string {
	lines, _ := about(&Call{Build: Build{Version: "v1-test", Commit: "c0ffee", CNI: []string{"0.1.0", "1.1.0"}, Netavark: "1.0.0"}}, query{})
	return strings.Join(lines, "\n") + "\n"
}

// The first line is for scripts, and JSON has the same and more.
func TestVersion(t *testing.T) {
	lines := strings.Split(aboutTest(), "\n")
	if lines[0] != "flatnet v1-test" || lines[1] != "commit    c0ffee" || lines[3] != "CNI       0.1.0 1.1.0" || lines[4] != "netavark  plugin API 1.0.0" {
		t.Errorf("%q", lines)
	}
	status, text, _ := run("version --json", nil)
	for _, want := range []string{`"version": "v1-test"`, `"commit": "c0ffee"`, `"go": "go1.`, `"platform": "linux/`, `"apiVersion": "1.0.0"`} {
		if status != 0 || !strings.Contains(strings.ReplaceAll(text, `":"`, `": "`), want) {
			t.Errorf("%d: no %s in %s", status, want, text)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m",
		2 * time.Hour: "2h", 23 * time.Hour: "23h", 24 * time.Hour: "1d", 240 * time.Hour: "10d"} {
		if got := age(d, false); got != want {
			t.Errorf("%v is %s, not %s", d, got, want)
		}
	}
	if got := age(time.Hour, true); got != "-" {
		t.Error(got)
	}
}

// Colours appear only on a terminal, and take no room in a table.
func TestColours(t *testing.T) {
	var plain, coloured strings.Builder
	for out, color := range map[*strings.Builder]bool{&plain: false, &coloured: true} {
		for _, args := range []string{"list", "status", "doctor"} {
			found := func() []report.Finding { return []report.Finding{{Verdict: report.Warn, Check: "x", Seen: "y"}} }
			Main(&Call{Args: []string{args}, Host: fakeHost{}, Inventory: fakeInventory{}, Examine: found, Color: color, Stdout: out, Stderr: out,
				Now: func() time.Time { return noon }})
		}
	}
	bare := strings.NewReplacer("\x1b[33m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[m", "").Replace(coloured.String())
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(coloured.String(), "\x1b[33mno record\x1b[m") || bare != plain.String() {
		t.Errorf("%s%s", plain.String(), coloured.String())
	}
}

// Advice that each line repeats is given once.
func TestBrief(t *testing.T) {
	const mend = " (flatnet reload mends that)"
	for faults, want := range map[string]string{
		"a is b" + mend:                     "a is b" + mend,
		"a is b" + mend + "\nc is d" + mend: "a is b" + mend + ", and 1 more:\nc is d",
		"a is b" + mend + "\nc is d":        "a is b" + mend + "\nc is d",
		"":                                  "",
	} {
		if got := brief(faults); got != want {
			t.Errorf("%q: %q", faults, got)
		}
	}
}
