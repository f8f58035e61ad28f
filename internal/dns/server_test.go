package dns

import (
	"bytes"
	"net"
	"strings"
	"testing"
)

// dig +noedns -t A web.dns.podman, with the ID of our questions.
var question = []byte("\x66\x6e\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x03dns\x06podman\x00\x00\x01\x00\x01")

// reply is aardvark-dns' header for the question: flags and count of answers.
func reply(flags, answers byte) []byte {
	b := bytes.Clone(question)
	b[2], b[3], b[7] = 0x85, flags, answers
	return append(b, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x0a\x57\x02\x02"...)
}

func TestQuestion(t *testing.T) {
	r := Record{Names: []string{"Ü", "Web", "db"}, Addresses: addrs("10.87.2.2", "fd87::2")}
	if got := r.question(); !bytes.Equal(got, question) {
		t.Errorf("%q, want %q", got, question)
	}
	r.Addresses = addrs("fd87::2")
	if got := r.question(); !strings.HasSuffix(string(got), "\x00\x1c\x00\x01") {
		t.Errorf("AAAA: %q", got)
	}
}

func TestAnswer(t *testing.T) {
	other := reply(0x80, 1)
	other[0]++
	for _, c := range []struct {
		name  string
		reply []byte
		want  string // of the error; empty: none
	}{
		{"an address", reply(0x80, 1), ""},
		{"NXDOMAIN", reply(0x83, 0), "response code 3"},
		{"no address", reply(0x80, 0), "no address"},
		{"another's", other, "no reply"},
		{"a question", question, "no reply"},
		{"too short", reply(0x80, 1)[:11], "no reply"},
		{"nothing", nil, "no reply"},
	} {
		err := decodeAnswer(c.reply)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestAsk(t *testing.T) {
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := server.LocalAddr().(*net.UDPAddr).AddrPort()
	replies := make(chan []byte, 1)
	go func() {
		for b := make([]byte, 512); ; {
			_, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			server.WriteToUDPAddrPort(<-replies, from)
		}
	}()
	replies <- reply(0x80, 1)
	if err := ask(addr, question); err != nil {
		t.Error(err)
	}
	replies <- reply(0x83, 0)
	if err := ask(addr, question); err == nil {
		t.Error("an unknown name is found")
	}
	server.Close()
	if err := ask(addr, question); err == nil {
		t.Error("nobody answers, and the name is found")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(reply(0x80, 1))
	f.Add(question)
	f.Fuzz(func(t *testing.T, b []byte) { decodeAnswer(b) })
}
