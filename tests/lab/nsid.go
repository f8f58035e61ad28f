package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// PeerLinks lists the interfaces of the network namespace in which the peer of
// the place's own interface is, as far as a process in the place gets at them;
// enter is a command that runs the process. It returns how many there are.
func (p Place) PeerLinks(enter ...string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	var stdout, stderr strings.Builder
	cmd := p.Cmd(append(enter, self, "")...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ("peer-links"), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, stderr.String())
	}
	var n int
	_, err = fmt.Sscan(stdout.String(), &n)
	return n, err
}

// bePeerLister dumps links with IFLA_TARGET_NETNSID 0: the one ID that a
// namespace with one veth knows.
func bePeerLister([]string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	// struct nlmsghdr, struct ifinfomsg, and one attribute.
	b := make([]byte, 16+16+8)
	order := binary.NativeEndian
	order.PutUint32(b[0:], uint32(len(b)))
	order.PutUint16(b[4:], unix.RTM_GETLINK)
	order.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	order.PutUint16(b[32:], 8)
	order.PutUint16(b[34:], unix.IFLA_TARGET_NETNSID)
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	links, reply := 0, make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, reply, 0)
		if err != nil {
			return err
		}
		for msg := reply[:n]; len(msg) >= 16; {
			size := (int(order.Uint32(msg)) + 3) &^ 3
			switch order.Uint16(msg[4:]) {
			case unix.RTM_NEWLINK:
				links++
			case unix.NLMSG_ERROR:
				return unix.Errno(-int32(order.Uint32(msg[16:])))
			case unix.NLMSG_DONE:
				if errno := int32(order.Uint32(msg[16:])); errno < 0 {
					return unix.Errno(-errno)
				}
				_, err := fmt.Println(links)
				return errors.Join(err, unix.Close(fd))
			}
			msg = msg[min(size, len(msg)):]
		}
	}
}
