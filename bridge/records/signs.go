package records

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"flatnet/bridge/host"
	"flatnet/bridge/model"
	"flatnet/internal/flock"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Seen returns a function that reports whether an attachment has one of the links, or maybe
// has: see [host.Index.Find]. It is for what must not be removed from a container that runs.
func (d Dir) Seen(links []rtnl.Link) func(model.Key) bool {
	x := host.NewIndex(links)
	return func(key model.Key) bool {
		if _, has := x.Find(key); has != 0 {
			return true
		}
		a := d.Attachment(key)
		if a == nil {
			return false
		}
		_, has := x.Find(key, a.HostEnd)
		return has != 0
	}
}

// Gone returns a function that reports whether the owner of ports, which [model.Key.String]
// wrote, has no link any more, by which they may be taken over.
func (d Dir) Gone(h *host.Host) func(owner string) (bool, error) {
	return func(owner string) (bool, error) {
		key, ok := model.ParseKey(owner)
		if !ok {
			return false, nil
		}
		links, err := h.Links()
		return err == nil && !d.Seen(links)(key), err
	}
}

// Owners is [host.Owners] for what must not be given to somebody else: a link that lacks a
// sign belongs to the attachments of which it has another one as well.
func (d Dir) Owners(links []rtnl.Link) []model.Owner {
	all, x := host.Owners(links), host.NewIndex(links)
	named := map[model.Key]int{} // 1: by one link with two signs, and so none without the alias has more
	for _, l := range links {
		switch key, _, ok := model.CutAlias(l.Alias); {
		case !ok || l.Kind != "veth":
		case host.Owns(key, l):
			named[key]++
		default:
			named[key] += 2
			all = append(all, model.ParseOwner(l.Name, key.Mark(), l.Alias))
		}
	}
	for _, file := range d.glob("*", "*:*") {
		key, ok := keyOf(file)
		if !ok || named[key] == 1 { // to read all records takes long
			continue
		}
		a := d.Attachment(key) // a reload reports what can't be read
		if a == nil {
			continue
		}
		if l, has := x.Find(key, a.HostEnd); has != 0 && has&host.ByAlias == 0 {
			all = append(all, model.Owner{Link: l.Name, Key: key, Mark: key.Mark(), Addresses: a.IPs()})
		}
	}
	return all
}

// Busy reports whether another process has a verb of the attachment under way, or may have:
// it takes no lock.
func (d Dir) Busy(key model.Key) bool {
	f, err := os.OpenFile(filepath.Join(d.path, lockFile), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	locked, err := flock.LockedBytes(f, key.Place(), 1)
	return err != nil || len(locked) > 0
}
