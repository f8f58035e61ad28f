package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/report"
	"flatnet/internal/strictjson"
)

// look surveys the requested network, or all.
func (c *Call) look(q query) ([]*model.Survey, error) {
	all, err := c.Host.Survey(false)
	name := q.arg(0)
	if name == "" || err != nil {
		return all, err
	}
	all = slices.DeleteFunc(all, func(s *model.Survey) bool { return s.Name != name })
	if len(all) == 0 {
		err = c.unknown(name)
	}
	return all, err
}

// printable returns a text as it is, or quoted if it has other characters than printable ASCII:
// whoever controls a network namespace chooses names in it, and terminals obey some sequences.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return strconv.Quote(s)
	}
	return s
}

func short(id string) string { return fmt.Sprintf("%.12s", id) }

// reload restores what is missing, and returns a line for each repair.
func reload(c *Call, q query) ([]string, error) {
	mended, err := c.Host.Reload()
	if q.has("--json") {
		var w strictjson.Writer
		w.Lines = true
		w.Begin("", '{')
		w.Strings("repairs", mended)
		w.End('}')
		return []string{string(w.Bytes)}, err
	}
	if err == nil && len(mended) == 0 {
		mended = []string{"nothing was missing"}
	}
	return mended, err
}

// doctor returns a line for each finding, and below it what repairs it.
func doctor(c *Call, q query) (lines []string, err error) {
	found := c.Examine()
	failed := 0
	var w strictjson.Writer
	w.Lines = true
	w.Begin("", '[')
	for _, f := range found {
		if f.Verdict == report.Fail {
			failed++
		}
		lines = append(lines, c.colored(f.Verdict)+"  "+f.Check+": "+strings.ReplaceAll(brief(f.Seen), "\n", "\n      "))
		if f.Repair != "" {
			lines = append(lines, "      -> "+f.Repair)
		}
		w.Begin("", '{')
		w.String("verdict", f.Verdict)
		w.String("check", f.Check)
		w.String("seen", f.Seen)
		w.String("repair", f.Repair)
		w.End('}')
	}
	w.End(']')
	if q.has("--json") {
		lines = []string{string(w.Bytes)}
	}
	if failed > 0 {
		err = fmt.Errorf("%d of %d checks failed", failed, len(found))
	}
	return lines, err
}

// colored pads a verdict, in its colour.
func (c *Call) colored(verdict string) string {
	colour := map[string]int{report.OK: green, report.Warn: yellow, report.Fail: red}[verdict]
	return c.paint(fmt.Sprintf("%-4s", verdict), colour)
}
