package strictjson

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// An Object is a JSON object at its place in a document. Keys are looked up as
// by encoding/json, and so by the CNI runtimes: regardless of letter case, and
// null counts as absent. Two keys that differ only in case are an error as soon
// as either is asked for.
//
// A getter returns zero if its key is absent or has a wrong value; so a list is
// nil then, but not if it is empty. All getters of a nil Object return zero.
type Object struct {
	doc    *document
	path   string // empty at the top
	fields []field
}

type field struct {
	key   string
	value any
	text  string // of the value, in the document
}

// A document is shared by all Objects of one text.
type document struct {
	err   error
	notes []string
}

// Err returns the first error of all Objects of the document.
func (o *Object) Err() error { return o.doc.err }

// Fail records an error about key, which may be an element, as in "ips[0]".
func (o *Object) Fail(key, format string, args ...any) {
	if o != nil && o.doc.err == nil {
		o.doc.err = fmt.Errorf("%s: %w", o.at(key), fmt.Errorf(format, args...))
	}
}

// Note records something odd about key that is no error.
func (o *Object) Note(key, format string, args ...any) {
	if o != nil {
		o.doc.notes = append(o.doc.notes, o.at(key)+": "+fmt.Sprintf(format, args...))
	}
}

// Notes returns the notes of all Objects of the document, in order.
func (o *Object) Notes() []string { return o.doc.notes }

func (o *Object) at(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

// All lists the keys in their order, and their values: *Object, []any, string,
// bool, nil, or a number of this package's own.
func (o *Object) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		if o == nil {
			return
		}
		for _, f := range o.fields {
			if !yield(f.key, f.value) {
				return
			}
		}
	}
}

// Len returns the number of keys.
func (o *Object) Len() int { return len(o.fields) }

// Has reports whether the object has the key, if only with null.
func (o *Object) Has(key string) bool {
	_, ok := o.find(key)
	return ok
}

// NonZero reports whether key has another value than null, false, 0, "", an
// empty list or an empty object.
func (o *Object) NonZero(key string) bool {
	switch v, _ := o.find(key); v := v.(type) {
	case []any:
		return len(v) > 0
	case *Object:
		return v.Len() > 0
	default:
		return v != nil && v != false && v != "" && v != number("0")
	}
}

// String returns a string, and whether there is one.
func (o *Object) String(key string) (string, bool) {
	return get[string](o, key, "a string")
}

// Bool returns a boolean, or otherwise where key is absent.
func (o *Object) Bool(key string, otherwise bool) bool {
	if b, ok := get[bool](o, key, "true or false"); ok {
		return b
	}
	return otherwise
}

// Uint returns a whole number from 0 to limit, and whether there is one.
func (o *Object) Uint(key string, limit uint64) (uint64, bool) { return o.Between(key, 0, limit) }

// Between is Uint with a least number.
func (o *Object) Between(key string, least, limit uint64) (uint64, bool) {
	n, ok := get[number](o, key, "a number")
	if !ok {
		return 0, false
	}
	u, err := strconv.ParseUint(string(n), 10, 64)
	if err != nil || u < least || u > limit {
		o.Fail(key, "want a whole number from %d to %d, got %s", least, limit, describe(n))
		return 0, false
	}
	return u, true
}

// Object returns an object, or nil.
func (o *Object) Object(key string) *Object {
	child, ok := get[*Object](o, key, "an object")
	if !ok {
		return nil
	}
	return o.place(key, child)
}

// Strings returns a list of at most [MaxItems] strings.
func (o *Object) Strings(key string) []string {
	return each[string](o, key, "a string", o.list(key), MaxItems)
}

// Objects returns a list of at most [MaxItems] objects.
func (o *Object) Objects(key string) []*Object { return o.ManyObjects(key, MaxItems) }

// ManyObjects returns a list of at most limit objects.
func (o *Object) ManyObjects(key string, limit int) []*Object {
	return o.objects(key, o.list(key), limit)
}

// ObjectLists returns a list of lists of objects, [MaxItems] of each at most.
func (o *Object) ObjectLists(key string) (out [][]*Object) {
	for i, list := range each[[]any](o, key, "a list", o.list(key), MaxItems) {
		out = append(out, o.objects(element(key, i), list, MaxItems))
	}
	return out
}

func (o *Object) list(key string) []any {
	list, _ := get[[]any](o, key, "a list")
	return list
}

func (o *Object) objects(key string, list []any, limit int) []*Object {
	out := each[*Object](o, key, "an object", list, limit)
	for i, child := range out {
		out[i] = o.place(element(key, i), child)
	}
	return out
}

// place gives child, as parsed, its path. The parser doesn't: a path for every
// element would let a long key multiply the size of a document.
func (o *Object) place(key string, child *Object) *Object {
	return &Object{o.doc, o.at(key), child.fields}
}

func (o *Object) find(key string) (value any, ok bool) {
	spelling := ""
	for k, v := range o.All() {
		if !strings.EqualFold(k, key) {
			continue
		}
		if ok {
			o.Fail(key, "is given twice, as %q and as %q", spelling, k)
			return nil, false
		}
		spelling, value, ok = k, v, true
	}
	return value, ok
}

// get returns the value of key if it is a T, which want describes.
func get[T any](o *Object, key, want string) (v T, ok bool) {
	raw, _ := o.find(key)
	if raw == nil {
		return v, false
	}
	if v, ok = raw.(T); !ok {
		o.Fail(key, "want %s, got %s", want, describe(raw))
	}
	return v, ok
}

// each returns a list's elements, or nil if there is no list, it has more than
// limit elements, or one of them is no T.
func each[T any](o *Object, key, want string, list []any, limit int) []T {
	if len(list) > limit {
		o.Fail(key, "has %d elements, more than %d", len(list), limit)
	}
	if list == nil || len(list) > limit {
		return nil
	}
	out := make([]T, len(list))
	for i, raw := range list {
		v, ok := raw.(T)
		if !ok {
			o.Fail(element(key, i), "want %s, got %s", want, describe(raw))
			return nil
		}
		out[i] = v
	}
	return out
}

func element(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
