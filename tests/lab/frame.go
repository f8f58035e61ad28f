package lab

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// SendFrame sends an Ethernet frame, from its destination address on, through
// an interface of the place, and returns when the frame has arrived or was dropped.
func (p Place) SendFrame(ifName string, frame []byte) {
	t := p.world.TB
	t.Helper()
	if out, err := p.role("send-frame", ifName+" "+hex.EncodeToString(frame)).CombinedOutput(); err != nil {
		t.Fatalf("send a frame: %v: %s", err, out)
	}
	p.world.Settle()
}

// Flood sends Ethernet frames in turn, over and over, through an interface of the place
// for as long as there is one, and at most as long as the test.
func (p Place) Flood(ifName string, frames ...[]byte) {
	t := p.world.TB
	t.Helper()
	arg := ifName
	for _, f := range frames {
		arg += " " + hex.EncodeToString(f)
	}
	start(t, p.role("flood", arg))
}

func beFlooder(args []string) error {
	words := strings.Fields(args[0])
	ifc, err := net.InterfaceByName(words[0])
	if err != nil {
		return err
	}
	var frames [][]byte
	for _, digits := range words[1:] {
		frame, err := hex.DecodeString(digits)
		if err != nil {
			return err
		}
		frames = append(frames, frame)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	go func() {
		to := &unix.SockaddrLinklayer{Ifindex: ifc.Index}
		for i := 0; ; i++ {
			if err := unix.Sendto(fd, frames[i%len(frames)], 0, to); errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
				return
			}
		}
	}()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
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
