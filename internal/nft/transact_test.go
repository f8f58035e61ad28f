package nft

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// other is a second program in the calling thread's namespace.
func other(t *testing.T) *Conn {
	t.Helper()
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// changes commits something that is not there yet.
func changes(t *testing.T, c *Conn, i int) {
	t.Helper()
	if err := commit(c, func(b *Batch) { b.Create(Table{IPv4, fmt.Sprint("foreign", i)}) }); err != nil {
		t.Error(err)
	}
}

// A transaction starts over as long as others change rules, and does nothing
// until what it asked still holds.
func TestTransactStartsOver(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		foreign, calls := other(t), 0
		err := c.Transact(func(b *Batch) error {
			if has, err := c.Has(ip); has || err != nil {
				t.Errorf("attempt %d was done: %v", calls, err)
			}
			if calls++; calls <= 3 {
				changes(t, foreign, calls)
			}
			b.Create(ip)
			return nil
		})
		if has, herr := c.Has(ip); err != nil || herr != nil || !has || calls != 4 {
			t.Errorf("%d calls, %v, %v, %v", calls, has, err, herr)
		}
	})
}

// What the kernel itself has deleted, which counts no generation, is asked again; but
// what is never there is an error.
func TestTransactAfterTheKernelDeleted(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		calls := 0
		fill := func(vanishes int) func(*Batch) error {
			calls = 0
			return func(b *Batch) error {
				if calls++; calls <= vanishes {
					b.Delete(ip)
				} else {
					b.Add(ip)
				}
				return nil
			}
		}
		if err := c.Transact(fill(100)); !errors.Is(err, unix.ENOENT) || calls != goneTries {
			t.Errorf("%d calls, %v", calls, err)
		}
		if err := c.Transact(fill(1)); err != nil || calls != 2 {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
}

// Of what is found while rules change, an error is as little worth as a success.
func TestTransactAsksAgainAfterAnError(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		foreign, calls := other(t), 0
		wrong := errors.New("wrong")
		fill := func(times int) func(*Batch) error {
			calls = 0
			return func(b *Batch) error {
				if calls++; calls <= times {
					changes(t, foreign, calls)
					return wrong
				}
				b.Add(ip)
				return nil
			}
		}
		if err := c.Transact(fill(2)); err != nil || calls != 3 {
			t.Errorf("%d calls, %v", calls, err)
		}
		if err := c.Transact(func(*Batch) error { calls++; return wrong }); !errors.Is(err, wrong) || calls != 4 {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
}

// A program that changes rules without a break can't keep a transaction from
// ending. What the kernel refuses then because somebody came first is asked
// again.
func TestTransactAmongEndlessChanges(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		foreign, calls, began := other(t), 0, time.Now()
		err := c.Transact(func(b *Batch) error {
			calls++
			changes(t, foreign, calls)
			has, err := c.Has(ip)
			if err != nil || has {
				return err
			}
			if b.Create(ip); time.Since(began) > patience {
				return commit(foreign, func(b *Batch) { b.Add(ip) })
			}
			return nil
		})
		if has, herr := c.Has(ip); err != nil || herr != nil || !has {
			t.Errorf("%d calls, %v, %v, %v", calls, has, err, herr)
		}
		t.Logf("%d attempts in %v", calls, time.Since(began))
		err = c.Transact(func(b *Batch) error { calls++; changes(t, foreign, calls); b.Add(ip); return nil })
		if !errors.Is(err, ErrChanging) {
			t.Errorf("what never is done: %v", err)
		}
	})
}

// A batch has as many elements as it needs, a refused one names its operation
// whatever the number of refusals, and the socket goes on.
func TestLargeBatch(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		var all Elements
		for i := range 70_000 {
			all = append(all, Element{
				Set:  ports,
				Key:  Concat([]byte{byte(i >> 16)}, addr("192.0.2.1"), []byte{byte(i >> 8), byte(i)}),
				Data: Concat(addr("10.87.1.2"), []byte{0, 80}), Comment: strings.Repeat("x", 60),
			})
		}
		began := time.Now()
		if err := commit(c, func(b *Batch) { b.Add(ip, ports, all) }); err != nil {
			t.Error(err)
			return
		}
		t.Logf("%d elements in %v", len(all), time.Since(began))
		began = time.Now()
		if got, err := c.Elements(ports); err != nil || len(got) != len(all) {
			t.Errorf("%d elements, %v", len(got), err)
		}
		t.Logf("listed in %v", time.Since(began))
		err := commit(c, func(b *Batch) {
			for i := range 10_000 {
				b.Create(all[i : i+1])
			}
		})
		if !errors.Is(err, unix.EEXIST) || !strings.HasPrefix(err.Error(), "create elements of map ip flatnet ports") {
			t.Errorf("got %v", err)
		}
		if e, err := find(c, ports, all[0].Key); e.Key == "" || err != nil {
			t.Errorf("afterwards: %v, %v", e, err)
		}
	})
}

// Where the kernel refuses a part of a message, the whole of which it does not
// send back, it is still known which part.
func TestCappedRefusalsPointAtTheirCause(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		err := commit(c, func(b *Batch) {
			b.Add(ip, own, Rule{Table: ip, Chain: own.Name, Comment: strings.Repeat("x", 200), Exprs: []Expr{Expr{Name: "nonesuch"}}})
		})
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "expression nonesuch") {
			t.Errorf("got %v", err)
		}
	})
}

// A transaction that changes something leads to the next generation, whatever it is, and
// one that changes nothing to none.
func TestGenerationAfterATransaction(t *testing.T) {
	inNamespace(t, func(c *Conn) {
		set := Set{Table: ip, Name: "s", Key: Types{IPv4Addr}}
		element := Elements{{Set: set, Key: "\x0a\x00\x00\x01"}}
		for i, fill := range []func(*Batch){
			func(b *Batch) { b.Add(ip, set); b.Create(element) },
			func(b *Batch) {
				r := Ruleset{Chain: Chain{Table: ip6, Name: "c"}}
				r.Append("", DropIf())
				b.Put(r)
			},
			func(b *Batch) { b.Delete(element) },
			func(*Batch) {},
			func(b *Batch) { b.Delete(ip); b.Create(ip) },
		} {
			var batch *Batch
			err := c.Transact(func(b *Batch) error { batch = b; fill(b); return nil })
			now, gerr := c.generation()
			if err != nil || gerr != nil || batch.After() != now || now == 0 {
				t.Errorf("%d: generation %d instead of %d, %v, %v", i, now, batch.After(), err, gerr)
			}
			for table, want := range map[Table]bool{ip: i == 0 || i == 4, ip6: i == 1, {IPv4, "flatne"}: false, {IPv4, "flatnet.ports"}: false} {
				if got := batch.Changes(table); got != want {
					t.Errorf("%d: changes %v: %v", i, table, got)
				}
			}
		}
	})
	if after := (&Batch{ops: make([]op, 1), base: 1<<32 - 1}).After(); after != 0 {
		t.Errorf("after the last number comes %d", after)
	}
}
