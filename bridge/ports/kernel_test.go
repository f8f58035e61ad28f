package ports

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/testns"
)

// A kernel is a network namespace without any rules.
type kernel struct {
	*testing.T
	*host.Host
	addrs []netip.Addr
	noFIB bool
}

// inNamespace runs fn in a new network namespace, on a thread that ends with it.
func inNamespace(t *testing.T, fn func(*kernel)) {
	t.Helper()
	testns.Run(t, func() {
		h, err := host.Open(func(s string) { t.Errorf("warning: %s", s) })
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		fn(&kernel{T: t, Host: h, addrs: []netip.Addr{ip("127.0.0.1"), ip("192.0.2.1"), ip("::1"), ip("2001:db8::1")}})
	})
}

// transact returns the number of messages that fill adds.
func (k *kernel) transact(fill func(*host.Tx) error) (n int, err error) {
	_, err = k.Transact(func(tx *host.Tx) error {
		tx.NoFIB = k.noFIB
		err := fill(tx)
		n = tx.Len()
		return err
	})
	return n, err
}

func (k *kernel) put(a *model.Attachment, replaceable ...string) (replaced []model.Publication, err error) {
	asked := map[string]bool{}
	_, err = k.transact(func(tx *host.Tx) (err error) {
		clear(asked)
		replaced, err = Put(tx, a, k.addrs, func(owner string) (bool, error) {
			if asked[owner] {
				k.Errorf("asked twice about %s", owner)
			}
			asked[owner] = true
			return slices.Contains(replaceable, owner), nil
		})
		return err
	})
	return replaced, err
}

func (k *kernel) mustPut(a *model.Attachment) {
	k.Helper()
	if _, err := k.put(a); err != nil {
		k.Error(err)
	}
}

// restore reports whether something had to be restored.
// restore reports whether anything was lost.
func (k *kernel) restore(all ...*model.Attachment) bool {
	k.Helper()
	n, err := k.transact(func(tx *host.Tx) error { return Restore(tx, all, k.addrs) })
	if err != nil {
		k.Error(err)
	}
	return n > 0
}

func (k *kernel) remove(heirs []*model.Attachment, leaving ...*model.Attachment) (gone []model.Publication) {
	k.Helper()
	keys := map[model.Key]*model.Attachment{}
	for _, a := range leaving {
		keys[a.Key] = a
		if a.Ports == nil {
			keys[a.Key] = nil
		}
	}
	return k.removeKeys(heirs, keys)
}

func (k *kernel) removeKeys(heirs []*model.Attachment, keys map[model.Key]*model.Attachment) (gone []model.Publication) {
	k.Helper()
	_, err := k.transact(func(tx *host.Tx) (err error) {
		gone, err = Remove(tx, keys, heirs)
		return err
	})
	if err != nil {
		k.Error(err)
	}
	return gone
}

// faults compares the texts of faults.
func (k *kernel) faults(a *model.Attachment, want ...string) {
	k.Helper()
	c, err := k.Rules()
	if err != nil {
		k.Fatal(err)
	}
	found, err := Faults(c, a)
	if err != nil {
		k.Error(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, f.Thing+" is "+f.State)
	}
	if !slices.Equal(got, want) {
		k.Errorf("faults of %s: %q, want %q", a.Key, got, want)
	}
}

// nft runs nft in the namespace, with stdin.
func (k *kernel) nft(stdin string, args ...string) string {
	k.Helper()
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		k.Skip("needs nft: apt-get install nftables")
	}
	if err != nil {
		k.Errorf("nft %v: %v: %s", args, err, out)
	}
	return string(out)
}

func (k *kernel) list() string { return k.nft("", "list", "ruleset") }

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// attachment has ports such as "tcp 192.0.2.1:80 10.87.1.2:8080".
func attachment(key string, ports ...string) *model.Attachment {
	k, ok := model.ParseKey(key)
	if !ok {
		panic(key)
	}
	a := &model.Attachment{Key: k}
	for _, text := range ports {
		f := strings.Fields(text)
		p := model.Publication{Protocol: model.TCP, Host: at(f[1]), Target: at(f[2])}
		if f[0] == "udp" {
			p.Protocol = model.UDP
		}
		p.Local = p.Host.Addr().IsLoopback()
		a.Ports = append(a.Ports, p)
	}
	return a
}

func TestPortsComeAndGo(t *testing.T) {
	for _, noFIB := range []bool{false, true} {
		inNamespace(t, func(k *kernel) {
			k.noFIB = noFIB
			web := attachment("flatnet/web/eth0", "tcp 0.0.0.0:80 10.87.1.2:80", "udp 192.0.2.1:53 10.87.1.2:53",
				"tcp 127.0.0.1:81 10.87.1.2:81", "tcp 127.0.0.1:82 10.87.1.2:81", "tcp [::]:80 [fd87::2]:80")
			k.mustPut(web)
			made := k.list()
			for what, has := range map[string]bool{"fib daddr": !noFIB, "192.0.2.1, ": false, "set host": noFIB, `comment "flatnet/web/eth0"`: true} {
				if strings.Contains(made, what) != has {
					t.Errorf("%s: %v", what, !has)
				}
			}
			k.faults(web)
			if n, err := k.transact(func(tx *host.Tx) error { _, err := Put(tx, web, k.addrs, nil); return err }); n != 0 || err != nil {
				t.Errorf("a second time: %d messages, %v", n, err)
			}
			c, _ := k.Rules()
			if owners, err := Owners(c); err != nil || !slices.Equal(owners, []model.Key{web.Key, web.Key}) {
				t.Errorf("owners: %v, %v", owners, err)
			}
			if noFIB { // which the kernel would give, but the table decides
				k.noFIB = false
				k.addrs = []netip.Addr{ip("127.0.0.1"), ip("198.51.100.1")}
			}
			other := attachment("other/o/eth0", "tcp 0.0.0.0:8080 10.88.1.2:80")
			k.mustPut(other)
			if noFIB && !strings.Contains(k.list(), "elements = { 127.0.0.1, 198.51.100.1 }") {
				t.Errorf("another address of the host is not followed: %s", k.list())
			}
			k.nft("flush ruleset\n"+k.list(), "-f", "-")
			k.restore(web, other) // nft writes the same rules in other words
			k.faults(web)
			if gone := k.remove(nil, other); len(gone) != 1 || gone[0] != other.Ports[0] {
				t.Errorf("gone: %v", gone)
			}
			if gone := k.remove(nil, web); len(gone) != 5 {
				t.Errorf("gone: %v", gone)
			}
			if left := k.list(); left != "" {
				t.Errorf("left: %s", left)
			}
			k.remove(nil, web)
		})
	}
}

// One transaction removes ports of containers that are gone and restores those of others.
func TestRestoreAmongLeftovers(t *testing.T) {
	inNamespace(t, func(k *kernel) {
		gone := attachment("flatnet/gone/eth0", "tcp 0.0.0.0:80 10.87.1.2:80")
		heir := attachment("flatnet/heir/eth0", "tcp 0.0.0.0:80 10.87.1.3:80", "tcp 0.0.0.0:81 10.87.1.3:80", "tcp [::]:80 [fd87::2]:80")
		k.mustPut(gone)
		for range 2 { // the second time there is no table of IPv6, and gone has nothing
			_, err := k.transact(func(tx *host.Tx) error {
				if _, err := Remove(tx, Leaving{gone.Key: gone}, []*model.Attachment{heir}); err != nil {
					return err
				}
				return Restore(tx, []*model.Attachment{heir}, k.addrs)
			})
			if err != nil {
				t.Error(err)
			}
			k.faults(heir)
			k.nft("delete table ip6 flatnet.ports", "-f", "-")
		}
		k.remove(nil, heir)
		if left := k.list(); left != "" {
			t.Errorf("left: %s", left)
		}
	})
}

// What is lost is named, and a restore adds just that.
func TestPortsAreRestored(t *testing.T) {
	inNamespace(t, func(k *kernel) {
		web := attachment("flatnet/web/eth0", "tcp 0.0.0.0:80 10.87.1.2:80", "tcp 127.0.0.1:81 10.87.1.2:81", "tcp [::]:80 [fd87::2]:80")
		k.mustPut(web)
		made := k.list()
		for lose, want := range map[string][]string{
			"flush map ip flatnet.ports everywhere":     {"host port 0.0.0.0:80/tcp is not forwarded to 10.87.1.2:80"},
			"flush chain ip6 flatnet.ports output":      {"the chain ip6 flatnet.ports output is not as it should be"},
			"flush set ip flatnet.ports selves":         {"set ip flatnet.ports selves is without an element of flatnet/web/eth0"},
			"add rule ip flatnet.ports postrouting log": {"the chain ip flatnet.ports postrouting is not as it should be"},
			"flush set ip flatnet.ports local":          {"set ip flatnet.ports local is without an element of flatnet/web/eth0"},
		} {
			k.nft(lose, "-f", "-")
			k.faults(web, want...)
			if !k.restore(web) {
				t.Errorf("%s: nothing was restored", lose)
			}
			if after := k.list(); after != made {
				t.Errorf("after %s: %s", lose, after)
			}
		}
		// The table of an older version has no set and chain for local ports.
		k.nft("delete chain ip flatnet.ports local; delete set ip flatnet.ports local", "-f", "-")
		if !k.restore(web) {
			t.Error("an older table: nothing was restored")
		}
		k.faults(web)
		k.nft("delete chain ip flatnet.ports local; delete set ip flatnet.ports local", "-f", "-")
		k.remove(nil, web)
		if left := k.list(); left != "" {
			t.Errorf("left: %s", left)
		}
		many := attachment("flatnet/many/eth0")
		for i := range 5000 {
			many.Ports = append(many.Ports, model.Publication{Protocol: model.TCP, Host: at(fmt.Sprintf("0.0.0.0:%d", i+1000)), Target: at("10.87.1.3:80")})
		}
		k.restore(web, many)
		k.faults(many)
		k.nft("flush map ip flatnet.ports everywhere", "-f", "-")
		c, _ := k.Rules()
		if found, err := Faults(c, many); err != nil || len(found) != someFaults+1 || found[someFaults].State != "without 4990 more elements" {
			t.Errorf("%v, %v", found, err)
		}
	})
}

func TestPortsThatAreTaken(t *testing.T) {
	inNamespace(t, func(k *kernel) {
		for _, tt := range []struct {
			first, second string
			taken         bool
		}{
			{"tcp 0.0.0.0:80 10.87.1.2:80", "tcp 0.0.0.0:80 10.87.1.3:80", true},
			{"tcp 0.0.0.0:80 10.87.1.2:80", "tcp 192.0.2.9:80 10.87.1.3:80", true},
			{"tcp 192.0.2.1:80 10.87.1.2:80", "tcp 0.0.0.0:80 10.87.1.3:80", true},
			{"tcp 192.0.2.9:80 10.87.1.2:80", "tcp 0.0.0.0:80 10.87.1.3:80", false}, // no address of the host
			{"tcp 192.0.2.1:80 10.87.1.2:80", "tcp 127.0.0.1:80 10.87.1.3:80", false},
			{"tcp 0.0.0.0:80 10.87.1.2:80", "udp 0.0.0.0:80 10.87.1.3:80", false},
			{"tcp [2001:db8::1]:80 [fd87::2]:80", "tcp [::]:80 [fd87::3]:80", true},
		} {
			counts := []int{0}
			if strings.HasPrefix(tt.first, "tcp 192") {
				counts = []int{0, askedUpTo} // with so many the map is listed
			}
			for _, more := range counts {
				first, second := attachment("flatnet/c1/eth0", tt.first), attachment("flatnet/c2/eth0", tt.second)
				for i := range more {
					second.Ports = append(second.Ports, second.Ports[0])
					second.Ports[i+1].Host = netip.AddrPortFrom(second.Ports[0].Host.Addr(), uint16(1000+i))
				}
				k.mustPut(first)
				before := k.list()
				_, err := k.put(second)
				if errors.Is(err, model.ErrTaken) != tt.taken || err != nil && !strings.Contains(err.Error(), " is published by flatnet/c1/eth0; ") {
					t.Errorf("%v beside %v: %v", second.Ports[0], first.Ports, err)
				}
				if err != nil { // unless its owner has gone
					if k.list() != before {
						t.Error("the loser leaves something")
					}
					if replaced, err := k.put(second, "flatnet/c1/eth0"); err != nil || !slices.Equal(replaced, first.Ports) {
						t.Errorf("replaced %v, %v", replaced, err)
					}
				}
				k.faults(second)
				k.remove(nil, first)
				k.remove(nil, second)
				if left := k.list(); left != "" {
					t.Errorf("left: %s", left)
				}
			}
		}
		// A leftover in the way of the same port on two addresses.
		k.mustPut(attachment("flatnet/c1/eth0", "tcp 0.0.0.0:80 10.87.1.2:80"))
		if _, err := k.put(attachment("flatnet/c2/eth0", "tcp 192.0.2.1:80 10.87.1.3:80", "tcp 192.0.2.2:80 10.87.1.3:80"), "flatnet/c1/eth0"); err != nil {
			t.Error(err)
		}
	})
}

// A container's port in two networks belongs to the first one, and then to the other.
func TestPortsAreInherited(t *testing.T) {
	inNamespace(t, func(k *kernel) {
		first := attachment("flatnet/web/eth0", "tcp 0.0.0.0:80 10.87.1.2:80", "udp 0.0.0.0:53 10.87.1.2:53")
		second := attachment("other/web/eth1", "tcp 0.0.0.0:80 10.88.1.2:80", "udp 0.0.0.0:53 10.88.1.2:53")
		k.mustPut(first)
		k.mustPut(second)
		for _, a := range []*model.Attachment{first, second} {
			k.faults(a)
		}
		if list := k.list(); strings.Count(list, "10.88.1.2") != 2 { // in selves only
			t.Errorf("the second has ports: %s", list)
		}
		for _, known := range []bool{true, false} {
			leaving := *first
			if !known {
				leaving.Ports = nil
			}
			if gone := k.remove([]*model.Attachment{first, second}, &leaving); len(gone) != 2 {
				t.Errorf("gone: %v", gone)
			}
			if list := k.list(); strings.Contains(list, "10.87.1.2") || strings.Count(list, "10.88.1.2") != 4 {
				t.Errorf("the second has no ports: %s", list)
			}
			k.mustPut(first)
			if replaced, err := k.put(first, second.Key.String()); err != nil || len(replaced) != 2 {
				t.Errorf("replaced %v, %v", replaced, err)
			}
		}
		// Both at once, and a container without ports.
		plain := attachment("flatnet/plain/eth0")
		if gone := k.remove([]*model.Attachment{first, second}, first, second, plain); len(gone) != 2 {
			t.Errorf("gone: %v", gone)
		}
		if left := k.list(); left != "" {
			t.Errorf("left: %s", left)
		}
	})
}

func TestRemovalOfOne(t *testing.T) {
	inNamespace(t, func(k *kernel) {
		stays := attachment("flatnet/stays/eth0", "tcp 0.0.0.0:80 10.87.1.2:80")
		web := attachment("flatnet/web/eth0", "tcp 0.0.0.0:81 10.87.1.3:80")
		k.mustPut(stays)
		k.mustPut(web)
		k.remove(nil, attachment("flatnet/plain/eth0"))
		plain := attachment("flatnet/plain/eth0")
		if _, err := Remove(&host.Tx{}, Leaving{plain.Key: plain}, nil); err != nil { // asks nothing
			t.Error(err)
		}
		k.faults(web)
		k.remove(nil, &model.Attachment{Key: web.Key})
		k.faults(stays)
		c, _ := k.Rules()
		if owners, err := Owners(c); err != nil || !slices.Equal(owners, []model.Key{stays.Key}) {
			t.Errorf("owners: %v, %v", owners, err)
		}
		// One that vanished, whose address and port another one has got.
		gone := attachment("flatnet/gone/eth0", "tcp 0.0.0.0:80 10.87.1.2:80", "tcp 0.0.0.0:90 10.87.1.2:80")
		k.remove(nil, stays)
		k.mustPut(gone)
		if _, err := k.put(stays, gone.Key.String()); err != nil {
			t.Error(err)
		}
		k.remove(nil, stays)
		if left := k.list(); strings.Count(left, gone.Key.String()) != 1 {
			t.Errorf("left: %s", left)
		}
		k.remove(nil, gone)
		if left := k.list(); left != "" {
			t.Errorf("left: %s", left)
		}
		k.mustPut(stays)
		// What others have is not taken along, even if only the maps show it.
		k.mustPut(web)
		k.nft("flush set ip flatnet.ports selves; add element ip flatnet.ports selves { 10.87.1.3 . 10.87.1.3 comment \"flatnet/web/eth0\" }", "-f", "-")
		k.remove(nil, web)
		k.faults(stays, "set ip flatnet.ports selves is without an element of flatnet/stays/eth0")
	})
}

// What an attachment has beyond its record is withdrawn, and nothing else; a port that
// 127.0.0.1 alone publishes then is closed; a reload does the same with what a killed call
// has left.
func TestWithdraw(t *testing.T) {
	inNamespace(t, func(k *kernel) {
		stays := attachment("flatnet/stays/eth0", "tcp 0.0.0.0:80 10.87.1.2:80")
		web := attachment("flatnet/web/eth0", "tcp 0.0.0.0:81 10.87.1.3:80", "udp 192.0.2.1:81 10.87.1.3:81", "tcp [::]:81 [fd87::3]:80")
		heir := attachment("other/web/eth1", "tcp 0.0.0.0:81 10.87.2.3:80")
		k.mustPut(stays)
		k.mustPut(web)
		all := web.Ports
		web.Ports, web.ByHand = all[1:2], true
		var gone []model.Publication
		if _, err := k.transact(func(tx *host.Tx) (err error) {
			gone, err = Withdraw(tx, Leaving{web.Key: web}, []*model.Attachment{heir, web})
			return err
		}); err != nil || !slices.Equal(gone, []model.Publication{all[0], all[2]}) {
			t.Errorf("gone are %v, %v", gone, err)
		}
		k.faults(stays)
		k.faults(web)
		if list := k.list(); strings.Contains(list, "table ip6") || !strings.Contains(list, "10.87.2.3 . 80") {
			t.Errorf("left: %s", list)
		}
		web.Ports = nil
		if !k.restore(stays, web) || k.restore(stays, web) {
			t.Error("a reload has nothing to withdraw, or not enough")
		}
		if list := k.list(); strings.Contains(list, "flatnet/web/") {
			t.Errorf("left: %s", list)
		}
		web.Ports, web.ByHand = all, false
		k.mustPut(web)
		web.Ports, web.ByHand = nil, true // its DEL does not believe that
		k.removeKeys(nil, map[model.Key]*model.Attachment{web.Key: web, stays.Key: stays, heir.Key: nil})
		if list := k.list(); list != "" {
			t.Errorf("left: %s", list)
		}
	})
}
