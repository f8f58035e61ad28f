package lab

import (
	"encoding/hex"
	"errors"
	"net"
	"strings"

	"golang.org/x/sys/unix"
)

// SendFrame sends an Ethernet frame, from its destination address on, through
// an interface of the place.
func (p Place) SendFrame(ifName string, frame []byte) {
	t := p.world.TB
	t.Helper()
	if out, err := p.role("send-frame", ifName+" "+hex.EncodeToString(frame)).CombinedOutput(); err != nil {
		t.Fatalf("send a frame: %v: %s", err, out)
	}
}

func beFrameSender(args []string) error {
	name, digits, _ := strings.Cut(args[0], " ")
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	frame, err := hex.DecodeString(digits)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifc.Index}), unix.Close(fd))
}
