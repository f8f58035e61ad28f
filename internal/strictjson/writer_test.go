package strictjson

import (
	"encoding/json"
	"testing"
)

func TestWriter(t *testing.T) {
	var w Writer
	w.Begin("", '{')
	w.String("a", "x[")
	w.Uint("n", 17)
	w.Begin("o", '{')
	w.End('}')
	w.Strings("none", nil)
	w.Strings("l", []string{"{", "b"})
	w.Begin("os", '[')
	w.Begin("", '{')
	w.Uint("x", 0)
	w.End('}')
	w.Begin("", '{')
	w.End('}')
	w.End(']')
	w.Bool("t", true)
	w.Bool("f", false)
	w.String(`"k\`, "\n\x00é\xff")
	w.End('}')
	want := `{"a":"x[","n":17,"o":{},"none":[],"l":["{","b"],"os":[{"x":0},{}],"t":true,"f":false,"\"k\\":"\u000a\u0000é` + "\ufffd" + `"}`
	if got := string(w.Bytes); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestWriterOfLines(t *testing.T) {
	w := Writer{Lines: true}
	w.Begin("", '{')
	w.String("a", "x{")
	w.Begin("o", '{')
	w.End('}')
	w.Begin("p", '{')
	w.Uint("n", 17)
	w.Strings("l", []string{"b", "c"})
	w.End('}')
	w.End('}')
	want := `{
  "a": "x{",
  "o": {},
  "p": {
    "n": 17,
    "l": [
      "b",
      "c"
    ]
  }
}`
	if got := string(w.Bytes); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func FuzzWriter(f *testing.F) {
	f.Add("a", "b")
	f.Add(`"\`, "\x00\xff\u2028{")
	f.Fuzz(func(t *testing.T, key, value string) {
		var w Writer
		w.Begin("", '{')
		w.String("k"+key, value)
		w.End('}')
		var got map[string]string
		if err := json.Unmarshal(w.Bytes, &got); err != nil {
			t.Fatalf("%s: %v", w.Bytes, err)
		}
		// As a range over a string does it: U+FFFD for each byte that is not UTF-8.
		if want := string([]rune(value)); got[string([]rune("k"+key))] != want {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

func TestWriterCopiesFields(t *testing.T) {
	doc := parse(t, `{ "a" : "<\u00e9\"", "":{"":[ ]},"list": [1,-2.50e3,[true,false],{"x":null}] ,"gone":0,"big":18446744073709551616}`)
	var w Writer
	w.Begin("", '{')
	w.CopyFields(doc, "other", "GONE")
	w.Bool("more", true)
	w.End('}')
	const want = `{"a":"<\u00e9\"","":{"":[ ]},"list":[1,-2.50e3,[true,false],{"x":null}],"big":18446744073709551616,"more":true}`
	if string(w.Bytes) != want {
		t.Errorf("got %s, want %s", w.Bytes, want)
	}
	parse(t, want)
}
