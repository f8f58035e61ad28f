package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A runner is the test that runs a command of the documents, and what it has in its source,
// one word after the other, when it does: without words of its own, the command itself.
type runner struct{ test, words string }

// ranBy has the runners of the documents that no test follows as a whole. What installs
// packages runs in none: the roots of the tests have those packages from debootstrap. The
// program behind make demo runs without make, which the roots lack; make test is all of this.
var ranBy = map[string]runner{
	"make":       {"TestMakeListsItsTargets", ""},
	"make build": {"TestBuildIsReproducible", "make -s build"},
	"make demo":  {"TestDemo", "/tests; /tmp/demo"},
	"make test":  {"TestReport", "go build -buildvcs=false -o"},
	"make build && cd tests && go test -count=1 -run TestTroubles .": {"TestTroubles", ""},

	"flatnet plan -f new.conflist --container 0123456789ab --json": {"TestPlanFindsNetworks", ""},
	"flatnet doctor": follower, "flatnet status": follower, "flatnet reload": follower,
	"flatnet publish web 8080:80 53:53/udp": {"TestPublishPodman", ""},
	"flatnet publish":                       {"TestPublishPodman", ""},
	"flatnet unpublish web 8080":            {"TestPublishPodman", ""},

	"make install": follower,
	"podman network create --driver flatnet flatnet":                                                follower,
	"podman run --rm -it --network flatnet debian":                                                  follower,
	"mkdir -p /etc/containers/containers.conf.d":                                                    follower,
	`printf '[network]\nnetwork_backend = "cni"\n' >/etc/containers/containers.conf.d/flatnet.conf`: follower,
	"podman run --rm -it --network flatnet -p 8080:80 debian":                                       {"TestRootlessPodman", "--network flatnet -p 8080:80"},
	"podman unshare --rootless-netns flatnet list":                                                  {"TestRootlessPodman", ""},
}

// follower takes some blocks out of the documents and runs them: see [taken].
var follower = runner{"TestInstallDocuments", ""}

// taken are the commands that the follower runs.
func taken(t *testing.T) []string {
	t.Helper()
	var scripts strings.Builder
	for _, suite := range installedSuites {
		scripts.WriteString("```\n" + strings.ReplaceAll(strings.Join(installing(t, suite), ""), " && ", "\n") + "```\n")
	}
	return append(commandsOf(scripts.String()), firstAid(t)...)
}

// runs reports whether a test still runs a command, as far as its source shows. followed are
// the commands of the follower.
func (r runner) runs(command string, sources map[string]string, followed []string) bool {
	said, exists := sources[r.test]
	switch {
	case r == follower:
		return exists && slices.Contains(followed, command)
	case strings.Contains(command, " -run "+r.test+" "):
		return exists
	case r.words != "":
		command = r.words
	}
	return strings.Contains(" "+said+" ", " "+command+" ")
}

// Each command of the documents is run by the test that is named for it.
func TestEachDocumentedCommandIsRun(t *testing.T) {
	t.Parallel()
	sources, taken, seen := sourcesOfTests(t), taken(t), map[string]bool{"": true}
	for name, text := range documents(t) {
		if by, ok := followed[name]; ok {
			if sources[by] == "" {
				t.Errorf("%s: there is no test %s", name, by)
			}
			continue
		}
		for _, command := range commandsOf(text) {
			seen[command] = true
			install := regexp.MustCompile(`^(?:apt|dnf) install [^&]*(?:&& |$)`).ReplaceAllString(command, "")
			for part := range strings.SplitSeq(install, " && ") {
				part = strings.TrimPrefix(part, "GOTOOLCHAIN=auto ")
				by, ok := ranBy[command]
				if !ok {
					by, ok = ranBy[part]
				}
				seen[part] = true
				if part != "" && (!ok || !by.runs(command, sources, taken) && !by.runs(part, sources, taken)) {
					t.Errorf("%s: %q is run by no test (%+v)", name, part, by)
				}
			}
		}
	}
	for command := range ranBy {
		if !seen[command] {
			t.Errorf("no document has %q", command)
		}
	}
}

// sourcesOfTests returns what each test that is named here has in its source, and in the
// functions of its package that it calls: the texts, one after the other, and "flatnet" for the
// binary.
func sourcesOfTests(t *testing.T) map[string]string {
	t.Helper()
	wanted := slices.Collect(maps.Values(followed))
	for _, by := range ranBy {
		wanted = append(wanted, by.test)
	}
	all := map[string]string{}
	for _, dir := range []string{".", "report", "hosts"} {
		functions := functionsOf(t, dir)
		for name := range functions {
			if slices.Contains(wanted, name) {
				var words []string
				collect(name, functions, map[string]bool{}, &words)
				all[name] = strings.Join(words, " ")
			}
		}
	}
	return all
}

// functionsOf parses the tests of a directory. Methods go by their names only.
func functionsOf(t *testing.T, dir string) map[string][]*ast.FuncDecl {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has the tests %v, %v", dir, files, err)
	}
	functions := map[string][]*ast.FuncDecl{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				functions[f.Name.Name] = append(functions[f.Name.Name], f)
			}
		}
	}
	return functions
}

// collect appends the words of a function's texts, and then those of the functions that it
// names, each once.
func collect(name string, functions map[string][]*ast.FuncDecl, done map[string]bool, words *[]string) {
	if done[name] {
		return
	}
	done[name] = true
	var named []string
	for _, f := range functions[name] {
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					*words = append(*words, strings.Fields(text)...)
				}
			case *ast.Ident:
				if named = append(named, n.Name); n.Name == "program" {
					*words = append(*words, "flatnet")
				}
			}
			return true
		})
		*words = append(*words, ";") // no command goes on in another function
	}
	for _, next := range named {
		if functions[next] != nil {
			collect(next, functions, done, words)
		}
	}
}
