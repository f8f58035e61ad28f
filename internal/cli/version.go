package cli

import (
	"errors"
	"runtime"
	"strings"

	"flatnet/internal/strictjson"
)

// A Build describes this binary.
type Build struct {
	Version, Commit string
	CNI             []string // the versions of the SPEC that its door speaks, oldest first
	Netavark        string   // the version of netavark's plugin API
}

// features lists what this build can do, regardless of the kernel.
func features() []string {
	return []string{
		"ipv4", "ipv6", "ports-tcp", "ports-udp", "ports-sctp", "masquerade", "isolation", "internal", "published-only",
		"port-isolation", "spoof-check", "bandwidth", "vlan", "dad", "container-names", "ipam-delegation", "rootless",
		"wsl2-mirrored",
		"reload", "gc", "publish", "plan", "trace", "peers", "host-id", "subnet-file", "registry",
	}
}

func versionCommand() command {
	return command{name: "version", other: "--version", alike: []string{"-v", "-V"}, options: []option{jsonOption()},
		summary: "print version, features and supported protocols",
		help:    "The features are those of the build. flatnet doctor finds what the kernel\nlacks for them.", run: about}
}

func about(c *Call, q query) ([]string, error) {
	b, platform := c.Build, runtime.GOOS+"/"+runtime.GOARCH
	if q.has("--json") {
		var w strictjson.Writer
		w.Lines = true
		w.Begin("", '{')
		for _, text := range [][2]string{{"version", b.Version}, {"commit", b.Commit}, {"go", runtime.Version()}, {"platform", platform}} {
			w.String(text[0], text[1])
		}
		w.Strings("features", features())
		w.Begin("doors", '{')
		w.Begin("cni", '{')
		w.Strings("versions", b.CNI)
		w.End('}')
		w.Begin("netavark", '{')
		w.String("apiVersion", b.Netavark)
		w.End('}')
		w.End('}')
		w.End('}')
		return []string{string(w.Bytes)}, nil
	}
	// Scripts read the first line.
	lines := []string{"flatnet " + b.Version}
	rows := [][]string{{"commit", b.Commit}, {"Go", runtime.Version() + " " + platform}, {"CNI", strings.Join(b.CNI, " ")},
		{"netavark", "plugin API " + b.Netavark}}
	for i, some := range wrap(features(), 66) {
		rows = append(rows, []string{[]string{"features", ""}[min(i, 1)], some})
	}
	return append(lines, table(rows)...), nil
}

// wrap joins words to lines of so many columns.
func wrap(words []string, columns int) (lines []string) {
	for _, w := range words {
		if last := len(lines) - 1; last >= 0 && len(lines[last])+1+len(w) <= columns {
			lines[last] += " " + w
		} else {
			lines = append(lines, w)
		}
	}
	return lines
}

// traceCommand is handled before this package is called: see trace.Begin. Only a call without
// another command gets here.
func traceCommand() command {
	return command{name: "trace", alike: []string{"strace", "monitor", "log"}, arguments: []string{"COMMAND..."}, raw: true,
		summary: "run a command and print each netlink message",
		help: "Each message of the command and its answer becomes a line on stderr, decoded,\nwith its time. COMMAND is one of flatnet's or of netavark's plugin interface;\n" +
			"if CNI_COMMAND is set, it may be left out. FLATNET_TRACE=1 in the environment\ndoes the same for a call of a container runtime.",
		examples: []string{"flatnet trace status # what it asks the kernel", "flatnet trace setup /run/netns/web <call.json # as netavark does"},
		run: func(*Call, query) ([]string, error) {
			return nil, exit{errors.New("trace: it needs a command of flatnet, or CNI_COMMAND"), usageError}
		}}
}
