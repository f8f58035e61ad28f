package nl

import (
	"errors"
	"testing"
)

func TestReaderRefusesWrongSizes(t *testing.T) {
	b := Attr(1, []byte{0, 0, 0})
	for want, read := range map[string]func(Reader){
		"attribute 1 has 3 bytes instead of 4":             func(r Reader) { r.Fixed(1, 4) },
		"attribute 1 has 3 bytes instead of 8":             func(r Reader) { r.Fixed(1, 8) },
		"invalid attribute; length too short or too large": func(r Reader) { r.Nest(1) },
	} {
		_, r := Read(b, 0)
		if read(r); r.Err() == nil || r.Err().Error() != want {
			t.Errorf("got %v, want %s", r.Err(), want)
		}
		if r.Fail(errors.New("later")); r.Err().Error() != want {
			t.Errorf("the first error is lost: %v", r.Err())
		}
	}
	if header, r := Read(b[:2], 4); len(header) != 4 || r.Err() == nil {
		t.Errorf("a short message: %v, %v", header, r.Err())
	}
}
