package lab

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Race starts a process in the place that stands for one in a container with
// CAP_NET_ADMIN over its own namespace: as soon as there is an interface with the
// index fresh it does to that what its way says, and puts the one with the index own,
// unless that is 0, in its place as eth0. The ways are "rename" (to a name that a
// terminal obeys), "delete", "move" (to another namespace) and "mac" (gives it another
// MAC address). The process ends when done is called, which reports whether it did all
// that.
func (p Place) Race(way string, fresh, own int) (done func() bool) {
	t := p.world.TB
	t.Helper()
	cmd := p.role("race", fmt.Sprintf("%s %d %d", way, fresh, own))
	var said strings.Builder
	cmd.Stderr = os.Stderr
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatalf("racer: %v", err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatalf("racer said %q: %v", line, err)
	}
	return func() bool {
		in.Close()
		io.Copy(&said, lines)
		cmd.Wait()
		return said.String() == "done\n"
	}
}

func beRacer(args []string) error {
	var way string
	var fresh, own int
	if _, err := fmt.Sscan(args[0], &way, &fresh, &own); err != nil {
		return err
	}
	runtime.LockOSThread()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	act := func() unix.Errno {
		return setLink(fd, unix.RTM_NEWLINK, fresh, unix.IFLA_IFNAME, []byte("x\x1b[31m\x00"))
	}
	switch way {
	case "delete":
		act = func() unix.Errno { return setLink(fd, unix.RTM_DELLINK, fresh, 0, nil) }
	case "mac":
		act = func() unix.Errno {
			return setLink(fd, unix.RTM_NEWLINK, fresh, unix.IFLA_ADDRESS, []byte{2, 0, 0, 0, 0, 9})
		}
	case "move":
		// The socket stays in the container's namespace.
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		other, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		to := binary.NativeEndian.AppendUint32(nil, uint32(other))
		act = func() unix.Errno { return setLink(fd, unix.RTM_NEWLINK, fresh, unix.IFLA_NET_NS_FD, to) }
	}
	go func() { // the end of its input is the end of the racer
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("ready")
	for errno := act(); errno != 0; errno = act() {
		if errno != unix.ENODEV {
			return fmt.Errorf("%s: %w", way, errno)
		}
	}
	if own != 0 {
		if errno := setLink(fd, unix.RTM_NEWLINK, own, unix.IFLA_IFNAME, []byte("eth0\x00")); errno != 0 {
			return fmt.Errorf("put another interface in its place: %w", errno)
		}
	}
	fmt.Println("done")
	return nil
}

// setLink sends one rtnetlink request about a link and returns the kernel's answer.
func setLink(fd int, typ uint16, index int, attr uint16, value []byte) unix.Errno {
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg, 128)
	native := binary.NativeEndian
	if attr != 0 {
		b = native.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
		b = native.AppendUint16(b, attr)
		b = append(b, value...)
		b = append(b, make([]byte, -len(value)&3)...)
	}
	native.PutUint32(b, uint32(len(b)))
	native.PutUint16(b[4:], typ)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	native.PutUint32(b[unix.SizeofNlMsghdr+4:], uint32(index))
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return errnoOf(err)
	}
	var reply [4096]byte
	n, _, err := unix.Recvfrom(fd, reply[:], 0)
	if err != nil {
		return errnoOf(err)
	}
	if n < unix.SizeofNlMsghdr+4 {
		return unix.EPROTO
	}
	return unix.Errno(-int32(native.Uint32(reply[unix.SizeofNlMsghdr:])))
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return unix.EIO
	}
	return errno
}
