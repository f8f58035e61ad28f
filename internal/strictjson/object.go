package strictjson

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// An Object is a JSON object at its place in a document. A key is looked up as
// encoding/json does it, and so the CNI runtimes: letter case does not matter,
// and null counts as absent. Two keys that differ only in case are an error as
// soon as they are asked for.
//
// A getter whose key is absent, or has a wrong value, returns zero, and so a
// nil list, other than that of an empty one. All getters of a nil Object do.
type Object struct {
	doc  *document
	path string // empty at the top
	keys []string
	vals map[string]any
}

// A document is what all Objects of one text share.
type document struct {
	err   error
	notes []string
}

// Err returns the first error that any Object of the document met.
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

// Notes returns what any Object of the document has noted, in order.
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
		for _, k := range o.keys {
			if !yield(k, o.vals[k]) {
				return
			}
		}
	}
}

// Len returns the number of keys.
func (o *Object) Len() int { return len(o.keys) }

// Has reports whether key is there, be it null.
func (o *Object) Has(key string) bool {
	_, ok := o.find(key)
	return ok
}

// NonZero reports whether key has another value than null, false, 0, "", an
// empty list or an empty object.
func (o *Object) NonZero(key string) bool {
	raw, _ := o.find(key)
	switch v := raw.(type) {
	case bool:
		return v
	case string:
		return v != ""
	case number:
		return v != "0"
	case []any:
		return len(v) > 0
	case *Object:
		return len(v.keys) > 0
	}
	return false
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
func (o *Object) Uint(key string, limit uint64) (uint64, bool) {
	n, ok := get[number](o, key, "a number")
	if !ok {
		return 0, false
	}
	u, err := strconv.ParseUint(string(n), 10, 64)
	if err != nil || u > limit {
		o.Fail(key, "want a whole number from 0 to %d, got %s", limit, describe(n))
		return 0, false
	}
	return u, true
}

// Strings returns a list of at most [MaxItems] strings.
func (o *Object) Strings(key string) []string {
	raw := o.list(key, MaxItems)
	return each[string](o, key, "a string", raw)
}

// Object returns an object, or nil.
func (o *Object) Object(key string) *Object {
	child, ok := get[*Object](o, key, "an object")
	if !ok {
		return nil
	}
	return o.place(key, child)
}

// list returns a list of at most limit elements.
func (o *Object) list(key string, limit int) []any {
	raw, _ := get[[]any](o, key, "a list")
	return o.bounded(key, raw, limit)
}

func (o *Object) bounded(key string, raw []any, limit int) []any {
	if len(raw) > limit {
		o.Fail(key, "has %d elements, more than %d", len(raw), limit)
		return nil
	}
	return raw
}

// Objects returns a list of at most [MaxItems] objects.
func (o *Object) Objects(key string) []*Object { return o.ManyObjects(key, MaxItems) }

// ManyObjects returns a list of at most limit objects.
func (o *Object) ManyObjects(key string, limit int) []*Object {
	return o.objects(key, o.list(key, limit))
}

// ObjectLists returns a list of lists of objects, [MaxItems] of each at most.
func (o *Object) ObjectLists(key string) [][]*Object {
	raw := o.list(key, MaxItems)
	var out [][]*Object
	for i, list := range each[[]any](o, key, "a list", raw) {
		list = o.bounded(element(key, i), list, MaxItems)
		out = append(out, o.objects(element(key, i), list))
	}
	return out
}

func (o *Object) objects(key string, raw []any) []*Object {
	out := each[*Object](o, key, "an object", raw)
	for i, child := range out {
		out[i] = o.place(element(key, i), child)
	}
	return out
}

// place gives child, as parsed, its path.
func (o *Object) place(key string, child *Object) *Object {
	return &Object{doc: o.doc, path: o.at(key), keys: child.keys, vals: child.vals}
}

func (o *Object) find(key string) (any, bool) {
	if o == nil {
		return nil, false
	}
	found, n := "", 0
	for _, k := range o.keys {
		if !strings.EqualFold(k, key) {
			continue
		}
		if n++; n > 1 {
			o.Fail(key, "is given twice, as %q and as %q", found, k)
			return nil, false
		}
		found = k
	}
	if n == 0 {
		return nil, false
	}
	return o.vals[found], true
}

// get returns the value of key if it is a T; want says in words what a T is.
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

// each returns the elements of raw, or nil if there is no list or one of them
// is no T.
func each[T any](o *Object, key, want string, raw []any) []T {
	if raw == nil {
		return nil
	}
	out := make([]T, 0, len(raw))
	for i, r := range raw {
		v, ok := r.(T)
		if !ok {
			o.Fail(element(key, i), "want %s, got %s", want, describe(r))
			return nil
		}
		out = append(out, v)
	}
	return out
}

func element(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
