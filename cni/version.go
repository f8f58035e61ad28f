package cni

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"flatnet/internal/strictjson"
)

// newest is the version of replies to calls whose own is not known.
const newest = "1.1.0"

// versions are all released versions of the SPEC, oldest first. As all their
// numbers have one digit, they compare as strings.
func versions() []string {
	return []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", newest}
}

func parseVersion(s string) (string, error) {
	if all := versions(); !slices.Contains(all, s) {
		return "", fmt.Errorf("%.40q is not supported, only %s are", s, strings.Join(all, ", "))
	}
	return s, nil
}

// configVersion returns the version in which a configuration is written: 0.1.0
// if it has none, as in the reference library. DEL reads an unknown version as the
// newest: all versions agree on what it needs.
func configVersion(doc *strictjson.Object, command string) (string, error) {
	s, _ := doc.String("cniVersion")
	if err := doc.Err(); err != nil {
		return newest, failure{codeDecode, err}
	}
	version, err := parseVersion(cmp.Or(s, "0.1.0"))
	since := map[string]string{"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}[command]
	switch {
	case err != nil && command == "DEL":
		return newest, nil
	case err != nil:
		return newest, failure{codeVersion, fmt.Errorf("cniVersion: %w", err)}
	case version < since:
		err = fmt.Errorf("cniVersion: %q has no %s, which came with %q", version, command, since)
		return version, failure{codeVersion, err}
	}
	return version, nil
}

// requestedVersion returns the version that a VERSION call names, if it looks like
// one.
func requestedVersion(doc *strictjson.Object) string {
	version, _ := doc.String("cniVersion")
	if strings.Trim(version, ".0123456789") != "" || strings.Count(version, ".") != 2 {
		return newest
	}
	return version
}

// encodeVersions writes the reply to VERSION (SPEC section 5, "Version").
func encodeVersions(version string) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	w.String("cniVersion", version)
	w.Strings("supportedVersions", versions())
	w.End('}')
	return append(w.Bytes, '\n')
}
