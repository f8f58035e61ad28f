package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// documents are what people read, by their paths in the repository.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, path := range append(names, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(root, path)
		all[name] = string(content)
	}
	return all
}

// testNames are those of all tests, and of fuzz targets.
func testNames(t *testing.T) []string {
	t.Helper()
	out := output(t, root, "grep", "-rhoE", "--include=*_test.go", `^func (Test|Fuzz)[A-Za-z0-9_]+`, ".")
	return strings.Split(strings.ReplaceAll(out, "func ", ""), "\n")
}

// Links between documents lead somewhere, and so do the names of tests.
func TestDocumentsNameWhatExists(t *testing.T) {
	t.Parallel()
	all, tests := documents(t), testNames(t)
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	test := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := filepath.Join(filepath.Dir(name), m[1])
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
			if m[2] != "" && !slices.Contains(anchors(all[target]), m[2]) {
				t.Errorf("%s links to %s, which has no heading %s", name, m[1], m[2])
			}
		}
		for _, m := range test.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(tests, m[1]) {
				t.Errorf("%s names %s, which does not exist", name, m[1])
			}
		}
	}
}

// anchors are those of a document's headings.
func anchors(text string) (all []string) {
	drop := regexp.MustCompile(`[^a-z0-9 _-]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		all = append(all, "#"+strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

// The files and functions of one ADD (docs/architecture.md), and of a new key
// (CONTRIBUTING.md), are where the text says.
func TestDocumentsNameFunctions(t *testing.T) {
	t.Parallel()
	all := documents(t)
	file, word := regexp.MustCompile("`([a-z][a-zA-Z0-9_/-]*\\.(?:go|md))`"), regexp.MustCompile("`([a-zA-Z]+)`")
	count := 0
	items := regexp.MustCompile(`(?m)^\|.*$`).FindAllString(all["docs/architecture.md"], -1)
	_, key, _ := strings.Cut(all["CONTRIBUTING.md"], "## Add a configuration key")
	items = append(items, regexp.MustCompile(`(?ms)^\d\. .*?\n(?:\d|\n)`).FindAllString(key, -1)...)
	for _, item := range items {
		var source strings.Builder
		for _, m := range file.FindAllStringSubmatch(item, -1) {
			content, err := os.ReadFile(filepath.Join(root, m[1]))
			if err != nil {
				if !strings.HasPrefix(item, "| `") { // the map of packages has names without their directory
					t.Errorf("%.80s: %v", item, err)
				}
				continue
			}
			source.Write(content)
		}
		if source.Len() == 0 || strings.HasPrefix(item, "| `") {
			continue
		}
		for _, m := range word.FindAllStringSubmatch(item[strings.Index(item, "`"):], -1) {
			count++
			if !regexp.MustCompile(`\b`+m[1]+`\b`).MatchString(source.String()) && !slices.Contains(testNames(t), m[1]) {
				t.Errorf("%.80s: there is no %s", item, m[1])
			}
		}
	}
	if count < 40 {
		t.Errorf("only %d names are found", count)
	}
}

// Each command of the binary has its section in docs/commands.md, with its usage.
func TestCommandsAreDocumented(t *testing.T) {
	t.Parallel()
	text := documents(t)["docs/commands.md"]
	names := regexp.MustCompile(`(?m)^  ([a-z]+) {2,}\S`).FindAllStringSubmatch(output(t, root, program, "help"), -1)
	if len(names) < 8 {
		t.Errorf("only %d commands are found", len(names))
	}
	for _, m := range names {
		usage, _, _ := strings.Cut(output(t, root, program, "help", m[1]), "\n")
		if !strings.Contains(text, "\n### "+usage+"\n") {
			t.Errorf("docs/commands.md has no section %q", usage)
		}
	}
}

// shell matches a line of a block that is a command.
var shell = regexp.MustCompile(`^(?:[A-Z]+=\S+ )?(?:apt|dnf|apk|make|podman|flatnet|mkdir|printf|ctr|buildah|nft|sysctl|ip|wg|etcdctl|etcd|flanneld|nebula|nebula-cert|systemctl|echo|cat|export|cd|install|umask|for|done|cp|go)(?: |$)`)

// commandsOf are the commands of a document's blocks: comments are cut off, and lines that
// end in a backslash continue.
func commandsOf(text string) (all []string) {
	blocks := regexp.MustCompile("(?ms)^```(?:sh)?\n(.*?)^```$").FindAllStringSubmatch(text, -1)
	for _, block := range blocks {
		for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", " ")) {
			line = regexp.MustCompile(`\s+# .*$`).ReplaceAllString(strings.TrimSpace(line), "")
			if shell.MatchString(line) {
				all = append(all, strings.Join(strings.Fields(line), " "))
			}
		}
	}
	return all
}

// followed are documents whose commands a test takes out of them and runs.
var followed = map[string]string{
	"docs/wsl2.md": "TestWSL2Document", "docs/hosts.md": "TestRecipeFlannel", "docs/embedding.md": "TestEmbeddingDocument",
}

// installing are the commands of a suite's installation, by README.md and docs/install.md.
func installing(t *testing.T, suite string) (scripts []string) {
	t.Helper()
	all := documents(t)
	heading := map[string]string{"trixie": "Debian 13", "bookworm": "Debian 12"}[suite]
	readme := regexp.MustCompile(`(?m)^# ` + heading + `.*\n((?:\S.*\n)+)`).FindStringSubmatch(all["README.md"])
	_, section, _ := strings.Cut(all["docs/install.md"], "\n## "+heading)
	block := regexp.MustCompile("(?ms)^```\n(.*?)^```$").FindStringSubmatch(section)
	if readme == nil || block == nil {
		t.Fatalf("README.md or docs/install.md has no commands for %s", heading)
	}
	return []string{readme[1], block[1]}
}

var installedSuites = []string{"trixie", "bookworm"}

// firstAid are the commands that docs/troubleshooting.md begins with.
func firstAid(t *testing.T) []string { return commandsOf(document(t, "troubleshooting.md"))[:3] }

// What README.md, docs/install.md and docs/troubleshooting.md tell people to type gives
// them a container on the network. Packages are there already, and so is the binary.
func TestInstallDocuments(t *testing.T) {
	for _, suite := range installedSuites {
		t.Run(suite, func(t *testing.T) {
			p := newBox(t).debianPodman(suite)
			p.World.Sh("sed -i /network_backend/d /etc/containers/containers.conf")
			for _, script := range installing(t, suite) {
				p.World.Sh("make -s -C " + lab.Repository + " uninstall; rm -f /etc/containers/containers.conf.d/*")
				script = regexp.MustCompile(`(?m)^apt install [^&\n]*(?:&& )?`).ReplaceAllString(script, "")
				script = strings.ReplaceAll(script, "make install", "make -s -C "+lab.Repository+" -o build install")
				script = strings.ReplaceAll(script, "-it --network flatnet debian", p.World.Cgroup()+" --network flatnet "+lab.Image+" sh -c 'ip addr show eth0'")
				if out := p.World.Sh(script); !strings.Contains(out, "inet 10.87.1.") {
					t.Errorf("%s: the container has %s", script, out)
				}
				if out := p.World.Sh("flatnet doctor || :"); !strings.Contains(out, "OK    Podman: ") || !strings.Contains(out, "OK    installation: ") {
					t.Errorf("the doctor of %s:\n%s", script, out)
				}
				if suite == "trixie" {
					p.Do("network", "rm", "flatnet")
				}
			}
			for _, command := range firstAid(t) {
				p.World.Sh(command)
			}
		})
	}
}
