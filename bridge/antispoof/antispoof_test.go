package antispoof

import (
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/testns"
)

// inNamespace runs fn in a new network namespace, on a thread that ends with it.
func inNamespace(t *testing.T, fn func(*host.Host)) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft: apt-get install nftables")
	}
	testns.Run(t, func() {
		h, err := host.Open(func(text string) { t.Errorf("warning: %s", text) })
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		fn(h)
	})
}

// runNFT runs nft commands in the calling thread's namespace.
func runNFT(t *testing.T, commands string) string {
	t.Helper()
	out, err := exec.Command("nft", commands).CombinedOutput()
	if err != nil {
		t.Errorf("nft %s: %v: %s", commands, err, out)
	}
	return string(out)
}

func attachment(id, port string, last byte) *model.Attachment {
	a := &model.Attachment{Key: model.Key{Network: "flatnet", ContainerID: id, IfName: "eth0"}, HostEnd: port}
	a.Name, a.SpoofCheck = "flatnet", true
	a.MAC = model.HardwareAddr{2, 0, 0, 0, 0, last}
	a.Addresses = []model.Address{
		{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 87, 1, last}), 24)},
		{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: last}), 64)},
	}
	return a
}

// A rig checks on what is done to a host's checks.
type rig struct {
	*testing.T
	*host.Host
}

// transact reports how many messages a transaction has.
func (r rig) transact(fill func(*host.Tx) error) (messages int) {
	r.Helper()
	_, err := r.Transact(func(tx *host.Tx) error {
		err := fill(tx)
		messages = tx.Len()
		return err
	})
	if err != nil {
		r.Error(err)
	}
	return messages
}

func (r rig) put(all []*model.Attachment, renamed ...*model.Attachment) {
	r.Helper()
	put := func(tx *host.Tx) error { return Put(tx, all, renamed) }
	r.transact(put)
	if n := r.transact(put); n != 0 {
		r.Errorf("a second Put sends %d messages", n)
	}
	r.faults(all)
}

// faults compares the things that have faults.
func (r rig) faults(all []*model.Attachment, want ...string) {
	r.Helper()
	c, err := r.Rules()
	if err != nil {
		r.Error(err)
		return
	}
	found, err := Faults(c, all)
	var things []string
	for _, f := range found {
		things = append(things, f.Thing)
	}
	if err != nil || !slices.Equal(things, want) {
		r.Errorf("faults %q, %v; want %q", things, err, want)
	}
}

func (r rig) has(text string, want bool) {
	r.Helper()
	if table := runNFT(r.T, "list table bridge flatnet"); strings.Contains(table, text) != want {
		r.Errorf("contains %q: %v\n%s", text, !want, table)
	}
}

func TestPutMendsEachPart(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		r := rig{t, h}
		c1, vm, open := attachment("c1", "fn-c1", 1), attachment("vm", "fn-vm", 2), attachment("open", "fn-open", 3)
		vm.NoAddress, open.SpoofCheck = true, false
		r.put([]*model.Attachment{open})
		if tables := runNFT(t, "list tables"); tables != "" {
			t.Errorf("without macspoofchk: %s", tables)
		}
		all := []*model.Attachment{c1, vm, open}
		r.faults(all, "the chain bridge flatnet check", "the chain bridge flatnet prerouting", "the chain bridge flatnet input",
			"macspoofchk of flatnet/c1/eth0", "macspoofchk of flatnet/vm/eth0")
		r.put(all)
		before := runNFT(t, "list ruleset")
		for spoil, faults := range map[string][]string{
			`delete element bridge flatnet guarded { "fn-c1" }`: {"macspoofchk of flatnet/c1/eth0"},
			"flush set bridge flatnet anyaddr":                  {"macspoofchk of flatnet/vm/eth0"},
			"flush chain bridge flatnet check":                  {"the chain bridge flatnet check"},
			"insert rule bridge flatnet prerouting accept":      {"the chain bridge flatnet prerouting"},
			`delete element bridge flatnet guarded { "fn-c1" }
			add element bridge flatnet guarded { "fn-c1" comment "flatnet/old/eth0" }`: {"macspoofchk of flatnet/c1/eth0"},
		} {
			runNFT(t, spoil)
			r.faults(all, faults...)
			r.put(all)
			if after := runNFT(t, "list ruleset"); after != before {
				t.Errorf("%s: it was\n%s\nand is\n%s", spoil, before, after)
			}
		}
	})
}

func TestRenamedPorts(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		r := rig{t, h}
		c1, c2 := attachment("c1", "fn-c1", 1), attachment("c2", "fn-c2", 2)
		r.put([]*model.Attachment{c1, c2})
		old1, old2 := *c1, *c2
		c1.HostEnd = "lan7"
		r.faults([]*model.Attachment{c1, c2}, "macspoofchk of flatnet/c1/eth0")
		r.put([]*model.Attachment{c1, c2}, &old1)
		r.has("fn-c1", false)
		r.has(`"lan7" comment "flatnet/c1/eth0"`, true)

		old1, c1.HostEnd, c2.HostEnd = *c1, "fn-c2", "lan7" // they have changed names
		r.put([]*model.Attachment{c1, c2}, &old1, &old2)
		r.has(`"lan7" comment "flatnet/c2/eth0"`, true)
		r.has(`"fn-c2" comment "flatnet/c1/eth0"`, true)
		r.has(`"lan7" . 02:00:00:00:00:01`, false)
	})
}

func TestRemove(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		r := rig{t, h}
		remove := func(key model.Key, recorded *model.Attachment) int {
			return r.transact(func(tx *host.Tx) error { return Remove(tx, key, recorded) })
		}
		c1, c2 := attachment("c1", "fn-c1", 1), attachment("c2", "fn-c2", 2)
		for _, recorded := range []*model.Attachment{c1, nil} {
			if n := remove(c1.Key, recorded); n != 0 {
				t.Errorf("without a table: %d messages", n)
			}
		}
		r.put([]*model.Attachment{c1, c2})
		remove(c1.Key, c1)
		r.has("c1", false)
		r.put([]*model.Attachment{c1, c2})
		runNFT(t, `delete table bridge flatnet
			table bridge flatnet { set guarded { type ifname; elements = { "fn-c1" comment "flatnet/c1/eth0" }; }; }`) // an older version's
		remove(c1.Key, nil)
		r.has("c1", false)
		r.put([]*model.Attachment{c1, c2})
		remove(c1.Key, nil)
		r.has("c1", false)
		r.has("c2", true)
		open := *c2
		open.SpoofCheck = false
		if n := remove(c2.Key, &open); n != 0 {
			t.Errorf("without macspoofchk: %d messages", n)
		}
		c, err := h.Rules()
		if err != nil {
			t.Error(err)
			return
		}
		for network, want := range map[string]bool{"flatnet": true, "other": false} {
			if has, err := Has(c, network); has != want || err != nil {
				t.Errorf("%s: %v, %v", network, has, err)
			}
		}
	})
}

// Where the kernel refuses the bridge family, a network's checks are in the netdev
// family, and stay there.
func TestWithoutTheBridgeFamily(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		r := rig{t, h}
		c1 := attachment("c1", "lo", 1)
		all := []*model.Attachment{c1}
		r.transact(func(tx *host.Tx) error {
			tx.NoBridge = true
			return Put(tx, all, nil)
		})
		r.put(all)
		table := runNFT(t, "list table netdev flatnet")
		if !strings.Contains(table, `device "lo"`) || runNFT(t, "list tables") != "table netdev flatnet\n" {
			t.Errorf("the table is %s", table)
		}
		c2 := attachment("c2", "lo", 2)
		c2.Bandwidth.Egress.Rate = 8000
		_, err := r.Transact(func(tx *host.Tx) error { return Put(tx, append(all, c2), nil) })
		if !errors.Is(err, model.ErrUnsupported) || !strings.Contains(err.Error(), "CONFIG_NF_TABLES_BRIDGE") {
			t.Errorf("with a limit: %v", err)
		}
		for _, recorded := range []*model.Attachment{c1, nil} {
			r.put(all)
			r.transact(func(tx *host.Tx) error { return Remove(tx, c1.Key, recorded) })
			if table := runNFT(t, "list table netdev flatnet"); strings.Contains(table, "c1") || strings.Contains(table, "device") {
				t.Errorf("left: %s", table)
			}
		}
	})
}

func TestTryPutTable(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		if err := h.Try(func(tx *host.Tx) error { return PutTable(tx, "flatnet") }); err != nil {
			t.Error(err)
		}
		if tables := runNFT(t, "list tables"); tables != "" {
			t.Errorf("Try leaves %s", tables)
		}
	})
}

func TestSettle(t *testing.T) {
	inNamespace(t, func(h *host.Host) {
		for _, port := range []string{"lo", "none"} {
			if err := Settle(h, port); err != nil {
				t.Error(err)
			}
		}
		for _, family := range []string{"ipv4", "ipv6"} {
			if v, err := h.Sysctl.Get("net/" + family + "/conf/lo/drop_unicast_in_l2_multicast"); v != "1" {
				t.Errorf("%s: %q, %v", family, v, err)
			}
		}
	})
}

// A port may use the link-local address that the kernel makes of its MAC.
func TestLinkLocal(t *testing.T) {
	if got := (model.HardwareAddr{0x0a, 0x57, 10, 87, 1, 2}).LinkLocal(); got != netip.MustParseAddr("fe80::857:aff:fe57:102") {
		t.Errorf("got %v", got)
	}
}
