package inventory

import (
	"errors"

	"flatnet/bridge/signs"
	"flatnet/internal/engine"
)

// A Host is an engine's host for people.
type Host struct {
	engine.Host
	Warn func(string) // receives warnings
}

// Reload first restores what shows whose a link is, since the rest is found by that.
func (h Host) Reload() (mended []string, err error) {
	mended, serr := signs.Restore(h.Warn)
	more, err := h.Host.Reload()
	return append(mended, more...), errors.Join(serr, err)
}
