package tests

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A capable is a box whose container c1 has the attachment that a verb is about.
type capable struct {
	box
	wrapper []string // a command that runs flatnet with less
}

// Every verb works with the capabilities that docs/embedding.md has for it and no others,
// and says which one is missing if it lacks one of them.
func TestCapabilities(t *testing.T) {
	b := newBox(t)
	b.NetNS("c1")
	b.configured()
	c := capable{box: b}
	document := output(t, root, "cat", "docs/embedding.md")
	row := regexp.MustCompile("(?m)^\\| (`[A-Z].*) \\| (none|`CAP_.*`) \\|$")
	word := regexp.MustCompile("`([^`]+)`")
	rows := row.FindAllStringSubmatch(document, -1)
	tried := map[string]bool{}
	for _, r := range rows {
		var needed []string
		for _, m := range word.FindAllStringSubmatch(r[2], -1) {
			needed = append(needed, strings.ToLower(m[1]))
		}
		for _, verb := range word.FindAllStringSubmatch(r[1], -1) {
			c.try(verb[1], needed)
			tried[verb[1]] = true
		}
	}
	all := []string{"VERSION", "STATUS", "ADD", "CHECK", "DEL", "GC", "info", "create", "setup", "teardown"}
	for _, m := range listed.FindAllStringSubmatch(b.Run(program, "help"), -1) {
		all = append(all, m[1])
	}
	for _, verb := range all {
		if !tried[verb] {
			t.Errorf("docs/embedding.md does not say which capabilities %s needs", verb)
		}
	}
}

// try runs a verb with every set of the two capabilities.
func (c capable) try(verb string, needed []string) {
	c.t.Helper()
	for _, has := range [][]string{{}, {"cap_net_admin"}, {"cap_sys_admin"}, {"cap_net_admin", "cap_sys_admin"}} {
		missing := slices.DeleteFunc(slices.Clone(needed), func(n string) bool { return slices.Contains(has, n) })
		set := "-all"
		for _, name := range has {
			set += ",+" + strings.TrimPrefix(name, "cap_")
		}
		added := c.before(verb)
		before := ""
		if len(missing) > 0 {
			before = c.network()
		}
		c.wrapper = []string{"setpriv", "--bounding-set=" + set, "--no-new-privs"}
		said, ok := c.do(verb, added)
		c.wrapper = nil
		if now := c.network(); !ok && len(missing) > 0 && now != before {
			c.t.Errorf("%s with %s: there was\n%s\nand is\n%s", verb, set, before, now)
		}
		if ok != (len(missing) == 0) {
			c.t.Errorf("%s with %s: success is %v: %s", verb, set, ok, said)
		}
		if !ok && !slices.ContainsFunc(missing, func(n string) bool { return strings.Contains(said, strings.ToUpper(n)) }) {
			c.t.Errorf("%s with %s does not name one of %v: %s", verb, set, missing, said)
		}
		if said, ok := c.do("DEL", added); !ok {
			c.t.Fatalf("DEL after %s: %s", verb, said)
		}
		if len(needed) == 0 { // and so no other set is of interest
			break
		}
	}
	c.clean()
}

// network is what the host shows of links and rules.
func (c capable) network() string {
	c.t.Helper()
	state, _, _ := strings.Cut(c.state(), "\nleases: ")
	return state
}

// before makes what the verb works on.
func (c capable) before(verb string) lab.Reply {
	c.t.Helper()
	if slices.Contains([]string{"ADD", "setup", "create", "STATUS"}, verb) {
		return lab.Reply{}
	}
	added := c.Call(program, c.call("ADD", lab.Reply{}))
	if added.Exit != 0 {
		c.t.Fatal(added.Msg)
	}
	if verb == "reload" {
		c.Run("nft", "flush", "ruleset")
	}
	return added
}

func (c capable) call(verb string, added lab.Reply) lab.Call {
	made := call(verb, "c1")
	made.Conf = withKeys(lab.Conf, `"macspoofchk":true,"portIsolation":true,"runtimeConfig":{"portMappings":[`+mapping(8080, 80, "")+`],
		"bandwidth":{"ingressRate":1000000,"egressRate":1000000}}`)
	switch verb {
	case "CHECK":
		made.Conf = lab.WithPrev(made.Conf, added)
	case "STATUS":
		made.Conf = newer(made.Conf)
	case "GC":
		return gc(made.Conf)
	}
	return made
}

// do runs flatnet for a verb of either door or of people.
func (c capable) do(verb string, added lab.Reply) (said string, ok bool) {
	c.t.Helper()
	if verb == strings.ToUpper(verb) {
		r := c.Call(program, c.call(verb, added), c.wrapper...)
		return r.Msg + r.Stderr, r.Exit == 0
	}
	args, stdin := []string{verb}, ""
	switch verb {
	case "setup", "teardown":
		args, stdin = append(args, "/run/netns/c1"), podmanSays
	case "create":
		stdin = `{"name":"x","id":"f1a7","driver":"flatnet","subnets":[{"subnet":"10.87.7.0/24"}],"dns_enabled":false,"internal":false,"ipv6_enabled":false}`
	case "completion":
		args = append(args, "bash")
	case "gc":
		args = append(args, "--yes")
	case "trace":
		args = append(args, "status")
	case "publish":
		args = append(args, "c1", "8090:80")
	case "unpublish":
		args = append(args, "c1", "8080")
	}
	cmd := c.Cmd(slices.Concat(c.wrapper, []string{program}, args)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// A namespace that is named as a process's needs a third one.
func TestCapabilityForAProcessNamespace(t *testing.T) {
	b := newBox(t)
	cmd := b.NetNS("c1").Cmd("setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", "echo $$; exec cat")
	_, out := b.open(cmd)
	line := make([]byte, 20)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	add := call("ADD", "c1")
	add.NetNS = "/proc/" + strings.TrimSpace(string(line[:n])) + "/ns/net"
	less := []string{"setpriv", "--no-new-privs", "--bounding-set=-all,+net_admin,+sys_admin"}
	if r := b.Call(program, add, less...); r.Exit == 0 || !strings.Contains(r.Msg, "CAP_SYS_PTRACE") {
		t.Errorf("exit %d: %s", r.Exit, r.Stdout)
	}
	less[2] += ",+sys_ptrace"
	if r := b.Call(program, add, less...); r.Exit != 0 {
		t.Errorf("with it: %s", r.Stdout)
	}
	add.Command = "DEL"
	b.do(add)
	b.clean()
}
