package elements

import (
	"slices"
	"testing"

	"flatnet/internal/nft"
	"flatnet/internal/testns"
)

var (
	table = nft.Table{Family: nft.IPv4, Name: "flatnet.test"}
	addrs = nft.Set{Table: table, Name: "addrs", Key: nft.Types{nft.IPv4Addr}}
	ports = nft.Set{Table: table, Name: "ports", Key: nft.Types{nft.InetService}, Data: nft.Types{nft.IPv4Addr}}
	none  = nft.Set{Table: table, Name: "none", Key: addrs.Key}
)

// addr and port are elements of an owner, which is "n/OWNER/eth0".
func addr(last byte, owner string) nft.Element {
	return element(addrs, []byte{10, 87, 1, last}, nil, owner)
}

func port(number, last byte, owner string) nft.Element {
	return element(ports, []byte{0, number}, []byte{10, 87, 1, last}, owner)
}

func element(set nft.Set, key, data []byte, owner string) nft.Element {
	return nft.Element{Set: set, Key: string(key), Data: string(data), Comment: "n/" + owner + "/eth0"}
}

// A rig has both sets, in a new network namespace.
type rig struct {
	*testing.T
	*nft.Conn
}

// newRig runs fn on a thread that ends with it.
func newRig(t *testing.T, fn func(rig)) {
	t.Helper()
	testns.Run(t, func() {
		c, err := nft.Dial()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		r := rig{t, c}
		r.commit(func(b *nft.Batch) { b.Add(table, addrs, ports) })
		fn(r)
	})
}

func (r rig) commit(fill func(*nft.Batch)) {
	r.Helper()
	var b nft.Batch
	fill(&b)
	if b.Len() == 0 {
		return
	}
	if err := r.Commit(&b); err != nil {
		r.Error(err)
	}
}

func (r rig) look(at []nft.Element) View {
	r.Helper()
	v, err := Look(r.Conn, at)
	if err != nil {
		r.Error(err)
	}
	return v
}

// has compares the elements of both sets, in any order.
func (r rig) has(what string, want ...nft.Element) {
	r.Helper()
	have, err := List(r.Conn, addrs, none, ports)
	missing := slices.DeleteFunc(slices.Clone(want), r.look(want).Has)
	if err != nil || len(have) != len(want) || len(missing) > 0 {
		r.Errorf("%s: there are %v, %v; want %v", what, have, err, want)
	}
}

func TestPut(t *testing.T) {
	newRig(t, func(r rig) {
		put := func(wanted, stale []nft.Element) {
			r.commit(func(b *nft.Batch) { r.look(slices.Concat(wanted, stale)).Put(b, wanted, stale) })
		}
		first := []nft.Element{addr(2, "c1"), port(80, 2, "c1")}
		put(first, nil)
		r.has("at first", first...)
		put(first, nil)
		r.has("again", first...)
		put([]nft.Element{addr(2, "c2"), port(81, 2, "c2")}, nil)
		r.has("an address of another owner", addr(2, "c2"), port(80, 2, "c1"), port(81, 2, "c2"))
		put([]nft.Element{port(80, 3, "c1")}, nil)
		r.has("a port to another address", addr(2, "c2"), port(80, 3, "c1"), port(81, 2, "c2"))
		put([]nft.Element{port(81, 3, "c1")}, []nft.Element{port(81, 2, "c2")})
		r.has("instead of a stale port", addr(2, "c2"), port(80, 3, "c1"), port(81, 3, "c1"))
		put(nil, []nft.Element{port(81, 3, "c1"), addr(2, "c2")})
		r.has("without stale ones", port(80, 3, "c1"))

		var b nft.Batch
		taken := []nft.Element{port(80, 4, "c2")}
		r.look(taken).Put(&b, taken, nil)
		if err := r.Commit(&b); err == nil {
			t.Error("a port of another owner is taken over")
		}
		r.has("and stays", port(80, 3, "c1"))
	})
}

func TestFill(t *testing.T) {
	newRig(t, func(r rig) {
		wanted := []nft.Element{addr(2, "c1"), addr(2, "c2"), port(80, 2, "c1"), port(80, 2, "c2"), port(81, 2, "c1")}
		r.commit(func(b *nft.Batch) { b.Create(nft.Elements{port(80, 9, "c9")}) })
		for range 2 {
			r.commit(func(b *nft.Batch) { r.look(wanted).Fill(b, wanted) })
			r.has("filled", addr(2, "c1"), port(80, 9, "c9"), port(81, 2, "c1"))
		}
	})
}
