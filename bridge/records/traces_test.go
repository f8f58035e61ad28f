package records

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"flatnet/bridge/model"
)

// Notes are bounded over many calls, and the last one takes the directories along.
func TestTracesAreBounded(t *testing.T) {
	d := newDir(t)
	for i := range 3 {
		gone := map[model.Key]*model.Attachment{}
		for j := range maxTraces / 2 {
			gone[model.Key{Network: "flatnet", ContainerID: fmt.Sprintf("c%d-%d", i, j), IfName: "eth0"}] = nil
		}
		d.Trace(gone)
	}
	all := d.Traces()
	if len(all) != maxTraces {
		t.Errorf("%d notes", len(all))
	}
	for key := range all {
		if err := d.Drop(key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(d.path, goneDir)); !os.IsNotExist(err) {
		t.Errorf("the directory of notes: %v", err)
	}
}
