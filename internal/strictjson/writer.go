package strictjson

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Writer appends JSON to Bytes, its fields in the order of the calls: compact,
// or if Lines is set with every field and element on a line of its own. The key is
// empty at the top and in lists.
type Writer struct {
	Bytes []byte
	Lines bool
	depth int
}

// Begin opens an object ('{') or a list ('[').
func (w *Writer) Begin(key string, open byte) {
	w.key(key)
	w.Bytes = append(w.Bytes, open)
	w.depth++
}

// End closes with '}' or ']' what Begin opened.
func (w *Writer) End(closing byte) {
	w.depth--
	if !w.follows("{[") {
		w.line()
	}
	w.Bytes = append(w.Bytes, closing)
}

// String writes a string; what is not UTF-8 in it becomes U+FFFD.
func (w *Writer) String(key, s string) {
	w.key(key)
	w.quote(s)
}

// Strings writes a list of strings.
func (w *Writer) Strings(key string, list []string) {
	w.Begin(key, '[')
	for _, s := range list {
		w.String("", s)
	}
	w.End(']')
}

// Uint writes a number.
func (w *Writer) Uint(key string, n uint64) {
	w.key(key)
	w.Bytes = strconv.AppendUint(w.Bytes, n, 10)
}

// Bool writes true or false.
func (w *Writer) Bool(key string, b bool) {
	w.key(key)
	w.Bytes = strconv.AppendBool(w.Bytes, b)
}

// CopyFields writes the fields of an object as they were read, without those of the
// named keys.
func (w *Writer) CopyFields(o *Object, without ...string) {
	for _, f := range o.fields {
		if !slices.ContainsFunc(without, func(key string) bool { return strings.EqualFold(key, f.key) }) {
			w.next()
			w.name(f.key)
			w.Bytes = append(w.Bytes, f.text...)
		}
	}
}

// Copy writes a field from its key to its value's end, as [ParseEach] passes it on.
func (w *Writer) Copy(field string) {
	w.next()
	w.Bytes = append(w.Bytes, field...)
}

// key begins a field, or without a key an element.
func (w *Writer) key(key string) {
	w.next()
	if key != "" {
		w.name(key)
	}
}

func (w *Writer) name(key string) {
	w.quote(key)
	w.Bytes = append(w.Bytes, ':')
	if w.Lines {
		w.Bytes = append(w.Bytes, ' ')
	}
}

// next begins a field or element, after a comma unless it is the first.
func (w *Writer) next() {
	if !w.follows("{[") {
		w.Bytes = append(w.Bytes, ',')
	}
	if w.depth > 0 {
		w.line()
	}
}

// follows reports whether the last byte is one of some, or there is none.
func (w *Writer) follows(some string) bool {
	n := len(w.Bytes)
	return n == 0 || strings.IndexByte(some, w.Bytes[n-1]) >= 0
}

// line begins a line, if there are any.
func (w *Writer) line() {
	if w.Lines {
		w.Bytes = append(w.Bytes, '\n')
		for range w.depth {
			w.Bytes = append(w.Bytes, "  "...)
		}
	}
}

func (w *Writer) quote(s string) {
	plain := func(c byte) bool { return c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' }
	n := 0
	for n < len(s) && plain(s[n]) {
		n++
	}
	w.Bytes = append(append(w.Bytes, '"'), s[:n]...) // all of it, as nearly always
	s = s[n:]
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			w.Bytes = append(w.Bytes, '\\', byte(r))
		case r < ' ':
			w.Bytes = fmt.Appendf(w.Bytes, "\\u%04x", r)
		default:
			w.Bytes = utf8.AppendRune(w.Bytes, r)
		}
	}
	w.Bytes = append(w.Bytes, '"')
}
