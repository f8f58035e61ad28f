package registry

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flatnet/bridge/model"
)

// listen returns the URL of a port of this machine that nobody accepts from.
func listen(t *testing.T) (url string, l net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String() + "/c", l
}

// many returns IDs of containers.
func many(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("c%d", i))
	}
	return ids
}

// Registries that hang or refuse take nothing of the time and the connections that a
// healthy one behind them needs, whatever the number of containers.
func TestSharesOfRegistries(t *testing.T) {
	var connected atomic.Int32
	hang := func() string {
		url, l := listen(t)
		go func() {
			var open []net.Conn // one that is collected is closed
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				open = append(open, c)
				connected.Add(1)
			}
			for _, c := range open {
				c.Close()
			}
		}()
		return url
	}
	hung, other := hang(), hang()
	refusing, l := listen(t)
	l.Close()
	var lock sync.Mutex
	told := map[string]int{}
	healthy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		told[r.Method+" "+r.URL.Path]++
	}))
	defer healthy.Close()
	var warned []string
	ids := many(200)
	c := &model.Config{Span: model.Span{Registry: []string{refusing, hung, hung, other, healthy.URL + "/c", healthy.URL + "/c"}}}
	removeAll(c, ids, func(text string) { warned = append(warned, text) })
	healthy.Close()
	for _, id := range ids {
		if n := told["DELETE /c/"+id]; n != 1 {
			t.Errorf("the healthy one was told of %s %d times", id, n)
		}
	}
	if n := connected.Load(); n == 0 || n > atOnce {
		t.Errorf("%d connections to those that hang", n)
	}
	slices.Sort(warned)
	want := []string{refusing + ": DELETE failed for 200 of 200 containers, which work without it: connection refused;",
		hung + ": DELETE failed for 200 of 200 containers, which work without it: no answer within a second;", other + ": DELETE"}
	slices.Sort(want)
	if len(warned) != len(want) {
		t.Fatalf("%d warnings: %q", len(warned), warned)
	}
	for i, text := range want {
		if !strings.HasPrefix(warned[i], "registry "+text) {
			t.Errorf("warned %q, want %q", warned[i], text)
		}
	}
}

// One that refuses is asked once: its answer to a hundred thousand would be the same.
func TestRefusingRegistry(t *testing.T) {
	refusing, l := listen(t)
	l.Close()
	begun := time.Now()
	var warned []string
	const count = 100_000
	removeAll(&model.Config{Span: model.Span{Registry: []string{refusing}}}, many(count), func(text string) { warned = append(warned, text) })
	if len(warned) != 1 || !strings.Contains(warned[0], "failed for 100000 of 100000 containers") {
		t.Errorf("warned %q", warned)
	}
	if took := time.Since(begun); took >= wait {
		t.Errorf("took %v", took)
	}
}

// leases are those of some containers, or can't be read.
type leases struct {
	model.Allocator
	ids []string
	err error
}

func (l leases) Keys() (all []model.Key, err error) {
	for _, id := range l.ids {
		all = append(all, model.Key{Network: "n", ContainerID: id, IfName: "eth0"})
	}
	return all, l.err
}

// Only who has no lease any more is removed, and nobody where that can't be known.
func TestCollected(t *testing.T) {
	told := make(chan string, 9)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told <- r.Method + " " + r.URL.Path }))
	defer server.Close()
	c := &model.Config{Span: model.Span{Registry: []string{server.URL + "/c"}}}
	c.Request.Key = model.Key{Network: "n", ContainerID: "a", IfName: "eth0"}
	before, _ := leases{ids: []string{"a", "b"}}.Keys()
	quiet := func(text string) { t.Errorf("warning %q", text) }
	for _, tt := range []struct {
		name string
		left leases
		want string
	}{
		{"none is gone", leases{ids: []string{"a", "b"}}, "[]"},
		{"one is gone", leases{ids: []string{"b"}}, "[DELETE /c/a]"},
		{"the leases can't be read", leases{err: model.ErrBusy}, "[]"},
		{"they can be read in part", leases{ids: []string{"b"}, err: model.ErrBusy}, "[]"},
	} {
		for name, remove := range map[string]func(){
			"GC":  func() { Collected(c, before, tt.left, quiet) },
			"DEL": func() { Removed(c, tt.left, quiet) },
		} {
			var paths []string
			for remove(); len(told) > 0; { // a server has noted what it has answered
				paths = append(paths, <-told)
			}
			if got := fmt.Sprint(paths); got != tt.want {
				t.Errorf("%s: %s tells %s, want %s", tt.name, name, got, tt.want)
			}
		}
	}
	if got := Leased(c, leases{ids: []string{"a"}, err: model.ErrBusy}); got != nil {
		t.Errorf("leases that can't be read: %v", got)
	}
}
