package ipam

import (
	"encoding/json"
	"fmt"
	"strings"
)

// members are a JSON object of strings. Unlike a map they show a name that is
// there twice, which would lose a lease, and are quicker to read.
type members []member

type member struct{ name, value string }

// UnmarshalJSON implements [json.Unmarshaler]. It is given one valid JSON
// value, so that an object of strings has them and punctuation in turn.
func (m *members) UnmarshalJSON(data []byte) error {
	rest, ok := strings.CutPrefix(string(data), "{")
	if !ok {
		if rest == "null" {
			return nil
		}
		return fmt.Errorf("%.20q is not an object", rest)
	}
	if *m == nil {
		*m = members{}
	}
	var name string
	for isName := true; ; isName = !isName {
		rest = strings.TrimLeft(rest, " \t\r\n:,")
		if rest == "" || rest[0] == '}' {
			return nil
		}
		end := stringEnd(rest)
		if end < 0 {
			return fmt.Errorf("value of %q is not a string", name)
		}
		s := rest[1 : end-1]
		if strings.IndexByte(s, '\\') >= 0 {
			if err := json.Unmarshal([]byte(rest[:end]), &s); err != nil {
				return err
			}
		}
		rest = rest[end:]
		if isName {
			name = s
		} else {
			*m = append(*m, member{name, s})
		}
	}
}

// stringEnd returns the length of the JSON string that s begins with, quotes
// included, or -1 if it begins with something else.
func stringEnd(s string) int {
	if s[0] != '"' {
		return -1
	}
	for i := 1; i < len(s); i += 2 { // past a backslash and what it escapes
		n := strings.IndexAny(s[i:], `"\\`)
		if n < 0 {
			break
		}
		if i += n; s[i] == '"' {
			return i + 1
		}
	}
	return -1
}
