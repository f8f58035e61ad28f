package cli

import (
	"errors"
	"net/netip"
	"os/exec"
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
	var out, err strings.Builder
	names := func() map[string]string { return map[string]string{"0123456789abcdef": "web"} }
	status = Main(&Call{Args: strings.Fields(args), Version: "v1-test", Host: h, Names: names, Stdout: &out, Stderr: &err})
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
		{"version", nil, "flatnet v1-test\n", "", 0},
		{"--version", nil, "flatnet v1-test\n", "", 0},
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
		{"completion tcsh", nil, "", "flatnet: shell \"tcsh\": it must be bash, zsh or fish\n", 1},
		{"list flatnet other", nil, "", "flatnet list: it takes no argument \"other\"\n\nflatnet list [--json] [NETWORK]\n\n", 2},
		{"reload all", nil, "", "flatnet reload: it takes no argument \"all\"\n\nflatnet reload\n\n", 2},
		{"list --jsno", nil, "", "flatnet list: there is no option \"--jsno\"; is \"--json\" meant?\n\n", 2},
		{"lsit", nil, "", "flatnet has no command \"lsit\"; is \"list\" meant?\n\n" + usage() + "\n", 2},
		{"stat", nil, "", "flatnet has no command \"stat\"; is \"status\" meant?\n\n", 2},
		{"frobnicate", nil, "", "flatnet has no command \"frobnicate\"\n\n" + usage() + "\n", 2},
		{"help lsit", nil, "", "flatnet: there is no command \"lsit\"; is \"list\" meant?\n", 1},
	} {
		status, stdout, stderr := run(tt.args, fakeHost{tt.err})
		if status != tt.status || stdout != tt.stdout || !strings.HasPrefix(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
			t.Errorf("flatnet %s: %d\n%s%s", tt.args, status, stdout, stderr)
		}
	}
}

// Every command explains itself in the width of a terminal, and the whole on a screen.
func TestHelp(t *testing.T) {
	all := usage()
	for _, name := range names() {
		for _, args := range []string{name + " --help", name + " -h", "help " + name} {
			status, text, stderr := run(args, nil)
			if status != 0 || stderr != "" || !strings.HasPrefix(text, "flatnet "+name) {
				t.Errorf("flatnet %s: %d, %s%s", args, status, text, stderr)
			}
			all += text
		}
	}
	for line := range strings.Lines(all) {
		if len(line) > 101 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	if n := strings.Count(usage(), "\n"); n > 22 {
		t.Errorf("the usage has %d lines", n)
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

// Completion works in bash: the first word, and a command's options.
func TestCompletion(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal("needs bash (apt install bash)")
	}
	_, script, _ := run("completion bash", nil)
	for words, want := range map[string]string{"flatnet li": "list", "flatnet list --j": "--json", "flatnet show --": "--dot --mermaid --help"} {
		const ask = "\nCOMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _flatnet; echo ${COMPREPLY[*]}"
		got, err := exec.Command(bash, "-c", script+strings.Replace(ask, "%s", words, 1)).CombinedOutput()
		if strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: %s, %v, want %s", words, got, err, want)
		}
	}
	for _, shell := range []string{"zsh", "fish"} {
		if status, script, stderr := run("completion "+shell, nil); status != 0 || !strings.Contains(script, "reload") {
			t.Errorf("%s: %s%s", shell, script, stderr)
		}
	}
}
