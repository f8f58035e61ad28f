package tests

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A trouble is a common failure. Its symptom is the heading of its section in
// docs/troubleshooting.md; "..." stands for what differs.
type trouble struct {
	symptom string
	says    []string // what happened, on what, and what to do
	by      []cause
}

// A cause brings a failure about in a world that has the container "first" with port
// 8080, and returns what a person sees.
type cause func(b box) string

// adding is an ADD of another container.
func adding(edit func(*lab.Call)) cause {
	return func(b box) string {
		c := call("ADD", "c1")
		edit(&c)
		return b.said(c)
	}
}

// keyed is the ADD with further keys in its configuration.
func keyed(keys string) cause { return adding(like(conf(keys))) }

// status is what STATUS answers.
func status(b box) string { return b.said(lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}) }

// said is what a call by CNI says that fails, or succeeds with a warning.
func (b box) said(c lab.Call) string {
	b.t.Helper()
	r := b.Call(program, c)
	if r.Exit == 0 {
		c.Command = "DEL"
		b.do(c)
	}
	return r.Msg + r.Details + r.Stderr
}

// creating is podman network create, by netavark.
func creating(keys string) cause {
	return func(b box) string {
		out, _ := b.create(network{keys: keys})
		return out
	}
}

// setting is podman run on a network, by netavark.
func setting(n network) cause {
	return func(b box) string {
		n.keys = cmp.Or(n.keys, subnet5)
		definition, err := b.create(n)
		if err != nil {
			b.t.Errorf("create: %v: %s", err, definition)
			return ""
		}
		out, _ := b.exec("setup", "c1", definition, n)
		b.exec("teardown", "c1", definition, n)
		return out
	}
}

// exhausted is a network whose only address another container has.
func exhausted(b box) string {
	b.NetNS("c2")
	n := network{keys: `"subnets":[{"subnet":"10.99.5.0/30"}]`}
	definition, err := b.create(n)
	if err != nil {
		b.t.Errorf("create: %v: %s", err, definition)
	}
	if out, err := b.exec("setup", "c2", definition, n); err != nil {
		b.t.Errorf("setup: %v: %s", err, out)
	}
	defer b.exec("teardown", "c2", definition, n)
	return setting(n)(b)
}

// after is a cause on a host that a script has changed.
func after(script string, by cause) cause {
	return func(b box) string {
		b.Sh(script)
		return by(b)
	}
}

// try brings the failure about in each way. What is said matches the heading, and says
// what happened, on what, and what to do; by netavark's door in JSON.
func (tr *trouble) try(b box) {
	b.t.Helper()
	heading := pattern(tr.symptom)
	for i, by := range tr.by {
		said := strings.ReplaceAll(by(b), `\"`, `"`)
		if !heading.MatchString(said) {
			b.t.Errorf("%d: %q is not of the form %q", i, said, tr.symptom)
		}
		for _, want := range tr.says {
			if !regexp.MustCompile(want).MatchString(said) {
				b.t.Errorf("%d: %q does not say %q", i, said, want)
			}
		}
	}
}

// pattern matches what a heading stands for.
func pattern(symptom string) *regexp.Regexp {
	return regexp.MustCompile("(?s)" + strings.ReplaceAll(regexp.QuoteMeta(symptom), `\.\.\.`, ".*"))
}

func (b box) withFirst() box {
	b.t.Helper()
	b.attach("first", like(publish(lab.Conf, mapping(8080, 80, ""))))
	b.NetNS("c1")
	return b
}

// Each of the most common failures says what happened, on what, and what to do.
func TestTroubles(t *testing.T) {
	t.Parallel()
	shared := box{lab.New(t), t}.withFirst()
	before := shared.state()
	for _, tr := range refusals {
		t.Run(tr.symptom, func(t *testing.T) { tr.try(shared.in(t)) })
	}
	shared.Sh("ip link del flatnet-96089c9 2>/dev/null || true") // it stays after a failed setup
	shared.same(before)
	for _, tr := range damages {
		t.Run(tr.symptom, func(t *testing.T) { tr.try(newBox(t).withFirst()) })
	}
}

// podmanOf is podman network create on a machine that a script has changed, and which the
// repair of the document changes back.
func podmanOf(suite, script, repair string) cause {
	return func(b box) string {
		p := b.debianPodman(suite)
		p.World.Sh("mkdir -p /etc/containers/containers.conf.d; " + script)
		_, err := p.Try("network", "create", "--driver", "flatnet", "second")
		if err == nil {
			b.t.Fatal("the network is created")
		}
		p.World.Sh(repair)
		if suite != "bookworm" { // where it is CNI's
			p.Do("network", "create", "--driver", "flatnet", "flatnet")
		}
		p.Do("run", "--rm", "--network", "flatnet", p.World.Cgroup(), lab.Image, "sh", "-c", ":")
		return err.Error()
	}
}

func TestTroublesOfPodman(t *testing.T) {
	t.Parallel()
	for _, tr := range podmans {
		t.Run(tr.symptom, func(t *testing.T) { tr.try(newBox(t)) })
	}
}

// The document has a section for each of these failures, with what it means and what to do,
// and for no others.
func TestTroublesAreDocumented(t *testing.T) {
	text := document(t, "troubleshooting.md")
	var have, want []string
	for _, section := range strings.Split(text, "\n### ")[1:] {
		heading, body, _ := strings.Cut(section, "\n")
		have = append(have, strings.Trim(heading, "`"))
		if body, _, _ = strings.Cut(body, "\n## "); !strings.Contains(body, "**Means:** ") || !strings.Contains(body, "**Do:** ") {
			t.Errorf("%s: it must say what it means and what to do", heading)
		}
	}
	for _, tr := range slices.Concat(refusals, damages, podmans) {
		want = append(want, tr.symptom)
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) || len(want) < 30 {
		t.Errorf("%d sections %q\n%d failures %q", len(have), have, len(want), want)
	}
}
