package advice

import (
	"strconv"
	"strings"
)

// Plain escapes what a terminal would obey: others may have chosen parts of a text.
func Plain(s string) string {
	quoted := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`), `\\`, `\`)
}

// Word returns a word of a command line as the shell reads it: quoted, unless no shell takes
// any of its characters for anything else.
func Word(s string) string {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,@%+="
	if s != "" && !strings.HasPrefix(s, "-") && strings.Trim(s, safe) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
