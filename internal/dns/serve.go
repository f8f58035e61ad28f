package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"flatnet/internal/sockdiag"
)

const (
	// confirmWait is how long the server may take to answer by a record, some
	// milliseconds as a rule. A server that never answers the host, as
	// aardvark-dns 1.12, costs every ADD as much.
	confirmWait = 400 * time.Millisecond
	// bindWait is how long it may take to be there at all.
	bindWait = time.Second
	// serveWait is for how long all of it is tried with a server that ends again
	// and again.
	serveWait = 3 * time.Second
	// tellWait is after how long it is told of the record again: aardvark-dns 1.4
	// misses a signal that comes while it reads its files.
	tellWait = 100 * time.Millisecond
)

// errUnconfirmed is a server that is there and does not answer by the record.
var errUnconfirmed = errors.New("aardvark-dns does not answer")

// serve returns when the server answers by the record at all addresses where
// the network's containers ask. A server that was about to end when it was told
// of the record is started again.
func (s Server) serve(r Record) error {
	var asked, told time.Duration
	begin := time.Now()
	for _, addr := range r.Listen {
		for {
			if err := s.ensure(r.Listen); err != nil {
				return err
			}
			began := time.Now()
			err := ask(netip.AddrPortFrom(addr, port), r.question(), r.Addresses[0].Is6())
			if err == nil {
				break
			}
			asked += time.Since(began)
			by, refused := s.taken(addr), errors.Is(err, syscall.ECONNREFUSED)
			switch {
			case by != nil:
				return by
			case time.Since(begin) > serveWait:
				return fmt.Errorf("aardvark-dns ends as soon as it is started: %w", err)
			case refused && asked > bindWait:
				return fmt.Errorf("aardvark-dns does not listen at %s: %w", addr, err)
			case !refused && asked > confirmWait:
				return fmt.Errorf("%w at %s: %w", errUnconfirmed, addr, err)
			}
			if asked > told+tellWait {
				told = asked
				if err := s.tell(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// holder returns the socket that gets queries to addr; one without an address
// where there is none, or the kernel can't answer.
func holder(addr netip.Addr) (socket sockdiag.Socket) {
	c, err := sockdiag.Dial()
	if err != nil {
		return socket
	}
	defer c.Close()
	if socket, err = c.Receiver(netip.AddrPortFrom(addr, port)); err != nil {
		return sockdiag.Socket{}
	}
	return socket
}

// taken returns why the server can't bind addr: another program has the port of
// that address, or of all, which the server itself never has.
func (s Server) taken(addr netip.Addr) error {
	socket := holder(addr)
	switch by := socket.Addr.Addr(); {
	case !by.IsValid():
		return nil
	case by.IsUnspecified():
		return fmt.Errorf("aardvark-dns can't listen at %s, because another program listens at UDP port %d of all addresses (%s)", addr, port, by)
	}
	pid, err := os.ReadFile(filepath.Join(s.Dir, pidFile))
	if err != nil {
		return nil
	}
	held, err := sockdiag.HeldBy(strings.TrimSpace(string(pid)))
	if err != nil || slices.Contains(held, socket.Inode) {
		return nil
	}
	return fmt.Errorf("aardvark-dns can't listen at %s, because another program listens at its UDP port %d", addr, port)
}
