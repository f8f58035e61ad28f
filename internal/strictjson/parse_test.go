package strictjson

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", "empty"},
		{"white space", " \n\t", "empty"},
		{"null", "null", "want a JSON object, got null"},
		{"list", "[1]", "want a JSON object, got a list"},
		{"string", `"a"`, `want a JSON object, got "a"`},
		{"number", "17", "want a JSON object, got 17"},
		{"cut off", `{"a":`, "at byte 5: unexpected end, want a value"},
		{"cut off after value", `{"a":1`, "unexpected end, want a comma"},
		{"cut off in list", `{"a":[1`, "unexpected end, want a comma"},
		{"cut off in key", `{"a`, "unexpected end, want the string to end"},
		{"comma at the end", `{"a":1,}`, `at byte 7: unexpected "}", want a key`},
		{"comma at the end of list", `{"a":[1,]}`, `unexpected "]}", want a value`},
		{"no comma", `{"a":1 "b":2}`, `unexpected "\"b\":2}", want a comma`},
		{"wrong closing", `{"a":[1}}`, `unexpected "}}", want a comma`},
		{"key no string", `{1:2}`, `unexpected "1:2}", want a key`},
		{"no colon", `{"a" 1}`, "want a colon"},
		{"bad escape", `{"a":"\x"}`, `unexpected "x\"}", want an escape`},
		{"bad code point", `{"a":"\u12g4"}`, "want four hexadecimal digits"},
		{"signed code point", `{"a":"\u+123"}`, "want four hexadecimal digits"},
		{"short code point", `{"a":"\u12`, "want four hexadecimal digits"},
		{"raw control character", "{\"a\":\"x\ny\"}", "want the string to end"},
		{"raw NUL", "{\"a\":\"x\x00y\"}", "want the string to end"},
		{"leading zero", `{"a":01}`, `unexpected "01}", want a value`},
		{"minus alone", `{"a":-}`, `unexpected "-}", want a value`},
		{"no fraction", `{"a":1.}`, `unexpected "1.}", want a value`},
		{"no whole part", `{"a":.5}`, `unexpected ".5}", want a value`},
		{"hexadecimal", `{"a":0x1p-2}`, `unexpected "0x1p-2}", want a value`},
		{"two signs", `{"a":--1}`, `unexpected "--1}", want a value`},
		{"infinity", `{"a":-inf}`, `unexpected "-inf}", want a value`},
		{"no exponent", `{"a":1e+}`, `unexpected "1e+}", want a value`},
		{"two exponents", `{"a":1e1e1}`, `unexpected "1e1e1}", want a value`},
		{"plus", `{"a":+1}`, `unexpected "+1}", want a value`},
		{"half a word", `{"a":tru}`, `unexpected "tru}", want a value`},
		{"longer word", `{"a":nullx}`, `unexpected "nullx}", want a value`},
		{"comment", `{"a":1} // x`, "at byte 8: something follows"},
		{"second object", `{}{}`, "something follows"},
		{"byte order mark", "\ufeff{}", "want a value"},
		{"not UTF-8", "{\"a\":\"\xff\"}", "not valid UTF-8"},
		{"lone surrogate", `{"a":"\ud800"}`, "can't be decoded"},
		{"low surrogate first", `{"a":"\udc00\ud800"}`, "can't be decoded"},
		{"surrogate and a letter", `{"a":"\ud800\u0061"}`, "can't be decoded"},
		{"lone surrogate in key", `{"\ud800":1}`, "can't be decoded"},
		{"key twice", `{"a":1,"b":2,"a":1}`, `key "a" is given twice`},
		{"key twice by escape", `{"a":1,"\u0061":1}`, `key "a" is given twice`},
		{"key twice below", `{"l":[{"a":{"k":1,"k":2}}]}`, `key "k" is given twice`},
		{"too deep", `{"a":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + "}", "nested deeper than 32"},
		{"too large", `{"a":"` + strings.Repeat("x", MaxSize) + `"}`, "more than 33554432 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse([]byte(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	for _, in := range []string{
		"{}", " {} \n", `{"":0}`, `{"a":"\ud83d\ude00"}`, `{"a":"\u00e9\"\\\/\b\f\n\r\t�"}`, `{"a":[-0.5e-7,0,10,1E5,true,false,null]}`,
		`{"a":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + "}",
	} {
		if _, err := Parse([]byte(in)); err != nil {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func parse(t *testing.T, in string) *Object {
	t.Helper()
	o, err := Parse([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// results packs what a getter returns.
func results(r ...any) []any { return r }

func TestGetters(t *testing.T) {
	o := parse(t, `{"s":"x","e":"","t":true,"f":false,"n":17,"z":0,"null":null,"l":["a","b"],"o":{"p":{"s":"deep"}},
		"os":[{"s":"1"},{"s":"2"}],"ls":[[{"s":"1"}],[]],"Fold":"f","":"empty"}`)
	text := func(o *Object) string { s, _ := o.String("s"); return s }
	for _, tt := range []struct {
		name string
		got  []any
		want []any
	}{
		{"string", results(o.String("s")), results("x", true)},
		{"no string", results(o.String("none")), results("", false)},
		{"null is absent", results(o.String("null")), results("", false)},
		{"empty key", results(o.String("")), results("empty", true)},
		{"case", results(o.String("FOLD")), results("f", true)},
		{"true", results(o.Bool("t", false)), results(true)},
		{"false", results(o.Bool("f", true)), results(false)},
		{"default", results(o.Bool("none", true)), results(true)},
		{"number", results(o.Uint("n", 17)), results(uint64(17), true)},
		{"no number", results(o.Uint("null", 17)), results(uint64(0), false)},
		{"strings", results(o.Strings("l")), results([]string{"a", "b"})},
		{"empty list", results(o.Strings("none") == nil, parse(t, `{"l":[]}`).Strings("l") == nil), results(true, false)},
		{"below", results(text(o.Object("o").Object("p"))), results("deep")},
		{"nil object", results(text(o.Object("none").Object("p"))), results("")},
		{"objects", results(text(o.Objects("os")[1])), results("2")},
		{"lists", results(len(o.ObjectLists("ls")), text(o.ObjectLists("ls")[0][0])), results(2, "1")},
		{"has", results(o.Has("s"), o.Has("null"), o.Has("none"), o.Object("none").Has("s")), results(true, true, false, false)},
		{"non-zero", results(o.NonZero("s"), o.NonZero("t"), o.NonZero("n"), o.NonZero("l"), o.NonZero("o")),
			results(true, true, true, true, true)},
		{"zero", results(o.NonZero("e"), o.NonZero("f"), o.NonZero("z"), o.NonZero("null"), o.NonZero("none")),
			results(false, false, false, false, false)},
		{"error", results(o.Err()), results(nil)},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

func TestGettersName(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		get      func(o *Object)
		want     string
	}{
		{"string", `{"k":17}`, func(o *Object) { o.String("k") }, "k: want a string, got 17"},
		{"bool", `{"k":"true"}`, func(o *Object) { o.Bool("k", false) }, `k: want true or false, got "true"`},
		{"number", `{"k":[]}`, func(o *Object) { o.Uint("k", 9) }, "k: want a number, got a list"},
		{"number too large", `{"k":10}`, func(o *Object) { o.Uint("k", 9) }, "k: want a whole number from 0 to 9, got 10"},
		{"number negative", `{"k":-1}`, func(o *Object) { o.Uint("k", 9) }, "k: want a whole number from 0 to 9, got -1"},
		{"number not whole", `{"k":1.5}`, func(o *Object) { o.Uint("k", 9) }, "k: want a whole number from 0 to 9, got 1.5"},
		{"number huge", `{"k":1` + strings.Repeat("0", 80) + `}`, func(o *Object) { o.Uint("k", 9) },
			"k: want a whole number from 0 to 9, got 1" + strings.Repeat("0", 59)},
		{"strings", `{"k":{}}`, func(o *Object) { o.Strings("k") }, "k: want a list, got an object"},
		{"strings' element", `{"k":["a",null]}`, func(o *Object) { o.Strings("k") }, "k[1]: want a string, got null"},
		{"object", `{"k":true}`, func(o *Object) { o.Object("k") }, "k: want an object, got true"},
		{"objects", `{"k":""}`, func(o *Object) { o.Objects("k") }, `k: want a list, got ""`},
		{"objects' element", `{"k":[{},1]}`, func(o *Object) { o.Objects("k") }, "k[1]: want an object, got 1"},
		{"lists' element", `{"k":[[],{}]}`, func(o *Object) { o.ObjectLists("k") }, "k[1]: want a list, got an object"},
		{"path", `{"a":{"l":[[{"k":17}]]}}`, func(o *Object) { o.Object("a").ObjectLists("l")[0][0].String("k") },
			"a.l[0][0].k: want a string, got 17"},
		{"first error stays", `{"a":1,"b":2}`, func(o *Object) { o.String("a"); o.String("b") }, "a: want a string, got 1"},
		{"case twice", `{"Key":1,"KEY":2}`, func(o *Object) { o.Uint("key", 9) }, `key: is given twice, as "Key" and as "KEY"`},
		{"long text", `{"k":"` + strings.Repeat("x", 100) + `"}`, func(o *Object) { o.Bool("k", true) },
			`k: want true or false, got "` + strings.Repeat("x", 60) + `"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := parse(t, tt.in)
			tt.get(o)
			if o.Err() == nil || o.Err().Error() != tt.want {
				t.Fatalf("error %v, want %q", o.Err(), tt.want)
			}
		})
	}
}

// FuzzParse compares with encoding/json: what is accepted means the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, `{"k":[{"k":["x",null]},[[{}]]],"b":true}`, `{"a":1,"A":2}`, `{"a":"\ud800"}`, `[`} {
		f.Add([]byte(s), "k")
	}
	f.Fuzz(func(t *testing.T, data []byte, key string) {
		o, err := Parse(data)
		if err != nil {
			return
		}
		var want map[string]any
		if err := json.Unmarshal(data, &want); err != nil && !strings.Contains(err.Error(), "cannot unmarshal number") {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if len(want) != o.Len() {
			t.Fatalf("%d keys, want %d", o.Len(), len(want))
		}
		o.Has(key)
		o.NonZero(key)
		if o.Err() == nil { // else in two spellings
			if s, ok := want[key].(string); ok {
				if got, _ := o.String(key); got != s {
					t.Fatalf("%q, want %q", got, s)
				}
			}
		}
		o.Uint(key, 1000)
		o.Strings(key)
		o.Object(key).Objects(key)
		for _, l := range o.ObjectLists(key) {
			for _, e := range l {
				e.Bool(key, true)
			}
		}
	})
}

func TestNotes(t *testing.T) {
	o, err := Parse([]byte(`{"a": {"b": 1}}`))
	if err != nil {
		t.Fatal(err)
	}
	o.Object("a").Note("b", "is %d", 1)
	o.Note("c", "too")
	o.Object("missing").Note("d", "never")
	if got := o.Notes(); !slices.Equal(got, []string{"a.b: is 1", "c: too"}) || o.Err() != nil {
		t.Errorf("notes %q, %v", got, o.Err())
	}
}
