package ipam

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"flatnet/bridge/model"
)

// many are n leases of one address each.
func many(n int) *leases {
	l := &leases{network: "flatnet"}
	for i := range n {
		id := fmt.Sprintf("%x", sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
		l.put(key(id), addrs(fmt.Sprintf("10.87.%d.%d", 1+i/256, i%256)))
	}
	return l
}

// What a process does with the lease file of n leases, but for the system calls.
func BenchmarkFile(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			data := many(n).encode()
			for b.Loop() {
				l, err := decode("flatnet", data)
				if err != nil {
					b.Fatal(err)
				}
				if a := addrs("10.87.99.1"); l.owner(a[0]) == nil {
					l.put(key("c1"), a)
				}
				l.encode()
			}
		})
	}
}

// A Lease and a Release beside n leases. For the time without the disk's, let
// TMPDIR be on a tmpfs.
func BenchmarkLease(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := store(tempDir(b), sets(b, []Range{rng(b, "10.87.0.0/16")}))
			p, err := s.open(true)
			if err != nil {
				b.Fatal(err)
			}
			if err := p.dir.Replace(many(n).encode()); err != nil {
				b.Fatal(err)
			}
			p.dir.Close()
			for b.Loop() {
				l, err := s.Lease(key("c1"), nil, noLocals)
				if err != nil {
					b.Fatal(err)
				}
				l.Flight.Close()
				if _, err := s.Release([]model.Key{key("c1")}, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
