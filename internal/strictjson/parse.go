// Package strictjson reads and writes the JSON of flatnet's doors and files.
// It rejects, rather than guesses, what two readers could understand in two
// ways: repeated keys, trailing data, text that is not UTF-8. Sizes and nesting
// are bounded.
//
// Typed getters read a document. They keep their place in it, and the
// first error until [Object.Err] is asked for it.
//
// It is not encoding/json because that guesses, and because a process of two
// milliseconds spends most of its time there on preparing the decoders.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
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

// Parse reads one JSON object (RFC 8259) of at most [MaxSize] bytes, which only
// white space may surround.
func Parse(data []byte) (*Object, error) { return ParseLarge(data, MaxSize) }

// ParseLarge is Parse with another bound, in bytes.
func ParseLarge(data []byte, limit int) (*Object, error) { return ParseEach(data, limit, "", nil) }

// ParseEach is ParseLarge for a document in which the top's object of a key has very
// many fields, all of them strings. These are passed on, each with its text from the
// key to the value's end, and not kept: the Object is empty. The caller decides about
// keys that are there twice.
func ParseEach(data []byte, limit int, of string, each func(key, value, text string)) (*Object, error) {
	switch {
	case len(data) > limit:
		return nil, fmt.Errorf("more than %d bytes", limit)
	case !utf8.Valid(data):
		return nil, errors.New("not valid UTF-8")
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("empty, want a JSON object")
	}
	p := parser{data: string(data) + "\x00", doc: &document{}, of: of, each: each}
	v := p.value()
	if p.space(); p.pos < len(p.data)-1 {
		p.fail("something follows the JSON object")
	}
	top, ok := v.(*Object)
	if p.err == nil && !ok {
		p.err = fmt.Errorf("want a JSON object, got %s", describe(v))
	}
	return top, p.err
}

// A parser turns text into a tree of *Object, []any, string, number, bool and
// nil. The first error sticks and moves the position to the end of the text, so
// that every loop ends.
type parser struct {
	data  string // and a NUL byte, which no valid text has
	pos   int    // of what is read next
	depth int
	doc   *document
	err   error

	of   string // the key at the top whose object's fields go to each
	each func(key, value, text string)
}

// A number is as it is written.
type number string

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("at byte %d: "+format, append([]any{p.pos}, args...)...)
	}
	p.pos = len(p.data) - 1
}

// unexpected rejects what is at the position.
func (p *parser) unexpected(want string) {
	rest := p.data[p.pos : len(p.data)-1]
	if rest == "" {
		p.fail("unexpected end, want %s", want)
	}
	p.fail("unexpected %.20q, want %s", rest, want)
}

// space skips white space and returns the character after it, 0 at the end.
func (p *parser) space() byte {
	for {
		switch c := p.data[p.pos]; c {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return c
		}
	}
}

// expect skips white space and the character after it, which must be c.
func (p *parser) expect(c byte, want string) {
	if p.space() != c {
		p.unexpected(want)
		return
	}
	p.pos++
}

func (p *parser) value() any {
	switch p.space() {
	case '"':
		return p.text("a value")
	case '{':
		return p.object()
	case '[':
		return p.list()
	}
	start := p.pos
	for strings.IndexByte(" \t\n\r,]}\x00", p.data[p.pos]) < 0 {
		p.pos++
	}
	switch word := p.data[start:p.pos]; {
	case word == "null":
		return nil
	case word == "true", word == "false":
		return word == "true"
	case isNumber(word):
		return number(word)
	}
	p.pos = start
	p.unexpected("a value")
	return nil
}

// isNumber reports whether s is a number of RFC 8259, section 6.
func isNumber(s string) bool {
	mantissa, exponent, hasExponent := strings.Cut(strings.ToLower(s), "e")
	whole, fraction, hasFraction := strings.Cut(strings.TrimPrefix(mantissa, "-"), ".")
	return isDecimal(whole) && (whole == "0" || whole[0] != '0') &&
		(!hasFraction || isDecimal(fraction)) &&
		(!hasExponent || isDecimal(strings.TrimPrefix(exponent, "-")) || isDecimal(strings.TrimPrefix(exponent, "+")))
}

func isDecimal(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// fewFields is up to how many fields it is faster to compare keys than to hash them.
const fewFields = 16

func (p *parser) object() *Object {
	o := &Object{doc: p.doc}
	var seen map[string]bool // the keys of many fields
	p.members('}', func() {
		key := p.key()
		if len(o.fields) == fewFields {
			seen = make(map[string]bool)
			for _, f := range o.fields {
				seen[f.key] = true
			}
		}
		same := func(f field) bool { return f.key == key }
		if seen[key] || seen == nil && slices.ContainsFunc(o.fields, same) {
			p.fail("key %.60q is given twice", key)
		}
		if seen != nil {
			seen[key] = true
		}
		start := p.pos
		value := p.fieldValue(key)
		o.fields = append(o.fields, field{key, value, p.data[start:p.pos]})
	})
	return o
}

// key reads a field up to its value.
func (p *parser) key() string {
	key := p.text("a key")
	p.expect(':', "a colon")
	p.space()
	return key
}

// fieldValue reads the value of a field, and passes on the fields of the one that
// goes to each.
func (p *parser) fieldValue(key string) any {
	if p.each == nil || p.depth != 1 || p.data[p.pos] != '{' || !strings.EqualFold(key, p.of) {
		return p.value()
	}
	p.members('}', func() {
		p.space()
		start := p.pos
		key := p.key()
		value := p.text("a string")
		if p.err == nil {
			p.each(key, value, p.data[start:p.pos])
		}
	})
	return &Object{doc: p.doc}
}

func (p *parser) list() []any {
	list := []any{}
	p.members(']', func() { list = append(list, p.value()) })
	return list
}

// members reads from an opening bracket to the closing one.
func (p *parser) members(closing byte, member func()) {
	if p.depth++; p.depth > maxDepth {
		p.fail("nested deeper than %d", maxDepth)
		return
	}
	p.pos++
	if p.space() != closing {
		member()
		for p.space() == ',' {
			p.pos++
			member()
		}
	}
	p.expect(closing, "a comma or "+strconv.Quote(string(closing)))
	p.depth--
}

// text reads a string of RFC 8259, section 7.
func (p *parser) text(want string) string {
	p.expect('"', want)
	var decoded []byte // the string before start, if there was an escape
	for {
		start, end := p.pos, p.pos
		for c := p.data[end]; c >= ' ' && c != '"' && c != '\\'; c = p.data[end] {
			end++
		}
		p.pos = end + 1
		switch part := p.data[start:end]; p.data[end] {
		case '"':
			return string(decoded) + part
		case '\\':
			p.pos = end
			decoded = utf8.AppendRune(append(decoded, part...), p.escape())
		default:
			p.pos = end
			p.unexpected("the string to end")
			return ""
		}
	}
}

// escape reads a backslash and the character or surrogate pair that it begins.
func (p *parser) escape() rune {
	p.pos++
	if p.data[p.pos] != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, p.data[p.pos])
		if i < 0 {
			p.unexpected("an escape")
			return 0
		}
		p.pos++
		return rune("\"\\/\b\f\n\r\t"[i])
	}
	r := p.unit()
	if !utf16.IsSurrogate(r) {
		return r
	}
	low := rune(0)
	if p.data[p.pos] == '\\' {
		p.pos++
		low = p.unit()
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		p.fail("a surrogate without its pair can't be decoded")
	}
	return r
}

// unit reads uXXXX, a UTF-16 code unit.
func (p *parser) unit() rune {
	digits, ok := strings.CutPrefix(p.data[p.pos:min(p.pos+5, len(p.data))], "u")
	u, err := strconv.ParseUint(digits, 16, 16)
	if !ok || err != nil || len(digits) != 4 {
		p.unexpected("four hexadecimal digits")
		return 0
	}
	p.pos += 5
	return rune(u)
}

// describe shows a value in an error's text.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case *Object:
		return "an object"
	case []any:
		return "a list"
	case string:
		return fmt.Sprintf("%.60q", v)
	}
	return fmt.Sprintf("%.60v", v)
}
