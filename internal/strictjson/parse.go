// Package strictjson reads and writes the JSON of flatnet's doors. What could
// be read in two ways is refused rather than guessed: repeated keys, trailing
// data, text that is not UTF-8. Sizes and nesting are bounded.
//
// A document is read by typed getters that know their path and keep the first
// error until [Object.Err] is asked for it.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	// MaxSize bounds a document, in bytes.
	MaxSize = 1 << 20
	// maxDepth bounds how deep objects and lists nest.
	maxDepth = 32
)

// Parse reads one JSON object (RFC 8259), and nothing but white space besides.
func Parse(data []byte) (*Object, error) {
	switch {
	case len(data) > MaxSize:
		return nil, fmt.Errorf("more than %d bytes", MaxSize)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("empty, want a JSON object")
	case !utf8.Valid(data):
		return nil, errors.New("not valid UTF-8")
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(data)), doc: &document{}}
	p.dec.UseNumber()
	v, err := p.value(0)
	if err != nil {
		return nil, p.at(err)
	}
	top, ok := v.(*Object)
	if !ok {
		return nil, fmt.Errorf("want a JSON object, got %s", describe(v))
	}
	if _, err := p.dec.Token(); err != io.EOF {
		return nil, p.at(errors.New("something follows the JSON object"))
	}
	return top, nil
}

// A parser turns the decoder's tokens into a tree of *Object, []any, string,
// json.Number, bool and nil.
type parser struct {
	dec *json.Decoder
	doc *document
}

func (p *parser) at(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("at byte %d: %w", p.dec.InputOffset(), err)
}

func (p *parser) value(depth int) (any, error) {
	tok, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case string:
		return t, whole(t)
	case json.Delim:
		if depth == maxDepth {
			return nil, fmt.Errorf("nested deeper than %d", maxDepth)
		}
		if t == '{' {
			return p.object(depth + 1)
		}
		return p.list(depth + 1)
	}
	return tok, nil
}

func (p *parser) object(depth int) (*Object, error) {
	o := &Object{doc: p.doc, vals: make(map[string]any)}
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := tok.(string) // the decoder takes nothing else here
		if err := whole(key); err != nil {
			return nil, err
		}
		if _, ok := o.vals[key]; ok {
			return nil, fmt.Errorf("key %s is given twice", describe(key))
		}
		if o.vals[key], err = p.value(depth); err != nil {
			return nil, err
		}
		o.keys = append(o.keys, key)
	}
	_, err := p.dec.Token()
	return o, err
}

func (p *parser) list(depth int) ([]any, error) {
	list := []any{}
	for p.dec.More() {
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := p.dec.Token()
	return list, err
}

// whole refuses U+FFFD, which the decoder writes for escapes that are no
// character, such as a lone surrogate.
func whole(s string) error {
	if strings.ContainsRune(s, utf8.RuneError) {
		return fmt.Errorf("string %s has a character that can't be decoded", describe(s))
	}
	return nil
}

// describe shows a value in an error's text.
func describe(v any) string {
	const limit = 60
	switch v := v.(type) {
	case nil:
		return "null"
	case *Object:
		return "an object"
	case []any:
		return "a list"
	case string:
		if len(v) > limit {
			return fmt.Sprintf("%.*q...", limit, v)
		}
		return fmt.Sprintf("%q", v)
	default:
		s := fmt.Sprint(v)
		return s[:min(len(s), limit)]
	}
}
