package main

import (
	"regexp"
	"strings"
	"time"
)

// tag matches a version that somebody has given, such as v1.2.3 or 1.2.3-rc1.
var tag = regexp.MustCompile(`^v?([0-9]+(?:\.[0-9]+)*)((?:-[0-9A-Za-z.]+)*)$`)

// forbidden is what neither dpkg nor rpm takes in a version.
var forbidden = regexp.MustCompile(`[^0-9A-Za-z.+~]`)

// packageVersion is a version that dpkg and rpm compare as people do: what follows a
// hyphen comes before the version itself, except "dirty", and a commit is older than
// every release and younger than an earlier commit.
func packageVersion(version string, date time.Time) string {
	clean, dirty := strings.CutSuffix(version, "-dirty")
	suffix := ""
	if dirty {
		suffix = "+dirty"
	}
	if m := tag.FindStringSubmatch(clean); m != nil && (clean[0] == 'v' || strings.Contains(m[1], ".")) {
		before := forbidden.ReplaceAllString(strings.TrimPrefix(m[2], "-"), ".")
		if before != "" {
			before = "~" + before
		}
		return m[1] + before + suffix
	}
	return "0~git" + date.Format("20060102150405") + "." + forbidden.ReplaceAllString(clean, ".") + suffix
}
