package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"flatnet/internal/fields"
)

// A command is a word that people type. Its parser, help and completion are derived from its
// entry in [commands].
type command struct {
	name, other string   // other is a second name
	alike       []string // names that other programs have for it: suggested, not accepted
	arguments   []string // as the usage shows them; "[NAME]" may be left out, "NAME..." be several
	options     []option
	root        bool // it needs root, or what root has recorded
	raw         bool // everything from the first argument on is an argument
	summary     string
	help        string   // further explanation
	examples    []string // each with its explanation after " # "
	status      string   // the meaning of the exit status, if it is not the usual one
	run         func(c *Call, q query) (lines []string, err error)
}

// An option is a word that begins with hyphens.
type option struct {
	name    string // such as "--json"
	short   string // such as "-f"; empty: none
	value   string // what follows it, such as "FILE"; empty: nothing
	summary string
}

func jsonOption() option { return option{name: "--json", summary: "print JSON, for programs"} }

func helpOption() option { return option{name: "--help", short: "-h", summary: "print this text"} }

// A query is an invocation's options and arguments.
type query struct {
	args    []string
	options []string // their long names, in the order in which they were given
	values  []string // of each of these; empty if it takes none
}

func (q query) has(option string) bool { return slices.Contains(q.options, option) }

// value returns the value of an option; if it was given several times, the last one.
func (q query) value(option string) (value string) {
	for i, name := range q.options {
		if name == option {
			value = q.values[i]
		}
	}
	return value
}

// arg returns the argument at an index, or "" if there is none.
func (q query) arg(i int) string {
	if i < len(q.args) {
		return q.args[i]
	}
	return ""
}

// An exit is an error that has its own exit status. If its text is empty, nothing is printed.
type exit struct {
	error
	status int
}

func (e exit) Unwrap() error { return e.error }

// misused returns an error about a wrong command line.
func misused(format string, args ...any) error { return exit{fmt.Errorf(format, args...), usageError} }

// printed returns an error that ends a command with a status, but without a message.
func printed(status int) error { return exit{errors.New(""), status} }

func find(name string) (command, bool) {
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name || c.other == name && name != "" })
	if i < 0 {
		return command{}, false
	}
	return all[i], true
}

func names() (all []string) {
	for _, c := range commands() {
		all = append(all, c.name)
	}
	return all
}

// suggestCommand returns the command that a word may mean, as a question.
func suggestCommand(word string) string {
	if text := suggest(word, names()); text != "" {
		return text
	}
	for _, c := range commands() {
		if slices.Contains(c.alike, strings.ToLower(word)) {
			return fmt.Sprintf("; is %q meant?", c.name)
		}
	}
	return ""
}

// suggest returns the first of some words that is similar to the one given, as a question.
func suggest(word string, words []string) string {
	for _, w := range words {
		if strings.Trim(word, "-") != "" && strings.HasPrefix(w, word) || fields.Similar(word, w) {
			return fmt.Sprintf("; is %q meant?", w)
		}
	}
	return ""
}

// known lists the command's options.
func (c *command) known() []option { return append(slices.Clone(c.options), helpOption()) }

// option returns the option of a long or short name.
func (c *command) option(name string) (option, bool) {
	all := c.known()
	i := slices.IndexFunc(all, func(o option) bool { return o.name == name || o.short == name && name != "" })
	if i < 0 {
		return option{}, false
	}
	return all[i], true
}

// parse reads the arguments after the command's name. With --help, required ones may be
// missing.
func (c *command) parse(args []string) (q query, err error) {
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		switch {
		case a == "--":
			q.args, args = append(q.args, args...), nil
		case len(a) < 2 || a[0] != '-':
			q.args = append(q.args, a)
			if c.raw {
				q.args, args = append(q.args, args...), nil
			}
		default:
			if args, err = c.parseOption(&q, a, args); err != nil {
				return q, err
			}
		}
	}
	if q.has("--help") {
		return q, nil
	}
	if !c.raw && slices.Contains(q.args, "") { // without an argument, some commands mean everything
		return q, errors.New("an argument is empty, as of a variable that is not set")
	}
	return q, c.count(q.args)
}

// parseOption reads an option, with its value in it or first in rest, and returns what is
// left of rest.
func (c *command) parseOption(q *query, a string, rest []string) ([]string, error) {
	name, value, with := strings.Cut(a, "=")
	o, ok := c.option(name)
	switch {
	case !ok:
		var all []string
		for _, o := range c.known() {
			all = append(all, o.name)
		}
		return nil, fmt.Errorf("there is no option %q%s", name, suggest(name, all))
	case with && o.value == "":
		return nil, fmt.Errorf("option %s takes no value", o.name)
	case !with && o.value != "":
		if len(rest) == 0 {
			return nil, fmt.Errorf("option %s needs a value: %s", name, o.value)
		}
		value, rest = rest[0], rest[1:]
	}
	if o.value != "" && value == "" {
		return nil, fmt.Errorf("option %s needs a value: %s", name, o.value)
	}
	q.options, q.values = append(q.options, o.name), append(q.values, value)
	return rest, nil
}

// count checks the number of arguments.
func (c *command) count(args []string) error {
	if n := len(args); n < len(c.arguments) && !strings.HasPrefix(c.arguments[n], "[") {
		return fmt.Errorf("it needs %s", strings.TrimSuffix(c.arguments[n], "..."))
	}
	last := strings.Join(c.arguments[max(0, len(c.arguments)-1):], "")
	if n := len(c.arguments); len(args) > n && !strings.Contains(last, "...") {
		return fmt.Errorf("it takes no argument %q", args[n])
	}
	return nil
}

// line returns the command's usage in one line.
func (c *command) line() string {
	words := []string{"flatnet", c.name}
	for _, o := range c.options {
		text := o.name
		if o.short != "" {
			text = o.short
		}
		if o.value != "" {
			text += " " + o.value
		}
		words = append(words, "["+text+"]")
	}
	return strings.Join(append(words, c.arguments...), " ")
}

// usage returns what --help prints.
func (c *command) usage() string {
	lines := []string{c.line(), "", "  " + c.summary}
	if c.other != "" {
		lines[2] += " (also: " + c.other + ")"
	}
	indent := func(text string) {
		for line := range strings.SplitSeq(text, "\n") {
			lines = append(lines, "  "+line)
		}
	}
	if c.help != "" {
		lines = append(lines, "")
		indent(c.help)
	}
	var rows [][]string
	for _, o := range c.known() {
		name := o.name
		if o.short != "" {
			name = o.short + ", " + name
		}
		rows = append(rows, []string{strings.TrimSpace(name + " " + o.value), o.summary})
	}
	lines = append(lines, "", "Options:")
	indent(strings.Join(table(rows), "\n"))
	if len(c.examples) > 0 {
		lines = append(lines, "", "Examples:")
		indent(strings.Join(examples(c.examples), "\n"))
	}
	lines = append(lines, "", "Exit status:")
	indent(cmp.Or(c.status, "0 done, 1 failed, 2 wrong command line"))
	return strings.Join(lines, "\n")
}

// examples aligns command lines and their explanations.
func examples(all []string) []string {
	var rows [][]string
	for _, e := range all {
		line, text, _ := strings.Cut(e, " # ")
		rows = append(rows, []string{line, text})
	}
	return table(rows)
}

// table aligns rows in columns.
func table(rows [][]string) (lines []string) {
	var widths []int
	for _, row := range rows {
		for i, text := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(text))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, text := range row {
			line.WriteString(text + strings.Repeat(" ", widths[i]-width(text)+2))
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

// width returns how many columns a text takes on a terminal. Texts are ASCII; colours (see
// [Call.paint]) take none.
func width(text string) int {
	n := len(text)
	for strings.Contains(text, "\x1b[") {
		_, rest, _ := strings.Cut(text, "\x1b[")
		code, after, _ := strings.Cut(rest, "m")
		n -= len("\x1b[") + len(code) + len("m")
		text = after
	}
	return n
}
