// Package strictjson reads and writes the JSON of flatnet's doors and files.
// What could be read in two ways is refused rather than guessed: repeated keys,
// trailing data, text that is not UTF-8. Sizes and nesting are bounded.
//
// A document is read by typed getters that know their path and keep the first
// error until [Object.Err] is asked for it.
//
// It is not encoding/json because that guesses, and because most of what a
// process of two milliseconds spends there is the making ready.
package strictjson

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// MaxSize bounds a document that comes from outside, in bytes: room for
	// every port of three protocols, each mapped by itself.
	MaxSize = 32 << 20
	// MaxItems bounds lists, except those that are longer by nature.
	MaxItems = 8192
	// maxDepth bounds how deep objects and lists nest.
	maxDepth = 32
)

// Parse reads one JSON object (RFC 8259) of at most [MaxSize] bytes, and
// nothing but white space besides.
func Parse(data []byte) (*Object, error) { return ParseLarge(data, MaxSize) }

// ParseLarge is Parse with another bound, in bytes.
func ParseLarge(data []byte, limit int) (*Object, error) {
	if len(data) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	p := parser{data: string(data), doc: &document{}}
	if p.space() == 0 && p.pos == len(p.data) {
		return nil, errors.New("empty, want a JSON object")
	}
	v, err := p.value(0)
	if err != nil {
		return nil, fmt.Errorf("at byte %d: %w", p.pos, err)
	}
	top, ok := v.(*Object)
	if !ok {
		return nil, fmt.Errorf("want a JSON object, got %s", describe(v))
	}
	if p.space(); p.pos < len(p.data) {
		return nil, fmt.Errorf("at byte %d: something follows the JSON object", p.pos)
	}
	return top, nil
}

// A parser turns text into a tree of *Object, []any, string, number, bool and
// nil. Its position is before what it reads next, or at what it refused.
type parser struct {
	data string
	pos  int
	doc  *document
}

// A number is as it is written.
type number string

// next is the character at the position, 0 at the end.
func (p *parser) next() byte {
	if p.pos < len(p.data) {
		return p.data[p.pos]
	}
	return 0
}

// space skips white space and returns the character after it, 0 at the end.
func (p *parser) space() byte {
	for p.pos < len(p.data) && strings.IndexByte(" \t\n\r", p.data[p.pos]) >= 0 {
		p.pos++
	}
	return p.next()
}

// unexpected is the error that the character at the position is.
func (p *parser) unexpected(want string) error {
	if p.pos >= len(p.data) {
		return fmt.Errorf("unexpected end, want %s", want)
	}
	r, _ := utf8.DecodeRuneInString(p.data[p.pos:])
	return fmt.Errorf("unexpected %q, want %s", r, want)
}

func (p *parser) value(depth int) (any, error) {
	switch c := p.space(); {
	case c == '"':
		return p.text()
	case (c == '{' || c == '[') && depth == maxDepth:
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	case c == '{':
		return p.object(depth + 1)
	case c == '[':
		return p.list(depth + 1)
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for _, word := range [...]struct {
		text  string
		value any
	}{{"null", nil}, {"true", true}, {"false", false}} {
		if strings.HasPrefix(p.data[p.pos:], word.text) {
			p.pos += len(word.text)
			return word.value, nil
		}
	}
	return nil, p.unexpected("a value")
}

func (p *parser) object(depth int) (*Object, error) {
	o := &Object{doc: p.doc, vals: make(map[string]any)}
	err := p.members('}', func() error {
		if p.space() != '"' {
			return p.unexpected("a key")
		}
		key, err := p.text()
		if err != nil {
			return err
		}
		if _, ok := o.vals[key]; ok {
			return fmt.Errorf("key %s is given twice", describe(key))
		}
		if p.space() != ':' {
			return p.unexpected("a colon")
		}
		p.pos++
		o.vals[key], err = p.value(depth)
		o.keys = append(o.keys, key)
		return err
	})
	return o, err
}

func (p *parser) list(depth int) ([]any, error) {
	list := []any{}
	err := p.members(']', func() error {
		v, err := p.value(depth)
		list = append(list, v)
		return err
	})
	return list, err
}

// members reads what is between an opening bracket and the closing one.
func (p *parser) members(closing byte, one func() error) error {
	p.pos++
	if p.space() == closing {
		p.pos++
		return nil
	}
	for {
		if err := one(); err != nil {
			return err
		}
		switch p.space() {
		case closing:
			p.pos++
			return nil
		case ',':
			p.pos++
		default:
			return p.unexpected("a comma or " + strconv.Quote(string(closing)))
		}
	}
}

// number reads RFC 8259, section 6.
func (p *parser) number() (number, error) {
	start := p.pos
	digits := func() bool {
		from := p.pos
		for c := p.next(); c >= '0' && c <= '9'; c = p.next() {
			p.pos++
		}
		return p.pos > from
	}
	if p.next() == '-' {
		p.pos++
	}
	if p.next() == '0' {
		p.pos++ // nothing but a point or exponent may follow
	} else if !digits() {
		return "", p.unexpected("a digit")
	}
	if p.next() == '.' {
		p.pos++
		if !digits() {
			return "", p.unexpected("a digit")
		}
	}
	if c := p.next(); c == 'e' || c == 'E' {
		p.pos++
		if c := p.next(); c == '+' || c == '-' {
			p.pos++
		}
		if !digits() {
			return "", p.unexpected("a digit")
		}
	}
	return number(p.data[start:p.pos]), nil
}

// text reads a string, RFC 8259, section 7.
func (p *parser) text() (string, error) {
	p.pos++
	start := p.pos
	var unescaped []byte // what comes before start, if there was an escape
	for {
		switch c := p.next(); {
		case c == '"':
			s := p.data[start:p.pos]
			p.pos++
			if unescaped != nil {
				s = string(append(unescaped, s...))
			}
			return s, nil
		case c == '\\':
			unescaped = append(unescaped, p.data[start:p.pos]...)
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			unescaped = utf8.AppendRune(unescaped, r)
			start = p.pos
		case c < ' ':
			return "", p.unexpected("the string to end")
		default:
			p.pos++
		}
	}
}

// escape reads a backslash and what it stands for.
func (p *parser) escape() (rune, error) {
	p.pos++
	c := p.next()
	if c == 'u' {
		return p.unicode()
	}
	i := strings.IndexByte(`"\/bfnrt`, c)
	if i < 0 || c == 0 {
		return 0, p.unexpected("an escape")
	}
	p.pos++
	return rune("\"\\/\b\f\n\r\t"[i]), nil
}

// unicode reads uXXXX, or a surrogate pair of them, after a backslash.
func (p *parser) unicode() (rune, error) {
	unit := func() (rune, error) {
		if len(p.data)-p.pos < 5 || p.data[p.pos] != 'u' {
			return 0, p.unexpected("four hexadecimal digits")
		}
		u, err := strconv.ParseUint(p.data[p.pos+1:p.pos+5], 16, 16)
		if err != nil || p.data[p.pos+1] == '+' {
			return 0, p.unexpected("four hexadecimal digits")
		}
		p.pos += 5
		return rune(u), nil
	}
	r, err := unit()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if p.next() == '\\' {
		p.pos++
		low, err := unit()
		if r = utf16.DecodeRune(r, low); err == nil && r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, errors.New("a surrogate that is none of a pair can't be decoded")
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
