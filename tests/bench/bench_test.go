package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	trace := "1 execve(\"/a\") = 0\n1 read(0 <unfinished ...>\n2 execve(\"/b\") = 0\n1 <... read resumed>) = 1\n2 execve(\"/c\") = -1 ENOENT\n2 +++ exited with 0 +++\n"
	if syscalls, children := tally(trace); syscalls != 4 || children != 1 {
		t.Errorf("%d system calls, %d children", syscalls, children)
	}
}

// A report of which parts are missing has a plot and tables all the same.
func TestReport(t *testing.T) {
	r := report{
		Rows: []row{{Name: floorName, Samples: map[string][]sample{otherAdd: {{MS: 2}, {MS: 1}, {MS: 3}}}},
			{Name: goFloorName, Samples: map[string][]sample{otherAdd: {{MS: 3}}}}, {Name: flatnetCNI, Samples: map[string][]sample{otherAdd: {{MS: 4}}}}},
		Scale: []point{{Rival: "a & b", N: 1, Add: []float64{1}}, {Rival: "a & b", N: 100, Add: []float64{30}}},
	}
	for _, r := range []report{{}, r} {
		d := xml.NewDecoder(strings.NewReader(r.plot()))
		var err error
		for err == nil {
			_, err = d.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("plot: %v", err)
		}
	}
	words := strings.Join(strings.Fields(r.text()), " ")
	for _, want := range []string{"another ADD / floor 1.5 2 NOT MET", "the floor as a Go program, ADD / floor 1.5 no goal"} {
		if !strings.Contains(words, want) {
			t.Errorf("%q is not in %s", want, words)
		}
	}
	if text := r.markdown(); !strings.Contains(text, "| goal | at most | measured |  |\n| --- | --- | --- | --- |\n| another ADD / floor | 1.5 | 2 | NOT MET |\n") {
		t.Errorf("%s", text)
	}
}
