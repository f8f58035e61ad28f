package nft

import (
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// As in golden: of nft 1.0.6 on x86-64, by strace.
var goldenGroup = []struct {
	put   func(*Batch)
	typ   netlink.HeaderType
	flags netlink.HeaderFlags
	data  string
}{
	// insert rule ip flatnet forward oifname "flatnet-br0" accept
	{func(b *Batch) {
		b.Insert(in(forward, Meta(MetaOifName, Reg1), Cmp(Reg1, Equal, Name("flatnet-br0")), accept))
	}, 0xa06, 0x401,
		"020000000c000100666c61746e6574000c000200666f7277617264009000048024000180090001006d6574610000000014000280" +
			"080002000000000708000100000000013800018008000100636d70002c0002800800010000000001080002000000000018000380" +
			"14000100666c61746e65742d6272300000000000300001800e000100696d6d6564696174650000001c0002800800010000000000" +
			"100002800c0002000800010000000001"},
	// add rule ip flatnet forward iifgroup 10870/31 drop
	{func(b *Batch) {
		b.Add(in(forward, Meta(MetaIifGroup, Reg1), Bitwise(Reg1, []byte{0xfe, 0xff, 0xff, 0xff}),
			Cmp(Reg1, Equal, []byte{0x76, 0x2a, 0, 0}), Verdict(Drop, "")))
	}, 0xa06, 0xc01,
		"020000000c000100666c61746e6574000c000200666f727761726400c800048024000180090001006d6574610000000014000280" +
			"0800020000000015080001000000000" + "1440001800c0001006269747769736500340002800800010000000001080002000000000" +
			"108000300000000040c00048008000100feffffff0c00058008000100000000002c00018008000100636d7000200002800800010000" +
			"000001080002000000000" + "00c00038008000100762a0000300001800e000100696d6d6564696174650000001c0002800800010000000000" +
			"100002800c0002000800010000000000"},
	// add rule ip flatnet forward oifgroup 10870 accept
	{func(b *Batch) {
		b.Add(in(forward, Meta(MetaOifGroup, Reg1), Cmp(Reg1, Equal, []byte{0x76, 0x2a, 0, 0}), accept))
	}, 0xa06, 0xc01,
		"020000000c000100666c61746e6574000c000200666f7277617264008400048024000180090001006d6574610000000014000280" +
			"080002000000001608000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380" +
			"08000100762a0000300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c00020008000100" +
			"00000001"},
	// create table inet flatnet, for which nft leaves NLM_F_CREATE out
	{func(b *Batch) { b.Create(Table{Inet, "flatnet"}) }, 0xa00, 0x601,
		"010000000c000100666c61746e6574000800020000000000"},
}

func TestGoldenGroup(t *testing.T) {
	for _, g := range goldenGroup {
		var b Batch
		g.put(&b)
		if len(b.ops) != 1 {
			t.Fatalf("%v", b.ops)
		}
		m := b.ops[0].msg
		if got := hex.EncodeToString(m.Data); m.Header.Type != g.typ || m.Header.Flags != g.flags || got != g.data {
			t.Errorf("%v: %#x %#x\n%s, want %#x %#x\n%s", b.ops[0], int(m.Header.Type), int(m.Header.Flags), got, int(g.typ), int(g.flags), g.data)
		}
	}
}

// What Linux 6.18 answers to nft list chains.
const listedChain = "020000020c000100666c61746e6574000c000300666f7277617264000c0002000000000000000001140004800800010000000002" +
	"080002000000000008000500000000000b00070066696c746572000008000a00000000010800060000000000"

func TestChainOfTheKernel(t *testing.T) {
	data, err := hex.DecodeString(listedChain)
	if err != nil {
		t.Fatal(err)
	}
	want := Chain{Table: ip, Name: "forward", Type: Filter, Hook: Forward, Drop: true}
	if got, err := one(netlink.Message{Data: data}, readChain); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzChain(f *testing.F) {
	data, _ := hex.DecodeString(listedChain)
	f.Add(data)
	seed(f, unix.NFT_MSG_NEWCHAIN)
	f.Fuzz(func(t *testing.T, data []byte) {
		ch, err := one(netlink.Message{Data: data}, readChain)
		if err != nil {
			return
		}
		again, err := one(encode(ch, newMsg, 0), readChain)
		if err != nil || again.Name != ch.Name || ch.Type != "" && again != ch {
			t.Errorf("got %+v, %v, want %+v", again, err, ch)
		}
	})
}
