package tests

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"flatnet/tests/lab"
)

// completions are what people type up to a tab, and what a shell makes of it: commands,
// options, networks that exist, containers and arguments.
var completions = []struct{ typed, want string }{
	{"do", "doctor"},
	{"list --j", "list --json"},
	{"show --mer", "show --mermaid"},
	{"status fla", "status flatnet"},
	{"show --dot oth", "show --dot other"},
	{"help rel", "help reload"},
	{"completion z", "completion zsh"},
	{"publish we", "publish web"},
}

// The shells themselves complete, on a host with two networks. In each, flatnet is a function
// that answers the completion script and otherwise prints the command line that it got.
func TestCompletionInShells(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "script"} {
		if _, err := exec.LookPath(shell); err != nil {
			t.Fatalf("needs %s: tests/setup.sh test installs it", shell)
		}
	}
	b := newBox(t)
	b.attach("web", func(c *lab.Call) { c.Conf = dual })
	b.attach("other", func(c *lab.Call) { c.Conf = dualOther })
	home := t.TempDir()
	b.Sh("ln -s " + program + " " + home + "/flatnet")
	in := []string{"env", "PATH=" + home + ":" + os.Getenv("PATH"), "HOME=" + home, "TERM=dumb"}
	const answer = `flatnet() { if [ "$1" = __complete ]; then command flatnet "$@"; else echo "ran<$*>"; fi; }` + "\n"
	const compinit = "autoload -Uz compinit; compinit -u -D\n"
	for _, tt := range []struct{ name, shell, script string }{
		{"bash", "bash --norc --noprofile -i", answer + "source <(command flatnet completion bash)\n"},
		{"zsh", "zsh -f -i", answer + "source <(command flatnet completion zsh)\n"},
		{"zsh, by fpath", "zsh -f -i", "command flatnet completion zsh >$HOME/_flatnet; fpath+=($HOME)\n" + compinit + answer},
	} {
		for _, c := range completions {
			tt.script += "flatnet " + c.typed + "\t\n"
		}
		cmd := b.Cmd(append(in, "script", "-qec", tt.shell, "/dev/null")...)
		cmd.Stdin = strings.NewReader(tt.script + "exit\n")
		out, err := cmd.CombinedOutput()
		for _, c := range completions {
			if !strings.Contains(string(out), "ran<"+c.want+">") {
				t.Errorf("%s: %q does not become %q: %v\n%s", tt.name, c.typed, c.want, err, out)
			}
		}
	}
	for _, c := range completions {
		got := b.Run(append(in, "fish", "--no-config", "-c", "flatnet completion fish | source; complete -C 'flatnet "+c.typed+"'")...)
		word, _, _ := strings.Cut(strings.TrimSpace(got), "\t")
		if words := strings.Fields(c.want); word != words[len(words)-1] {
			t.Errorf("fish: %q becomes %q, not %q", c.typed, got, c.want)
		}
	}
}
