package tests

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// watched attaches a container and reports how often the ADD lists rules. CHECK, which
// always looks at everything, must find it complete.
func (b box) watched(id string, edit ...func(*lab.Call)) (container, int) {
	b.t.Helper()
	c := container{Place: b.NetNS(id), add: call("ADD", id)}
	for _, f := range edit {
		f(&c.add)
	}
	c.result = b.Call(program, c.add, "strace", "-f", "-qq", "-e", "trace=sendto", "-o", "/run/trace")
	if c.result.Exit != 0 {
		b.t.Fatal(c.result.Stdout)
	}
	looks := strings.Count(b.trace(), "NFT_MSG_GETRULE")
	b.do(c.then("CHECK"))
	return c, looks
}

func withPort(port int) func(*lab.Call) {
	return func(c *lab.Call) { c.Conf = publish(c.Conf, mapping(port, 80, "")) }
}

func open(c *lab.Call) { c.Conf = strings.Replace(c.Conf, "}", `,"isolation":"none"}`, 1) }

func checked(c *lab.Call) { c.Conf = strings.Replace(c.Conf, "}", `,"macspoofchk":true}`, 1) }

// Rules that an ADD has seen are looked at again when somebody has changed any: then once.
// What a call with a port commits itself is no reason, whoever makes it.
func TestRulesAreLookedAtOnce(t *testing.T) {
	b := newBox(t)
	b.Run("nft", "add", "table", "ip", "foreign")
	ported := b.attach("ported", withPort(8000))
	b.do(ported.then("DEL"))
	for i, step := range []struct {
		what, before string
		looks        int
		edit         []func(*lab.Call)
	}{
		{"the first ADD", ":", 2, nil},
		{"another", ":", 0, nil},
		{"after a foreign rule", "nft add chain ip foreign c; nft add rule ip foreign c accept", 2, nil},
		{"yet another", ":", 0, nil},
		{"the first port", ":", 1, []func(*lab.Call){withPort(8001)}},
		{"another port", ":", 0, []func(*lab.Call){withPort(8002)}},
		{"no port", ":", 0, nil},
		{"another configuration", ":", 2, []func(*lab.Call){open}},
		{"the same", ":", 0, []func(*lab.Call){open, withPort(8003)}},
		{"after a flush", "nft flush ruleset", 3, []func(*lab.Call){open, withPort(8004)}},
		{"all of it", ":", 0, []func(*lab.Call){open, withPort(8005)}},
		{"a damaged note", "printf x | dd bs=1 seek=4166 conv=notrunc status=none of=$(echo /run/flatnet/*/.lock)", 2, []func(*lab.Call){open}},
	} {
		b.Sh(step.before)
		c, looks := b.watched(fmt.Sprint("c", i), step.edit...)
		if looks != step.looks {
			t.Errorf("%s: rules were listed %d times, want %d", step.what, looks, step.looks)
		}
		if step.what == "another port" { // a DEL is no reason, either
			b.do(c.then("DEL"))
		}
	}
}

// What is taken from the rules between two ADDs is there after the second one.
func TestRulesAreMendedBetweenADDs(t *testing.T) {
	b := newBox(t)
	b.attach("first", checked, withPort(8000))
	for i, spoil := range []string{
		"nft flush ruleset", "nft flush ruleset; nft flush ruleset",
		"nft delete table ip flatnet", "nft delete table ip6 flatnet", "nft delete table bridge flatnet", "nft delete table ip flatnet.ports",
		"nft flush chain ip flatnet masquerade-10.87.1.0/24", "nft flush chain ip flatnet.ports prerouting",
		"nft insert rule ip flatnet isolation-10.87.1.0/24 accept", "nft flush chain bridge flatnet check",
		`nft delete rule ip flatnet masquerade-10.87.1.0/24 handle $(nft -a list chain ip flatnet masquerade-10.87.1.0/24 | grep -o 'handle [0-9]*$' | tail -1 | cut -d' ' -f2)`,
	} {
		b.attach(fmt.Sprint("before", i), checked, withPort(8100+i)) // notes what stands
		b.Sh(spoil)
		if _, looks := b.watched(fmt.Sprint("after", i), checked, withPort(8200+i)); looks == 0 {
			t.Errorf("%s: nothing was looked at", spoil)
		}
	}
}

// note is what the ADDs have noted of the rules.
func (b box) note() string {
	b.t.Helper()
	return b.Sh("tail -c +4097 /run/flatnet/*/.lock")
}

// forge writes the note anew as if it had been written one commit later, with a change of
// its first line: where it was written.
func (b box) forge(from, to string) {
	b.t.Helper()
	text, _, _ := strings.Cut(b.note(), "\n\n")
	lines := strings.Split(text, "\n")
	generation, err := strconv.Atoi(lines[1])
	if err != nil || !strings.Contains(lines[0], from) {
		b.t.Fatalf("the note is %q", text)
	}
	lines[0], lines[1] = strings.Replace(lines[0], from, to, 1), strconv.Itoa(generation+1)
	text = strings.Join(lines, "\n")
	sum := sha256.Sum256([]byte(text))
	b.Write("/run/forged", fmt.Sprintf("%s\n\n%x\n", text, sum[:12]))
	b.Sh("dd if=/run/forged of=$(echo /run/flatnet/*/.lock) bs=4096 seek=1 conv=notrunc status=none")
}

// A note of another boot, network namespace or nf_tables says nothing, though its
// generation is this one's: /run may outlive them all. Only ADD goes by a note.
func TestNotesOfOtherPlaces(t *testing.T) {
	b := newBox(t)
	first := b.attach("first")
	numbers := regexp.MustCompile(`^(\S+) (\d+) (\d+)\n`).FindStringSubmatch(b.note())
	if numbers == nil || numbers[1] != strings.TrimSpace(b.Run("cat", "/proc/sys/kernel/random/boot_id")) {
		t.Fatalf("where the note was written: %q", numbers)
	}
	for i, other := range [][2]string{
		{numbers[1], "00000000-0000-4000-8000-000000000000"}, {" " + numbers[2] + " ", " 1 "}, {" " + numbers[3], " 77"},
	} {
		b.Run("nft", "flush", "ruleset")
		b.forge(other[0], other[1])
		if c, looks := b.watched(fmt.Sprint("c", i)); looks == 0 {
			t.Errorf("%s believes a note with %q", c.add.ID, other[1])
		}
	}
	b.Run("nft", "flush", "ruleset")
	b.forge("", "") // this would be believed, but nobody else asks for it
	b.refused(first.then("CHECK"), 0, "ip flatnet")
	status := lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}
	b.refused(status, 51, "ip flatnet")
	b.reload()
	b.do(first.then("CHECK"))
	b.attach("last")
	b.Run("nft", "flush", "ruleset")
	b.forge("", "")
	b.NetNS("control")
	b.do(call("ADD", "control"))
	if rules := b.Run("nft", "list", "ruleset"); rules != "" {
		t.Errorf("no forged note is believed, so this test shows nothing: %s", rules)
	}
}

// Where no note can be written, each ADD looks.
func TestNoNotes(t *testing.T) {
	b := newBox(t)
	b.Sh("mkdir -p -m 700 /run/flatnet/$(stat -Lc %i /proc/self/ns/net)/.lock")
	for _, id := range []string{"c1", "c2"} {
		if c, looks := b.watched(id); looks != 2 {
			t.Errorf("%s lists rules %d times", c.add.ID, looks)
		}
	}
}

// STATUS tries once what the kernel can do, and looks for everything else each time.
func TestSTATUSTriesOnce(t *testing.T) {
	b := newBox(t)
	const boot = "/proc/sys/kernel/random/boot_id"
	for _, step := range []struct {
		before, conf string
		tries        int
	}{
		{":", lab.Conf, 1}, {":", lab.Conf, 0}, {":", conf(`"macspoofchk":true`), 1}, {":", lab.Conf, 0}, {":", conf(`"macspoofchk":true`), 0},
		{"nft add table ip flatnet", lab.Conf, 1}, {"nft delete table ip flatnet", lab.Conf, 0},
		{"echo 00000000-0000-4000-8000-000000000000 >/run/boot; mount --bind /run/boot " + boot, lab.Conf, 1}, {":", lab.Conf, 0},
		{"umount " + boot, lab.Conf, 1}, {"chown 7 /run/flatnet/*/.lock", lab.Conf, 1},
		{"chown 0 /run/flatnet/*/.lock; mkdir /run/empty; mount --bind /run/empty /sys/module", lab.Conf, 1}, // modules were unloaded
	} {
		b.Sh(step.before)
		before := b.state()
		status := lab.Call{Command: "STATUS", Conf: newer(step.conf)}
		r := b.Call(program, status, "strace", "-f", "-qq", "-e", "trace=sendto", "-o", "/run/trace")
		if got := strings.Count(b.trace(), "NFNL_MSG_BATCH_BEGIN"); got != step.tries || r.Exit != 0 {
			t.Errorf("%s: STATUS of %s tries %d times, want %d: %s", step.before, step.conf, got, step.tries, r.Stdout)
		}
		b.same(before)
	}
	b.Run("nft", "add", "table", "ip", "flatnet")
	b.Run("nft", "add", "chain", "ip", "flatnet", "masquerade-10.87.1.0/24", "{ type filter hook input priority 0; }")
	b.refused(lab.Call{Command: "STATUS", Conf: newer(lab.Conf)}, 50, "masquerade-10.87.1.0/24")
}
