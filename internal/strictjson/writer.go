package strictjson

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// A Writer appends compact JSON to Bytes, its fields in the order of the
// calls. The key is empty at the top and in lists.
type Writer struct{ Bytes []byte }

// Begin opens an object ('{') or a list ('[').
func (w *Writer) Begin(key string, open byte) {
	w.key(key)
	w.Bytes = append(w.Bytes, open)
}

// End closes with '}' or ']' what Begin opened.
func (w *Writer) End(closing byte) { w.Bytes = append(w.Bytes, closing) }

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

// key begins a field or an element, with a comma unless it is the first: then
// the last byte is the one that Begin wrote.
func (w *Writer) key(key string) {
	if n := len(w.Bytes); n > 0 && w.Bytes[n-1] != '{' && w.Bytes[n-1] != '[' {
		w.Bytes = append(w.Bytes, ',')
	}
	if key != "" {
		w.quote(key)
		w.Bytes = append(w.Bytes, ':')
	}
}

func (w *Writer) quote(s string) {
	w.Bytes = append(w.Bytes, '"')
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
