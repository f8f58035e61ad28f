// Flatnet gives containers a flat network on a Linux host. The binary has one
// door for container runtimes that speak CNI, one for Podman 5 and newer, which
// runs it as a plugin of netavark, and one for people.
package main

import (
	"cmp"
	"os"
	"os/signal"
	"syscall"

	"flatnet/bridge/publish"
	"flatnet/cni"
	"flatnet/internal/cli"
	"flatnet/internal/doctor"
	"flatnet/internal/engine"
	"flatnet/internal/inventory"
	"flatnet/internal/netavark"
	"flatnet/internal/plan"
	"flatnet/internal/podman"
	"flatnet/internal/rootless"
	"flatnet/internal/trace"
)

// The Makefile sets both.
var version, commit = "unknown", "unknown"

func main() {
	rootless.Disinherit()
	os.Args = trace.Begin(os.Args)
	e := engine.New()
	isCNI := os.Getenv("CNI_COMMAND") != ""
	if !isCNI && (len(os.Args) < 2 || !netavark.IsCommand(os.Args[1])) {
		st, err := os.Stdout.Stat()
		build := cli.Build{Version: version, Commit: commit, CNI: cni.Versions(), Netavark: netavark.APIVersion}
		planner := plan.Planner{CNI: plan.ConfDir, Podman: cmp.Or(rootless.Networks(), netavark.NetworkDir)}
		host := inventory.Inventory{Engine: e, Names: podman.Names}
		d := doctor.Doctor{Engine: e, Inventory: inventory.Inventory{Engine: e, Names: podman.Names, Aloof: true}, Root: "/", Self: "/proc/self/exe", Configured: planner.Configured}
		os.Exit(cli.Main(&cli.Call{
			Args: os.Args[1:], Build: build, Host: e.Host, Names: podman.Names, Publisher: publish.Publisher{Warn: e.Warn}, Examine: d.Examine,
			Plan: planner.Run, Refusal: rootless.Refusal, Inventory: host, Stdout: os.Stdout, Stderr: os.Stderr,
			Color: err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		}))
	}
	// A reply that is not read must be an error, and not end the process: see cni.Main.
	// This costs 0.1 ms less than signal.Notify. Children inherit ignored signals, so
	// code that starts a child calls Notify first.
	signal.Ignore(syscall.SIGPIPE)
	if isCNI {
		e.Decode = cni.ReadResult
		call := cni.Call{Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
		os.Exit(cni.Main(call, e))
	}
	// Netavark does not call teardown for an interrupted setup. A setup that goes on
	// can't deliver its reply, and then removes its attachment.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	e.Managed = true
	p := netavark.Plugin{Engine: e, Version: version, Networks: cmp.Or(rootless.Networks(), netavark.NetworkDir)}
	os.Exit(p.Main(os.Args[1:], os.Stdin, os.Stdout))
}
