package cni

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"flatnet/internal/strictjson"
)

// newest is the version of replies to calls whose own is not known.
const newest = "1.1.0"

// versions are all released versions of the SPEC, oldest first.
func versions() []string {
	return []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", newest}
}

// atLeast compares two of the versions.
func atLeast(version, other string) bool {
	all := versions()
	return slices.Index(all, version) >= slices.Index(all, other)
}

// since returns the version that brought a command.
func since(command string) string {
	switch command {
	case "CHECK":
		return "0.4.0"
	case "GC", "STATUS":
		return "1.1.0"
	}
	return "0.1.0"
}

// configVersion returns the version in which a configuration is written: 0.1.0
// if it does not say, as in the reference library. DEL takes a version that it
// does not know for the newest: what it needs is the same in all of them.
func configVersion(doc *strictjson.Object, command string) (string, error) {
	version, _ := doc.String("cniVersion")
	if doc.Err() != nil {
		return newest, failure{codeDecode, doc.Err()}
	}
	if version == "" {
		version = "0.1.0"
	}
	if !slices.Contains(versions(), version) {
		if command == "DEL" {
			return newest, nil
		}
		return newest, failure{codeVersion, fmt.Errorf("cniVersion: %.40q is not supported, only %s are",
			version, strings.Join(versions(), ", "))}
	}
	if first := since(command); !atLeast(version, first) {
		return version, failure{codeVersion, fmt.Errorf("cniVersion: %q has no %s, which came with %q", version, command, first)}
	}
	return version, nil
}

// askedVersion returns the version that a VERSION call names, if it is one.
func askedVersion(doc *strictjson.Object) string {
	version, _ := doc.String("cniVersion")
	parts := strings.Split(version, ".")
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return newest
		}
	}
	if len(parts) != 3 {
		return newest
	}
	return version
}

// encodeVersions writes the reply to VERSION (SPEC section 5, "Version").
func encodeVersions(asked string) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	w.String("cniVersion", asked)
	w.Strings("supportedVersions", versions())
	w.End('}')
	return append(w.Bytes, '\n')
}
