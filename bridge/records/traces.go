package records

import (
	"os"
	"path/filepath"
	"strings"

	"flatnet/bridge/model"
)

// goneDir has an empty file for each attachment whose record was removed although no DEL came,
// as NETWORK/ID:IFNAME: its lease may be collected in this network namespace.
const goneDir = ".gone"

func (d Dir) trace(key model.Key) string {
	return filepath.Join(d.path, goneDir, key.Network, key.ContainerID+":"+key.IfName)
}

// Trace notes that attachments which have been removed were of this network namespace. Without
// the note, their leases stay until the next boot, or until their addresses are needed.
func (d Dir) Trace(gone map[model.Key]*model.Attachment) {
	for key := range gone {
		path := d.trace(key)
		if os.MkdirAll(filepath.Dir(path), 0o700) == nil {
			os.WriteFile(path, nil, 0o600)
		}
	}
}

// Traces returns what Trace has noted.
func (d Dir) Traces() map[model.Key]bool {
	all := map[model.Key]bool{}
	for _, file := range d.glob(filepath.Join(goneDir, "*"), "*:*") {
		id, ifName, _ := strings.Cut(filepath.Base(file), ":")
		if key, err := model.NewKey(filepath.Base(filepath.Dir(file)), id, ifName); err == nil {
			all[key] = true
		}
	}
	return all
}

// DropTrace removes the note about an attachment, and the directories of the last one.
func (d Dir) DropTrace(key model.Key) {
	if path := d.trace(key); os.Remove(path) == nil {
		os.Remove(filepath.Dir(path))
		os.Remove(filepath.Join(d.path, goneDir))
	}
}
