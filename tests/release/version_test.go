package main

import (
	"testing"
	"time"
)

func TestPackageVersion(t *testing.T) {
	date := time.Unix(1700000000, 0).UTC()
	for version, want := range map[string]string{
		"v1.2.3":             "1.2.3",
		"1.2":                "1.2",
		"v1.2.3-rc1":         "1.2.3~rc1",
		"v1.2.3-rc1-2":       "1.2.3~rc1.2",
		"v1.2.3-dirty":       "1.2.3+dirty",
		"2cb04ce0a1b2":       "0~git20231114221320.2cb04ce0a1b2",
		"123456789012":       "0~git20231114221320.123456789012",
		"2cb04ce0a1b2-dirty": "0~git20231114221320.2cb04ce0a1b2+dirty",
		"unknown":            "0~git20231114221320.unknown",
		"a/b c":              "0~git20231114221320.a.b.c",
	} {
		if got := packageVersion(version, date); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}
