package nl

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

// dumper answers dumps with two messages, of which the first tries are interrupted.
func dumper(interruptions int, dumps *int) *Conn {
	return New(nltest.Dial(func(reqs []netlink.Message) ([]netlink.Message, error) {
		*dumps++
		flags := netlink.Multi
		if *dumps <= interruptions {
			flags |= dumpInterrupted
		}
		h := netlink.Header{Type: 16, Flags: flags, Sequence: reqs[0].Header.Sequence, PID: nltest.PID}
		end := h
		end.Type, end.Flags = netlink.Done, netlink.Multi
		return []netlink.Message{{Header: h}, {Header: h}, {Header: end, Data: make([]byte, 4)}}, nil
	}))
}

func TestDumpBeginsAnewWhenInterrupted(t *testing.T) {
	const all = 2047 * time.Millisecond
	for _, tt := range []struct {
		interruptions, dumps int
		limit                int
		waits                time.Duration
		want                 error
	}{
		{0, 1, 0, 0, nil}, {1, 2, 0, firstPause, nil}, {11, 12, 0, all, nil}, {12, 12, 0, all, unix.EAGAIN},
		{4, 5, 1 << 20, 15 * time.Millisecond, nil}, {5, 5, 1 << 20, 15 * time.Millisecond, unix.EAGAIN},
	} {
		synctest.Test(t, func(t *testing.T) {
			dumps, start := 0, time.Now()
			c := dumper(tt.interruptions, &dumps)
			c.Limit(tt.limit)
			msgs, err := c.Do(18, netlink.Dump, nil)
			if !errors.Is(err, tt.want) || dumps != tt.dumps || len(msgs) != 2 || time.Since(start) != tt.waits {
				t.Errorf("%d interruptions: %d dumps in %v, %d messages, %v", tt.interruptions, dumps, time.Since(start), len(msgs), err)
			}
		})
	}
}

func TestErrorsSpeakTheKernelsWords(t *testing.T) {
	c := New(nltest.Dial(func(reqs []netlink.Message) ([]netlink.Message, error) {
		return nltest.Error(int(unix.EBUSY), reqs)
	}))
	_, err := c.Do(16, 0, nil)
	if !errors.Is(err, unix.EBUSY) || err.Error() != "device or resource busy" {
		t.Errorf("got %v", err)
	}
	told := opError{&netlink.OpError{Err: unix.EINVAL, Message: "Invalid prefix for given prefix length"}}
	if want := "invalid argument (Invalid prefix for given prefix length)"; told.Error() != want {
		t.Errorf("got %q, want %q", told.Error(), want)
	}
	late := opError{&netlink.OpError{Err: os.NewSyscallError("recvmsg", unix.EAGAIN)}}
	if !strings.Contains(late.Error(), "no answer") {
		t.Errorf("got %q", late.Error())
	}
}

// The real kernel answers with a text of its own (NETLINK_EXT_ACK), and lists
// links: there is always lo.
func TestRealKernel(t *testing.T) {
	c, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	links, err := c.Do(unix.RTM_GETLINK, netlink.Dump, make([]byte, unix.SizeofIfInfomsg))
	if err != nil || len(links) == 0 {
		t.Errorf("%d links, %v", len(links), err)
	}
	missing := make([]byte, unix.SizeofIfInfomsg)
	missing[4], missing[7] = 0xff, 0x7f
	if _, err := c.Do(unix.RTM_GETLINK, 0, missing); !errors.Is(err, unix.ENODEV) {
		t.Errorf("missing link: %v", err)
	}
	if _, err := c.Do(unix.RTM_GETLINK, 0, make([]byte, 4)); err == nil || !strings.Contains(err.Error(), "(") {
		t.Errorf("a request with a short header: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// An answer that is too long, and a wait that is over, are errors.
func TestBounds(t *testing.T) {
	c, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Limit(64 << 10)
	if _, err := c.Do(unix.RTM_GETLINK, netlink.Dump, make([]byte, unix.SizeofIfInfomsg)); err != nil {
		t.Errorf("an answer within the limit: %v", err)
	}
	c.Until(time.Now())
	if _, err := c.Receive(); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a wait that is over: %v", err)
	}
	c.Limit(16)
	if _, err := c.Do(unix.RTM_GETLINK, netlink.Dump, make([]byte, unix.SizeofIfInfomsg)); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("an answer beyond the limit: %v", err)
	}
}

func TestDialUnknownProtocol(t *testing.T) {
	if c, err := Dial(30); err == nil {
		c.Close()
		t.Error("no error")
	}
}

// Any datagram is taken apart into messages that lie in it, or refused.
func FuzzSplit(f *testing.F) {
	f.Add([]byte{20, 0, 0, 0, 3, 0, 2, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{17, 0, 0, 0, 3, 0, 2, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 3, 0, 2, 0, 1, 0, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		msgs, _ := split(append(b, make([]byte, align(len(b))-len(b))...))
		for _, m := range msgs {
			total += unix.SizeofNlMsghdr + len(m.Data)
		}
		if total > align(len(b)) {
			t.Errorf("%d bytes of messages out of %d", total, len(b))
		}
	})
}

// Without an answer, nothing more is waited for: neither the answers to what was sent
// at the same time, nor those to what is left.
func TestEachEndsWithTheSocket(t *testing.T) {
	c, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Until(time.Now())
	silent := make([]netlink.Message, 2*pipelined) // the kernel answers nothing to these
	for i := range silent {
		silent[i].Header = netlink.Header{Type: netlink.Noop, Flags: netlink.Request}
	}
	answers := 0
	for _, err = range c.Each(silent) {
		answers++
	}
	if !errors.Is(err, unix.EAGAIN) || answers != 1 {
		t.Errorf("requests without answers: %d, %v", answers, err)
	}
}
