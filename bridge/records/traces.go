package records

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
)

// goneDir has an empty file for each attachment whose record was removed although no DEL came,
// as NETWORK/ID:IFNAME: its lease may be collected in this network namespace.
const goneDir = ".gone"

// maxTraces bounds the notes of a network namespace: /run is memory.
const maxTraces = 4096

func (d Dir) trace(key model.Key) string {
	return filepath.Join(d.path, goneDir, key.Network, key.ContainerID+":"+key.IfName)
}

// Trace notes that attachments which have been removed were of this network namespace. Without
// the note, their leases stay until the next boot, or until their addresses are needed, as do
// those beyond maxTraces.
func (d Dir) Trace(gone map[model.Key]*model.Attachment) {
	if len(gone) == 0 {
		return
	}
	room := maxTraces - len(d.Traces())
	for key := range gone {
		if room--; room < 0 {
			return
		}
		path := d.trace(key)
		if os.MkdirAll(filepath.Dir(path), 0o700) == nil {
			os.WriteFile(path, nil, 0o600)
		}
	}
}

// Claim takes the turns of attachments that have no link, without a wait, and deletes from dead
// those of which a DEL is under way, or has come since their records were read: it would not
// come again for what is left of them. An attachment without a record is nil.
func (d Dir) Claim(dead map[model.Key]*model.Attachment) (turns Lock) {
	if len(dead) == 0 {
		return nil
	}
	_, held, turns := d.Turns(slices.Collect(maps.Keys(dead)))
	for _, key := range held {
		delete(dead, key)
	}
	still, _ := d.Attachments("*", "*") // a reload reports what can't be read
	maps.DeleteFunc(dead, func(key model.Key, a *model.Attachment) bool { return a != nil && still[key] == nil })
	return turns
}

// Dead deletes from all the attachments that have a link, or maybe have one, and takes the turns
// of the others, if any are left: see Claim. Their records were read before: an ADD has its link first.
func (d Dir) Dead(h *host.Host, all map[model.Key]*model.Attachment) (turns Lock, err error) {
	linked := func() error {
		links, err := h.Links()
		seen := d.Seen(links)
		maps.DeleteFunc(all, func(key model.Key, _ *model.Attachment) bool { return err != nil || seen(key) })
		return err
	}
	if err := linked(); err != nil || len(all) == 0 {
		return nil, err
	}
	turns = d.Claim(all)
	if err = linked(); len(all) == 0 { // an ADD may have come
		turns.Close()
	}
	return turns, err
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
