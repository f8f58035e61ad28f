package host

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/nft"
	"flatnet/internal/testns"
	"flatnet/rtnl"
)

var testKey = model.Key{Network: "flatnet", ContainerID: "0123456789abcdef", IfName: "eth0"}

// Two owners may have the same mark: an alias that names one is not the other's.
func TestOwnsByAliasAsWell(t *testing.T) {
	mark := testKey.Mark()
	otherMark := mark
	otherMark[5]++
	own := model.Owner{Key: testKey}.Alias()
	for _, tt := range []struct {
		name, kind string
		mac        []byte
		alias      string
		owns, ends bool
	}{
		{"without an alias", "veth", mark[:], "", true, true},
		{"somebody's alias", "veth", mark[:], "mine", true, true},
		{"its own alias", "veth", mark[:], own, true, true},
		{"an alias with another mark", "veth", mark[:], "flatnet other/0123456789abcdef/eth0 10.87.1.2", true, true},
		{"another mark", "veth", otherMark[:], own, false, false},
		{"no MAC", "veth", nil, own, false, false},
		{"no veth", "dummy", mark[:], own, true, false},
	} {
		l := rtnl.Link{Name: "fn-x", Kind: tt.kind, MAC: tt.mac, Alias: tt.alias}
		owns, ends := Owns(testKey, l), EndsAmong([]rtnl.Link{l}, testKey)
		if owns != tt.owns || (len(ends) == 1) != tt.ends {
			t.Errorf("%s: owns %v, ends %v", tt.name, owns, ends)
		}
	}
}

func TestOwners(t *testing.T) {
	mark := testKey.Mark()
	own := model.Owner{Link: "fn-0", Key: testKey, Mark: mark}
	links := []rtnl.Link{
		{Name: "br", Kind: "bridge", MAC: mark[:], Alias: model.BridgeAlias("flatnet")},
		{Name: own.Link, Kind: "veth", MAC: mark[:], Alias: own.Alias()},
		{Name: "veth0", Kind: "veth", MAC: []byte{2, 0, 0, 0, 0, 1}},
		{Name: "tun", Kind: "veth"},
	}
	var got []string
	for _, o := range Owners(links) {
		got = append(got, o.Link+" "+o.Key.String())
	}
	if want := []string{"fn-0 flatnet/0123456789abcdef/eth0", "veth0 //"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// inNamespace runs fn in a new network namespace, on a thread that ends with it.
func inNamespace(t *testing.T, fn func(*Host)) {
	t.Helper()
	testns.Run(t, func() {
		h, err := Open(func(text string) { t.Errorf("warning: %s", text) })
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		fn(h)
	})
}

// putChain adds a chain to the network's table. One of a type that no kernel has is
// refused as that of a kernel without CONFIG_NFT_*.
func putChain(tx *Tx, name, typ string) {
	table := Table(nft.IPv4, "flatnet")
	tx.Add(table, nft.Chain{Table: table, Name: name, Type: nft.ChainType(typ), Hook: nft.Forward})
}

func TestTransactLeavesOutWhatIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		refused []string // of what is added
		with    []string // what is added
		calls   int
		bad     bool
	}{
		{"nothing", nil, []string{"bridge", "FIB", "optional"}, 1, false},
		{"the bridge family", []string{"bridge"}, []string{"bridge"}, 2, false},
		{"the bridge family of all", []string{"bridge"}, []string{"bridge", "FIB", "optional"}, 2, false},
		{"FIB", []string{"FIB"}, []string{"FIB"}, 2, false},
		{"FIB of all", []string{"FIB"}, []string{"bridge", "FIB", "optional"}, 3, false},
		{"what is optional", []string{"optional"}, []string{"optional"}, 2, false},
		{"two", []string{"FIB", "optional"}, []string{"FIB", "optional"}, 4, false},
		{"three", []string{"bridge", "FIB", "optional"}, []string{"bridge", "FIB", "optional"}, 8, false},
		{"all", []string{""}, []string{""}, 1, true},
	} {
		inNamespace(t, func(h *Host) {
			calls := 0
			without, err := h.Transact(func(tx *Tx) error {
				calls++
				putChain(tx, "good", "filter")
				tx.Bridge = slices.Contains(tt.with, "bridge") && !tx.NoBridge
				tx.FIB = slices.Contains(tt.with, "FIB") && !tx.NoFIB
				tx.Optional = slices.Contains(tt.with, "optional") && !tx.NoOptional
				for what, has := range map[string]bool{"bridge": tx.Bridge, "FIB": tx.FIB, "optional": tx.Optional, "": true} {
					if has && slices.Contains(tt.refused, what) {
						putChain(tx, "bad", "unheard-of")
					}
				}
				return nil
			})
			c, rerr := h.Rules()
			if rerr != nil {
				t.Error(rerr)
				return
			}
			committed, rerr := c.Has(Table(nft.IPv4, "flatnet"))
			var left []string
			for i, is := range []bool{without.NoBridge, without.NoFIB, without.NoOptional} {
				if is {
					left = append(left, []string{"bridge", "FIB", "optional"}[i])
				}
			}
			if calls != tt.calls || !tt.bad && !slices.Equal(left, tt.refused) {
				t.Errorf("%s is refused: %d calls, without %q", tt.name, calls, left)
			}
			if errors.Is(err, model.ErrUnsupported) != tt.bad || committed == tt.bad || rerr != nil {
				t.Errorf("%s is refused: %v, committed %v, %v", tt.name, err, committed, rerr)
			}
			if errors.Is(without.Lacks, model.ErrUnsupported) != (len(left) > 0) {
				t.Errorf("%s is refused: the reason is %v", tt.name, without.Lacks)
			}
		})
	}
}

func TestTransactReturnsErrors(t *testing.T) {
	inNamespace(t, func(h *Host) {
		calls, want := 0, errors.New("asked in vain")
		_, err := h.Transact(func(*Tx) error { calls++; return want })
		if !errors.Is(err, want) || calls != 1 {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
}

// Nothing that could be committed is left behind.
func TestTry(t *testing.T) {
	for typ, want := range map[string]error{"": nil, "filter": nil, "unheard-of": model.ErrUnsupported} {
		inNamespace(t, func(h *Host) {
			err := h.Try(func(tx *Tx) error {
				if typ != "" {
					putChain(tx, "one", typ)
				}
				return nil
			})
			c, rerr := h.Rules()
			if rerr != nil || !errors.Is(err, want) {
				t.Errorf("%s: %v, %v", typ, err, rerr)
				return
			}
			if has, err := c.Has(Table(nft.IPv4, "flatnet")); has || err != nil {
				t.Errorf("%s: left %v, %v", typ, has, err)
			}
		})
	}
}

// What needs the bridge family is tried without it, too.
func TestTryWithoutTheBridgeFamily(t *testing.T) {
	for _, tt := range []struct {
		with, without string // types of chains
		want          error
	}{
		{"filter", "unheard-of", nil},
		{"unheard-of", "filter", nil},
		{"unheard-of", "unheard-of", model.ErrUnsupported},
	} {
		inNamespace(t, func(h *Host) {
			err := h.Try(func(tx *Tx) error {
				typ := tt.with
				if tx.Bridge = !tx.NoBridge; tx.NoBridge {
					typ = tt.without
				}
				putChain(tx, "one", typ)
				return nil
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("%q, %q: %v", tt.with, tt.without, err)
			}
		})
	}
}

func TestTable(t *testing.T) {
	for network, want := range map[string]string{"flatnet": "flatnet", "a": "flatnet-a"} {
		if got := Table(nft.IPv6, network); got.Name != want || !strings.Contains(got.String(), "ip6") {
			t.Errorf("%s: %v", network, got)
		}
	}
}
