package model

import (
	"errors"
	"testing"
)

func TestErrorf(t *testing.T) {
	cause := errors.New("cause")
	err := Errorf(ErrInvalid, "%s: %w", "key", cause)
	if got, want := err.Error(), "key: cause"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	for _, target := range []error{cause, ErrInvalid} {
		if !errors.Is(err, target) {
			t.Errorf("errors.Is does not find %q", target)
		}
	}
	if errors.Is(err, ErrTaken) {
		t.Error("errors.Is finds another kind")
	}
}
