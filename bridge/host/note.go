package host

import (
	"encoding/hex"
	"strconv"
	"strings"

	"flatnet/internal/nft"
	"flatnet/internal/sha256"

	"golang.org/x/sys/unix"
)

// A note says in which tables all chains were found as they should be, and at which
// generation of the ruleset. That stays true for ever, and serves an ADD for as long as
// the generation is the same: the kernel counts each commit of anybody in the network
// namespace. It says nothing in another namespace, or after a reboot, where the count
// begins anew, and so the note begins with where it was written. It is the contents of the
// file of locks, which every verb has open.
type note struct {
	origin     string // see [Host.origin]
	generation uint32 // 0: nothing is known
	tables     map[nft.Table]string
}

// The note begins behind the proofs (see [Host.tried]). A longer one is not written.
const (
	noteAt   = proofs * proofSize
	noteSize = 8 << 10
)

// Stands reports whether a table's chains were as a text describes them, at the generation
// that the transaction is based on. Where it is false, the caller looks at the chains. The
// text must differ wherever the rules do, in other versions of flatnet as well.
func (tx *Tx) Stands(t nft.Table, text string) bool {
	if tx.Base() == 0 || tx.host.Noted == nil {
		return false
	}
	if tx.note == nil {
		tx.note = tx.host.readNote(tx.Conn)
	}
	return tx.note.generation == tx.Base() && tx.note.tables[t] == digest(text)
}

// Seen notes, if the transaction succeeds, that a table's chains are as a text describes.
func (tx *Tx) Seen(t nft.Table, text string) {
	if tx.seen == nil {
		tx.seen = map[nft.Table]string{}
	}
	tx.seen[t] = digest(text)
}

func digest(text string) string {
	sum := sha256.Sum(text)
	return hex.EncodeToString(sum[:12])
}

// keep writes what stands after a transaction: what it has seen, and of the note what
// stood before and was not changed. If that can't be written, the next ADD looks.
func (h *Host) keep(tx *Tx) {
	after := tx.After()
	if h.Noted == nil || after == 0 || tx.Len() == 0 && len(tx.seen) == 0 {
		return
	}
	if tx.note == nil {
		tx.note = h.readNote(tx.Conn)
	}
	now := note{tx.note.origin, after, map[nft.Table]string{}}
	if tx.note.generation == tx.Base() {
		for t, sum := range tx.note.tables {
			if !tx.Changes(t) {
				now.tables[t] = sum
			}
		}
	}
	for t, sum := range tx.seen {
		now.tables[t] = sum
	}
	if now.origin != "" && len(now.tables) > 0 {
		h.writeNote(&now)
	}
}

// origin returns where generations are counted as here: in one boot, one network namespace,
// and since nf_tables was loaded, whose directory has an inode of its own each time. It is
// empty if the kernel does not number namespaces, as before Linux 5.14.
func (h *Host) origin(c *nft.Conn) string {
	boot, err := h.Sysctl.Get("kernel/random/boot_id")
	cookie, cerr := c.Namespace()
	if err != nil || cerr != nil {
		return ""
	}
	var module unix.Stat_t // stays zero where it is built in
	unix.Stat("/sys/module/nf_tables", &module)
	return boot + " " + strconv.FormatUint(cookie, 10) + " " + strconv.FormatUint(module.Ino, 10)
}

// readNote reads the note. It is empty if it is another place's, or damaged: two processes
// may write it at once.
func (h *Host) readNote(c *nft.Conn) *note {
	n := &note{origin: h.origin(c)}
	b := make([]byte, min(max(h.notedSize()-noteAt, 0), noteSize))
	size, _ := h.Noted.ReadAt(b, noteAt)
	text, sum, _ := strings.Cut(string(b[:size]), "\n\n")
	lines := strings.Split(text, "\n")
	if sum, _, _ = strings.Cut(sum, "\n"); len(lines) < 2 || sum != digest(text) || lines[0] != n.origin {
		return n
	}
	generation, _ := strconv.ParseUint(lines[1], 10, 32)
	n.generation, n.tables = uint32(generation), map[nft.Table]string{}
	for _, line := range lines[2:] {
		words := strings.Split(line, " ")
		family, err := strconv.ParseUint(words[0], 10, 8)
		if err == nil && len(words) == 3 {
			n.tables[nft.Table{Family: nft.Family(family), Name: words[1]}] = words[2]
		}
	}
	return n
}

// writeNote writes the note over an earlier one, of which more may be left behind it.
func (h *Host) writeNote(n *note) {
	text := n.origin + "\n" + strconv.FormatUint(uint64(n.generation), 10)
	for t, sum := range n.tables {
		text += "\n" + strconv.Itoa(int(t.Family)) + " " + t.Name + " " + sum
	}
	if text += "\n\n" + digest(text) + "\n"; len(text) <= noteSize {
		h.Noted.WriteAt([]byte(text), noteAt)
	}
}

// notedSize returns the size of the file, or 0 if it is another user's: its directory may
// have been open to others.
func (h *Host) notedSize() int64 {
	var st unix.Stat_t
	if unix.Fstat(int(h.Noted.Fd()), &st) != nil || int(st.Uid) != unix.Geteuid() {
		return 0
	}
	return st.Size
}

// A proof says of a batch that the kernel could do all of it, with the modules that it has
// loaded. It has one of a few places in the file, so that a later one may replace it.
type proof struct {
	text string
	at   int64
}

const (
	proofs    = 16
	proofSize = 256
)

// tried returns the proof of a batch that is tried, and whether the file has it. A batch
// that fails makes the kernel wait for all CPUs, some 10 ms, and runtimes ask for STATUS
// again and again. Modules that were loaded stay, and if any is unloaded, the directory of
// all has another number of links.
func (h *Host) tried(tx *Tx) (p proof, known bool) {
	if h.Noted == nil || len(tx.absent) == 0 {
		return proof{}, false
	}
	origin := h.origin(tx.Conn)
	if there, err := nft.Existing(tx.Conn, tx.absent...); origin == "" || len(there) > 0 || err != nil {
		return proof{}, false
	}
	var modules unix.Stat_t
	unix.Stat("/sys/module", &modules)
	sum := digest(string(tx.Encoded()))
	place, _ := strconv.ParseUint(sum[:1], 16, 8)
	p = proof{origin + " " + strconv.FormatUint(uint64(modules.Nlink), 10) + " " + sum + "\n", int64(place) * proofSize}
	if b := make([]byte, len(p.text)); h.notedSize() > p.at {
		size, _ := h.Noted.ReadAt(b, p.at)
		known = string(b[:size]) == p.text
	}
	return p, known
}

// prove writes the proof of a batch, which is empty if it can't be one.
func (h *Host) prove(p proof) {
	if p.text != "" && len(p.text) <= proofSize {
		h.Noted.WriteAt([]byte(p.text), p.at)
	}
}
