package podman

import (
	"maps"
	"testing"
)

func TestRead(t *testing.T) {
	for data, want := range map[string]map[string]string{
		`[{"id":"a1","names":["web","other"],"image":"i","created":"2026-01-01T00:00:00Z","flags":{"x":{"y":[1,null]}}},{"id":"a2","names":[]},{"id":"a3"}]`: {"a1": "web"},
		`[{"id":"a1","names":["\u001b[31m"]}]`: {},
		`[{"id":"a1","names":["web"]`:          {},
		`{}`:                                   {},
		``:                                     {},
	} {
		got := map[string]string{}
		if read([]byte(data), got); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", data, got, want)
		}
	}
}
