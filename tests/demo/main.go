// Command demo runs flatnet's main job in a world of its own and shows what
// happens: containers come, talk and go, and nothing is left.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flatnet/tests/lab"
)

const (
	bridgeName = "flatnet-br0"
	gateway    = "10.87.1.1"
	leaseFile  = "/var/lib/flatnet/ipam/allocations.json"
)

func main() {
	lab.Main()
	var s lab.Script
	defer s.Close()
	w := lab.New(&s)

	r := newRuntime(w)
	title("%s on the network flatnet", r.name)
	guests := []guest{r.start("web"), r.start("db")}
	for _, g := range guests {
		say("%-4s has %-10s by %s", g.name, g.addr, g.how)
	}

	title("What the kernel has now")
	picture(w, guests)

	title("Who reaches whom, by a ping and a TCP connection")
	web, db := guests[0], guests[1]
	talk("host", w.Place, "web", web.place, web.addr)
	talk("web", web.place, "gateway", w.Place, gateway)
	talk("web", web.place, "db", db.place, db.addr)
	talk("web", web.place, "outside", w.Outside, lab.OutsideAddr)
	say("(%s is the host: the outside has no route to 10.87.0.0/16)", lab.HostAddr)

	title("Who has which address: %s", leaseFile)
	say("%s", strings.ReplaceAll(strings.TrimSpace(w.Read(leaseFile)), "\n", "\n    "))

	title("The containers go")
	for _, g := range guests {
		say("%s", r.stop(g))
	}
	say("interfaces  %s", orNone(hostEnds(w)))
	say("rules       %s", orNone(w.Run("nft", "list", "ruleset")))
	var leases struct{ Allocations map[string]string }
	if err := json.Unmarshal([]byte(w.Read(leaseFile)), &leases); err != nil {
		s.Fatalf("lease file: %v", err)
	}
	say("leases      %s", orNone(strings.TrimPrefix(fmt.Sprint(leases.Allocations), "map[]")))
	bridge := "went with them"
	if slices.ContainsFunc(ifaces(&s, w.Place), func(i iface) bool { return i.IfName == bridgeName }) {
		bridge = "stays for the next one"
	}
	say("The bridge %s. Your machine never saw any of this.", bridge)
}

// title is bold on a terminal.
func title(format string, args ...any) {
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		format = "\033[1m" + format + "\033[0m"
	}
	fmt.Printf("\n"+format+"\n", args...)
}

func say(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }

func orNone(s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return "none left"
	}
	return s
}

// A guest is a container on the network.
type guest struct {
	name, addr string
	how        string // the command that made it
	place      lab.Place
	call       lab.Call // plain namespaces only
}

// A runtime starts and stops guests.
type runtime struct {
	name  string
	start func(name string) guest
	stop  func(guest) (how string)
}

// newRuntime is the machine's Podman, or else plain namespaces.
func newRuntime(w *lab.World) runtime {
	root, err := filepath.Abs("..")
	if err != nil {
		w.TB.Fatalf("%v", err)
	}
	w.Run("make", "-s", "-C", root, "-o", "build", "install")
	podman, err := w.Podman()
	if err != nil {
		say("(no Podman here: %v)", err)
		return plain(w, filepath.Join(root, "bin", "flatnet"))
	}
	if podman.Backend == "netavark" {
		podman.Do("network", "create", "--driver", "flatnet", "flatnet")
	}
	return runtime{
		name: "Two containers of " + podman.Do("--version") + " (" + podman.Backend + ")",
		start: func(name string) guest {
			podman.Start(name)
			inspect := func(field string) string { return podman.Do("inspect", "-f", "{{.NetworkSettings."+field+"}}", name) }
			return guest{
				name: name, how: "podman run -d --network flatnet --name " + name,
				addr: podman.Network(name, "flatnet", "IPAddress"), place: w.At(inspect("SandboxKey")),
			}
		},
		stop: func(g guest) string {
			podman.Do("rm", "-f", "-t", "0", g.name)
			return "podman rm -f " + g.name
		},
	}
}

func plain(w *lab.World, program string) runtime {
	run := func(c lab.Call) lab.Reply {
		r := w.Call(program, c)
		if r.Exit != 0 {
			w.TB.Fatalf("%s: %s", c.Command, r.Stdout)
		}
		return r
	}
	return runtime{
		name: "Two network namespaces",
		start: func(name string) guest {
			g := guest{name: name, place: w.NetNS(name), how: "CNI_COMMAND=ADD flatnet"}
			g.call = lab.Call{Command: "ADD", ID: name, NetNS: g.place.Path, IfName: "eth0", Conf: lab.Conf}
			g.addr = run(g.call).Addr()
			return g
		},
		stop: func(g guest) string {
			g.call.Command = "DEL"
			run(g.call)
			return "CNI_COMMAND=DEL CNI_CONTAINERID=" + g.name + " flatnet"
		},
	}
}

// talk shows that a server in one place answers a client in another.
func talk(from string, client lab.Place, to string, server lab.Place, addr string) {
	server.Serve(addr + ":80")
	out := client.Run("ping", "-n", "-c", "1", "-i", "0.2", "-w", "5", addr)
	_, rest, _ := strings.Cut(out, "time=")
	time, _, _ := strings.Cut(rest, "\n")
	as, err := client.Ask(addr + ":80")
	if err != nil {
		as = err.Error()
	}
	say("%-4s -> %-8s %-10s in %s, seen as %s", from, to, addr, time, as)
}
