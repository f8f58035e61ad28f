package cli

import (
	"slices"
	"strings"
)

// completing is the hidden command that the shells' scripts call.
const completing = "__complete"

// wantsFiles replaces the candidates where a file name is expected: the shell completes it.
const wantsFiles = ":files"

// candidates lists the completions of the last of the words after the program's name, each with
// an explanation, if there is one, after a tab.
func (c *Call) candidates(words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	done, last := words[:len(words)-1], words[len(words)-1]
	var all []string
	if len(done) == 0 {
		for _, cmd := range commands() {
			all = append(all, cmd.name+"\t"+cmd.summary)
		}
		return matching(all, last)
	}
	cmd, ok := find(done[0])
	switch {
	case !ok:
		return nil
	case cmd.raw: // its argument is another command line
		return c.candidates(words[1:])
	}
	if i := len(done) - 1; done[i] == "=" { // bash makes --option=value three words
		done = done[:i]
	} else if last == "=" {
		last = ""
	}
	if o, ok := cmd.option(done[len(done)-1]); ok && o.value != "" {
		return matching(c.values(o.value), last)
	}
	if name, value, with := strings.Cut(last, "="); with {
		o, _ := cmd.option(name)
		for _, v := range matching(c.values(o.value), value) {
			all = append(all, name+"="+v)
		}
		return all
	}
	if strings.HasPrefix(last, "-") {
		for _, o := range cmd.known() {
			all = append(all, o.name+"\t"+o.summary)
		}
		return matching(all, last)
	}
	return matching(c.values(cmd.argument(done[1:])), last)
}

// argument returns what the usage calls the argument that follows some words.
func (c *command) argument(words []string) string {
	n := 0
	for i := 0; i < len(words); i++ {
		o, ok := c.option(words[i])
		switch {
		case !ok:
			n++
		case o.value != "":
			i++
		}
	}
	if n >= len(c.arguments) {
		n = len(c.arguments) - 1
		if n < 0 || !strings.Contains(c.arguments[n], "...") {
			return ""
		}
	}
	return strings.Trim(c.arguments[n], "[].")
}

// values lists the values of a word that the usage has in capitals.
func (c *Call) values(kind string) (all []string) {
	switch kind {
	case "COMMAND":
		return names()
	case "SHELL":
		return []string{"bash", "zsh", "fish"}
	case "FILE", "CONFLIST":
		return []string{wantsFiles}
	case "NETWORK", "CONTAINER":
	default:
		return nil
	}
	surveys, err := c.Host.Survey(false)
	if err != nil {
		return nil // it would end up in the command line
	}
	containers := c.Names()
	for _, s := range surveys {
		if kind == "NETWORK" {
			all = append(all, s.Name)
			continue
		}
		for _, a := range s.Attachments {
			id := a.Key.ContainerID
			if name := containers[id]; name != "" {
				all = append(all, name+"\t"+short(id))
			}
			all = append(all, strings.TrimSuffix(short(id)+"\t"+containers[id], "\t"))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// matching keeps the candidates that begin with a word.
func matching(all []string, word string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s != wantsFiles && !strings.HasPrefix(s, word) })
}

// completion returns the script by which a shell asks this program for candidates.
func completion(_ *Call, q query) ([]string, error) {
	script, ok := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[q.arg(0)]
	if !ok {
		return nil, misused("shell %q: it must be bash, zsh or fish", q.arg(0))
	}
	return []string{script}, nil
}

// A shell's script passes on the words up to the cursor, the last of which may be empty. The
// program's stderr is discarded: it would garble the command line.
const bashScript = `# bash completion of flatnet
_flatnet() {
  local line found IFS=$'\n'
  found=$("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  COMPREPLY=()
  if [[ $found == :files ]]; then
    compopt -o default
    return
  fi
  while read -r line; do
    [[ -z $line ]] || COMPREPLY+=("${line%%$'\t'*}")
  done <<<"$found"
}
complete -F _flatnet flatnet`

// It can be sourced, or be the file _flatnet in a directory of fpath.
const zshScript = `#compdef flatnet
_flatnet() {
  local line
  local -a found words_up_to shown
  words_up_to=("${(@)words[2,CURRENT]}")
  found=("${(@f)$("${words[1]}" __complete "${(@)words_up_to}" 2>/dev/null)}")
  if [[ $found[1] == :files ]]; then
    _files
    return
  fi
  for line in $found; do
    [[ -z $line ]] || shown+=("${${line//:/\\:}/$'\t'/:}")
  done
  (( $#shown )) && _describe -t flatnet flatnet shown
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _flatnet "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
  compdef _flatnet flatnet
fi`

const fishScript = `# fish completion of flatnet
function __flatnet_complete
    set -l before (commandline -opc)
    set -l last (commandline -ct)
    set -l found ($before[1] __complete $before[2..-1] "$last" 2>/dev/null)
    if test "$found" = :files
        __fish_complete_path "$last"
    else if set -q found[1]
        printf '%s\n' $found
    end
end
complete -c flatnet -f -a '(__flatnet_complete)'`
