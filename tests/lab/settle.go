package lab

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// hops is how many veth pairs of a world a frame crosses at most on its way.
const hops = 4

// Settle returns when every frame that was sent before has arrived, however
// busy the machine is. A frame over a veth pair waits in the queue of the CPU
// that sent it (netif_rx, net/core/dev.c), first in, first out, and one over lo
// in the same: so a frame over lo, sent on each CPU, arrives last. On its way
// through a bridge a frame is queued once more at each hop.
func (w *World) Settle() {
	t := w.TB
	t.Helper()
	done := make(chan error)
	go func() { done <- w.settle() }()
	if err := <-done; err != nil {
		t.Fatalf("settle: %v", err)
	}
}

// settle never unlocks its thread, which ends with the goroutine: it is in the
// world's network namespace, and bound to a CPU.
func (w *World) settle() error {
	runtime.LockOSThread()
	netns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", w.pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(netns)
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns: %w", err)
	}
	lo, err := openLoopback()
	if err != nil {
		return err
	}
	defer unix.Close(lo.fd)
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	for hop := range hops {
		for cpu := range len(allowed) * 64 {
			if !allowed.IsSet(cpu) {
				continue
			}
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				return fmt.Errorf("sched_setaffinity: %w", err)
			}
			if err := lo.pass(byte(hop), byte(cpu), byte(cpu>>8)); err != nil {
				return err
			}
		}
	}
	return nil
}

// A loopback is a packet socket (packet(7)) on lo: rules see nothing of it.
type loopback struct {
	fd int
	to unix.SockaddrLinklayer
}

func openLoopback() (loopback, error) {
	const protocol = unix.ETH_P_802_EX1&0xff<<8 | unix.ETH_P_802_EX1>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return loopback{}, fmt.Errorf("packet socket: %w", err)
	}
	// The name of lo is looked up in the thread's namespace.
	ifr, _ := unix.NewIfreq("lo")
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return loopback{}, errors.Join(fmt.Errorf("lo: %w", err), unix.Close(fd))
	}
	lo := loopback{fd, unix.SockaddrLinklayer{Protocol: protocol, Ifindex: int(ifr.Uint32()), Halen: 6}}
	late := unix.NsecToTimeval(deadline.Nanoseconds())
	if err := errors.Join(unix.Bind(fd, &lo.to), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &late)); err != nil {
		return loopback{}, errors.Join(fmt.Errorf("packet socket on lo: %w", err), unix.Close(fd))
	}
	return lo, nil
}

// pass sends a frame and waits until it arrives.
func (lo loopback) pass(mark ...byte) error {
	if err := unix.Sendto(lo.fd, mark, 0, &lo.to); err != nil {
		return fmt.Errorf("send over lo: %w", err)
	}
	for got := make([]byte, 64); ; {
		n, from, err := unix.Recvfrom(lo.fd, got, 0)
		if err == unix.EINTR {
			continue
		} else if err != nil {
			return fmt.Errorf("receive over lo: %w", err)
		}
		at, ok := from.(*unix.SockaddrLinklayer)
		if ok && at.Pkttype != unix.PACKET_OUTGOING && bytes.HasPrefix(got[:n], mark) {
			return nil
		}
	}
}
