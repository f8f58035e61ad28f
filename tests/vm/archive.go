package vm

import (
	"bytes"
	"fmt"
	"path"
)

// An archive is an initramfs under way, in the format "newc"
// (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).
type archive struct {
	b     bytes.Buffer
	inode int
	dirs  map[string]bool
}

// Types of a file in its mode (S_IFMT of linux/stat.h).
const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
)

func (a *archive) file(name string, perm int, content []byte) {
	a.parents(name)
	a.entry(name, typeFile|perm, content)
}

func (a *archive) link(name, target string) {
	a.parents(name)
	a.entry(name, typeLink|0o777, []byte(target))
}

// parents makes the directories that a file is in.
func (a *archive) parents(name string) {
	dir := path.Dir(name)
	if dir == "." || dir == "/" || a.dirs[dir] {
		return
	}
	a.parents(dir)
	if a.dirs == nil {
		a.dirs = map[string]bool{}
	}
	a.dirs[dir] = true
	a.entry(dir, typeDir|0o755, nil)
}

func (a *archive) entry(name string, mode int, content []byte) {
	a.inode++
	// Magic, inode, mode, uid, gid, nlink, mtime, size, four device numbers,
	// the name's size, and a checksum that this format doesn't have.
	fmt.Fprintf(&a.b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.b.WriteString(name + "\x00")
	a.pad()
	a.b.Write(content)
	a.pad()
}

func (a *archive) pad() {
	for a.b.Len()%4 != 0 {
		a.b.WriteByte(0)
	}
}

// bytes ends the archive.
func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.b.Bytes()
}
