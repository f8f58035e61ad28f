package cni

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flatnet/internal/oddkeys"
)

// keyed is an entry of docs/configuration.md: keys, and a configuration with them that is
// valid and one that is not.
type keyed struct {
	keys           []string
	valid, invalid string
}

func documented(t *testing.T) (entries []keyed, text string) {
	t.Helper()
	content, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`\n +`).ReplaceAllString(string(content), " ") // lists in lines
	item := regexp.MustCompile("(?m)^- (`[^(]*) \\(.*\\): .* Example: `(.*)`\\. Error: `(.*)`\\.$")
	for _, m := range item.FindAllStringSubmatch(text, -1) {
		entries = append(entries, keyed{strings.Split(strings.ReplaceAll(m[1], "`", ""), ", "), m[2], m[3]})
	}
	return entries, text
}

// with returns the least configuration with the keys of a fragment.
func with(t *testing.T, fragment string) string {
	t.Helper()
	base, more := map[string]any{}, map[string]any{}
	for text, into := range map[string]*map[string]any{minimal: &base, "{" + fragment + "}": &more} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	maps.Copy(base, more)
	out, _ := json.Marshal(base)
	return string(out)
}

// Each example of docs/configuration.md is accepted, and each error is refused by the name
// of its key.
func TestDocumentedExamples(t *testing.T) {
	entries, _ := documented(t)
	if len(entries) < 30 {
		t.Errorf("only %d keys are found", len(entries))
	}
	for _, e := range entries {
		var f fake
		if status, out := call(&f, environ("ADD"), with(t, e.valid)); status != 0 {
			t.Errorf("%s: %s is refused: %s", e.keys, e.valid, out)
		}
		status, out := call(&f, environ("ADD"), with(t, e.invalid))
		var r reply
		json.Unmarshal([]byte(out), &r)
		named := slices.ContainsFunc(e.keys, func(key string) bool { return strings.Contains(r.Msg, key) })
		if status == 0 || r.Code != codeConfig || !named {
			t.Errorf("%s: %s is answered with %s", e.keys, e.invalid, out)
		}
	}
}

// Each key that the parser knows is in docs/configuration.md: those of the configuration
// and of ipam with an example, the others by their name.
func TestKeysAreDocumented(t *testing.T) {
	entries, text := documented(t)
	var have []string
	for _, e := range entries {
		have = append(have, e.keys...)
	}
	specified := []string{"cniVersion", "type", "args", "capabilities", "ipam", "prevResult", "runtimeConfig",
		"cni.dev/valid-attachments", "cni.dev/attachments", "ipMasqBackend"}
	want := slices.DeleteFunc(oddkeys.Top(), func(key string) bool { return slices.Contains(specified, key) })
	for _, key := range oddkeys.IPAM() {
		want = append(want, "ipam."+key)
	}
	for _, key := range want {
		if !slices.Contains(have, key) {
			t.Errorf("docs/configuration.md has no entry for %s", key)
		}
	}
	for _, key := range have {
		if !slices.Contains(want, key) && !strings.HasPrefix(key, "runtimeConfig.") {
			t.Errorf("docs/configuration.md has an entry for %s, which is not read", key)
		}
	}
	for _, key := range slices.Concat(specified, oddkeys.Route(), oddkeys.Range(), readKeys(t)) {
		if !regexp.MustCompile("`[^`]*\\b" + regexp.QuoteMeta(key) + "\\b[^`]*`").MatchString(text) {
			t.Errorf("docs/configuration.md does not mention %s", key)
		}
	}
}

// readKeys are the words in quotes by which the package reads objects.
func readKeys(t *testing.T) (keys []string) {
	t.Helper()
	get := regexp.MustCompile(`(?:\b[a-z]+\.(?:Bool|Uint|String|Strings|Object|Objects|ManyObjects|ObjectLists)\(|fields\.[A-Za-z0-9\[\]]+\([a-z]+, |readSets\(runtime, |readLimit\(bandwidth, "[a-zA-Z]+", )"([^"]+)"`)
	for _, file := range []string{"config.go", "request.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range get.FindAllStringSubmatch(string(source), -1) {
			keys = append(keys, m[1])
		}
	}
	if len(keys) < 50 {
		t.Errorf("only %d keys are found: %v", len(keys), keys)
	}
	return keys
}
