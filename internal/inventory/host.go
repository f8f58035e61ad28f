package inventory

import (
	"errors"

	"flatnet/bridge/signs"
	"flatnet/internal/engine"
)

// A Host is an engine's host for people.
type Host struct {
	engine.Host
	Warn func(string) // hears what is wrong and yet no error
}

// Reload restores first what shows whose links are whose, by which the rest is found.
func (h Host) Reload() (mended []string, err error) {
	mended, serr := signs.Restore(h.Warn)
	more, err := h.Host.Reload()
	return append(mended, more...), errors.Join(serr, err)
}
