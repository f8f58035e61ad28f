package registry

import (
	"strings"
	"testing"
	"time"
)

func TestStamp(t *testing.T) {
	const day = 24 * 60 * 60
	for at := uint64(0); at < 500*366*day; at += day - 1 {
		if got, want := stamp(at), time.Unix(int64(at), 0).UTC().Format(time.RFC3339); got != want {
			t.Fatalf("%d: %s, want %s", at, got, want)
		}
	}
}

// parsed feeds an answer in pieces.
func parsed(pieces ...string) (status int, complete bool, err error) {
	var x exchange
	for _, p := range pieces {
		if complete, err = x.take([]byte(p)); complete || err != nil {
			break
		}
	}
	return x.status, complete, err
}

func TestParseAnswer(t *testing.T) {
	for _, tt := range []struct {
		pieces []string
		status int
		err    string
	}{
		{[]string{"HTTP/1.1 201 Created\r\n"}, 201, ""},
		{[]string{"H", "TTP/1.0 20", "4", "\n"}, 204, ""},
		{[]string{"HTTP/1.1 500\r\n"}, 500, ""},
		{[]string{"HTTP/1.1 100 Continue\r\nA: b\r\n", "\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n"}, 200, ""},
		{[]string{"HTTP/1.1 100 Continue\r\nA: b\r\n"}, 0, ""},
		{[]string{"HTTP/1.1 20"}, 0, ""},
		{[]string{"HTTP/2 200 OK\r\n"}, 0, "no answer of HTTP/1.1"},
		{[]string{"HTTP/1.1 +20 OK\r\n"}, 0, "no answer"},
		{[]string{"HTTP/1.1 2000 OK\r\n"}, 0, "no answer"},
		{[]string{"\x00\x1b\n"}, 0, `"\x00\x1b"`},
		{[]string{strings.Repeat("x", maxAnswer+1)}, 0, "no answer in"},
		{[]string{strings.Repeat("HTTP/1.1 100 C\r\n\r\n", maxAnswer/18+1)}, 0, "no answer in"},
		{[]string{"HTTP/1.1 100 C\r\n" + strings.Repeat("A: b\r\n", maxAnswer)}, 0, "no answer in"},
	} {
		status, complete, err := parsed(tt.pieces...)
		if status != tt.status || complete != (status != 0) || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%.60q: %d, %v, %v", tt.pieces, status, complete, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if status, complete, _ := parsed(string(data)); complete && (status < 200 || status > 999) {
			t.Fatalf("%q: %d", data, status)
		}
	})
}

func TestRequest(t *testing.T) {
	got := string(request("POST", "/c", "[fd00::1]:80", []byte("{}")))
	want := "POST /c HTTP/1.1\r\nHost: [fd00::1]:80\r\nUser-Agent: flatnet\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	if got != want {
		t.Errorf("%q", got)
	}
	if got := string(request("DELETE", "/c/1", "10.0.0.1:80", nil)); strings.Contains(got, "Content") || !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("%q", got)
	}
}
