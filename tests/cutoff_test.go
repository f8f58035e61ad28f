package tests

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// A living container that sends without pause with another's address is not heard
// while it is taken off the network either.
func TestSpoofedFramesDuringDEL(t *testing.T) { eachFamily(t, guardBox.spoofedFramesDuringDEL) }

func (b guardBox) spoofedFramesDuringDEL() {
	rounds := 4
	if long {
		rounds = 30
	}
	spoof := strings.Replace(dual, `"ipam"`, `"macspoofchk":true,"ipam"`, 1)
	guarded := func(c *lab.Call) { c.Conf = spoof }
	witness := b.attach("witness", guarded)
	witness.Run("nft", `table netdev watch { counter seen { }; counter honest { }
		chain in { type filter hook ingress device eth0 priority 0
			ip saddr 10.87.1.77 counter name seen; arp saddr ip 10.87.1.77 counter name seen; ip protocol 253 counter name honest; }; }`)
	for name, remove := range map[string]func(c container){
		"DEL":                  func(c container) { b.do(c.then("DEL")) },
		"GC":                   func(c container) { b.do(lab.Call{Command: "GC", Conf: gcConf(spoof, "witness")}) },
		"DEL without a record": func(c container) { b.Sh("rm -r /run/flatnet/*/flatnet"); b.do(c.then("DEL")) },
	} {
		b.t.Run(name, func(t *testing.T) {
			for i := range rounds {
				liar := b.in(t).attach(fmt.Sprintf("liar%d", i), guarded)
				liar.Flood("eth0", taggedIPv4(t, liar, witness, "10.87.1.77", ""), spoofedARP(t, liar, "10.87.1.77"),
					taggedIPv4(t, liar, witness, liar.addr, ""))
				remove(liar)
				b.Run("ip", "netns", "del", strings.TrimPrefix(liar.Path, "/run/netns/"))
				if seen := witness.Run("nft", "list", "counter", "netdev", "watch", "seen"); !strings.Contains(seen, "packets 0 ") {
					t.Fatalf("round %d: %s", i, seen)
				}
			}
		})
	}
	if n := witness.Run("nft", "list", "counter", "netdev", "watch", "honest"); strings.Contains(n, "packets 0 ") {
		b.t.Error("the witness has seen nothing at all")
	}
}

// gcConf is a GC that leaves one attachment alone.
func gcConf(conf, id string) string {
	conf = strings.Replace(conf, `"cniVersion":"1.0.0"`, `"cniVersion":"1.1.0"`, 1)
	return withKeys(conf, `"cni.dev/valid-attachments":[{"containerID":"`+id+`","ifname":"eth0"}]`)
}

// spoofedARP is a broadcast request with another's sender address.
func spoofedARP(t *testing.T, from container, sender string) []byte {
	t.Helper()
	mac := strings.ReplaceAll(links(t, from.Place)["eth0"].Address, ":", "")
	ip := netip.MustParseAddr(sender).As4()
	frame, err := hex.DecodeString("ffffffffffff" + mac + "0806" + "0001080006040001" + mac + hex.EncodeToString(ip[:]) + "000000000000" + hex.EncodeToString(ip[:]))
	if err != nil {
		t.Fatal(err)
	}
	return frame
}
