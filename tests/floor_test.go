package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// make bench compares with a program that really does an ADD's and a DEL's work.
func TestFloor(t *testing.T) {
	floor := filepath.Join(t.TempDir(), "floor")
	output(t, ".", "gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", floor, "bench/floor/floor.c")
	testFloor(t, floor)
}

// So does that program in Go.
func TestGoFloor(t *testing.T) {
	floor := filepath.Join(t.TempDir(), "gofloor")
	output(t, ".", "go", "build", "-o", floor, "./bench/gofloor")
	testFloor(t, floor)
}

func testFloor(t *testing.T, floor string) {
	t.Helper()
	b := newBox(t)
	b.Sh("mkdir /run/leases")
	run := func(command, id string) string {
		return b.Run("env", "CNI_COMMAND="+command, "CNI_CONTAINERID="+id, "CNI_NETNS=/run/netns/"+id, "FLOOR_BRIDGE=floor0", "FLOOR_LEASES=/run/leases", floor, command)
	}
	add := func(id, addr string) lab.Place {
		t.Helper()
		c := b.NetNS(id)
		if result := run("ADD", id); !strings.Contains(result, `"address":"`+addr+`/16"`) {
			t.Errorf("%s: %s", id, result)
		}
		return c
	}
	c1, c2 := add("c1", "10.88.0.2"), add("c2", "10.88.0.3")
	if err := c1.Ping("10.88.0.3"); err != nil {
		t.Error(err)
	}
	b.Outside.Serve(":80")
	for _, c := range []lab.Place{c1, c2} {
		if as, err := c.Ask(lab.OutsideAddr + ":80"); as != lab.HostAddr || err != nil {
			t.Errorf("the outside sees %q: %v", as, err)
		}
	}
	run("DEL", "c1")
	if err := c2.Ping("10.88.0.1"); err != nil {
		t.Error(err)
	}
	run("DEL", "c2")
	if left := b.Sh("ip -o link | grep fl- || :; nft list set ip floor containers | grep elements || :; cat /run/leases/leases"); left != "" {
		t.Errorf("left are %s", left)
	}
}
