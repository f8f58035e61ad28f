package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"flatnet/bridge/model"
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

func run(args string, h Host) (status int, stdout, stderr string) {
	return runWords(strings.Fields(args), h)
}

func runWords(args []string, h Host) (status int, stdout, stderr string) {
	var out, err strings.Builder
	names := func() map[string]string { return map[string]string{"0123456789abcdef": "web"} }
	status = Main(&Call{Args: args, Build: Build{Version: "v1-test", Commit: "c0ffee", CNI: []string{"0.1.0", "1.1.0"}, Netavark: "1.0.0"}, Host: h, Names: names, Stdout: &out, Stderr: &err})
	return status, out.String(), err.String()
}

func TestCommands(t *testing.T) {
	const (
		table = "NETWORK  CONTAINER     NAME  INTERFACE  ADDRESSES          PORTS                                      HOST INTERFACE  STATE\n" +
			"flatnet  0123456789ab  web   eth0       10.87.1.2,fd87::2  8080-8081->80-81/tcp,127.0.0.1:53->53/udp  fn-01234567     attached\n"
		other   = "other    db            -     eth1       -                  -                                          fn-db           no record\n"
		verdict = "NETWORK  BRIDGE       GATEWAYS           ATTACHMENTS  ADDRESSES IN USE                       STATE\n" +
			"flatnet  flatnet-br0  10.87.1.1,fd87::1  1            1/253 of 10.87.1.0/24, 1 of fd87::/64  incomplete\n"
		tree = "flatnet  flatnet-br0  10.87.1.1/24  fd87::1/64\n" +
			"└─ fn-01234567 ── eth0  10.87.1.2,fd87::2  web (0123456789ab)\n      8080-8081->80-81/tcp\n      127.0.0.1:53->53/udp\n"
		dot = "graph flatnet {\n  \"n1\" [label=\"other \"];\n  \"n2\" [label=\"eth1  db\"];\n  \"n1\" -- \"n2\" [label=\"fn-db\"];\n}\n"
	)
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
		{"list", nil, table + other, "", 0},
		{"ps flatnet", nil, table, "", 0},
		{"list none", nil, "", "flatnet: network \"none\" has no attachment on this host\n", 1},
		{"list", sick, "", "flatnet: the kernel is sick\n", 1},
		{"status flatnet", nil, verdict, "flatnet: network flatnet: a rule is missing\n", 1},
		{"show flatnet", nil, tree, "", 0},
		{"show other --dot", nil, dot, "", 0},
		{"show other --mermaid", nil, "graph LR\n  n1[\"other \"]\n  n2[\"eth1  db\"]\n  n1 --- n2\n", "", 0},
		{"reload", nil, "mended: x was y\n", "", 0},
		{"reload", sick, "mended: x was y\n", "flatnet: the kernel is sick\n", 1},
		{"completion tcsh", nil, "", "flatnet: shell \"tcsh\": it must be bash, zsh or fish\n", 2},
		{"list flatnet other", nil, "", "flatnet list: it takes no argument \"other\"\nUsage: flatnet list [--json] [NETWORK]\n", 2},
		{"reload all", nil, "", "flatnet reload: it takes no argument \"all\"\nUsage: flatnet reload\n", 2},
		{"completion", nil, "", "flatnet completion: it needs SHELL\nUsage: flatnet completion SHELL\n", 2},
		{"list --jsno", nil, "", "flatnet list: there is no option \"--jsno\"; is \"--json\" meant?\n", 2},
		{"list --json=yes", nil, "", "flatnet list: option --json takes no value\n", 2},
		{"list flatnett", nil, "", "flatnet: network \"flatnett\" has no attachment on this host; is \"flatnet\" meant?\n", 1},
		{"lsit", nil, "", "flatnet has no command \"lsit\"; is \"list\" meant?\n", 2},
		{"stat", nil, "", "flatnet has no command \"stat\"; is \"status\" meant?\n", 2},
		{"inspect", nil, "", "flatnet has no command \"inspect\"; is \"show\" meant?\n", 2},
		{"-v", nil, "", "flatnet has no command \"-v\"; is \"version\" meant?\n", 2},
		{"frobnicate", nil, "", "flatnet has no command \"frobnicate\"\nflatnet help lists the commands.\n", 2},
		{"help lsit", nil, "", "flatnet: there is no command \"lsit\"; is \"list\" meant?\n", 2},
	} {
		status, stdout, stderr := run(tt.args, fakeHost{tt.err})
		if status != tt.status || stdout != tt.stdout || !strings.HasPrefix(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
			t.Errorf("flatnet %s: %d\n%s%s", tt.args, status, stdout, stderr)
		}
	}
}

// Every command explains itself in the width of a terminal, and the whole on a screen.
func TestHelp(t *testing.T) {
	all := usage() + "\n"
	for _, name := range names() {
		for _, args := range []string{name + " --help", name + " -h", "help " + name} {
			status, text, stderr := run(args, nil)
			if status != 0 || stderr != "" || !strings.HasPrefix(text, "flatnet "+name) || !strings.Contains(text, "\nExit status:\n  0 done") {
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
	const networks = `[
  {
    "network": "flatnet",
    "bridge": "flatnet-br0",
    "gateways": [
      "10.87.1.1",
      "fd87::1"
    ],
    "attachments": 1,
    "state": "incomplete",
    "faults": "a rule is missing"
  }
]
`
	if status, got, _ := run("status --json flatnet", fakeHost{}); status != 1 || got != networks {
		t.Errorf("%d, %s", status, got)
	}
}

// The scripts ask for what may be the last word.
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
