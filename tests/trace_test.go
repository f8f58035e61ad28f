package tests

import (
	"strings"
	"testing"
)

// trace is what strace -f has written to /run/trace.
func (b box) trace() string {
	b.t.Helper()
	return whole(b.Read("/run/trace"))
}

// whole joins the halves of calls that strace -f wrote apart, because another
// thread's call came between: "7 open("/x" <unfinished ...>" and, further down,
// "7 <... open resumed>) = 3". A call that never returned loses its mark only.
func whole(trace string) string {
	const unfinished, resumed = " <unfinished ...>", " resumed>"
	var lines []string
	begun := map[string]int{} // the line that a thread's call began on
	for line := range strings.Lines(trace) {
		line = strings.TrimSuffix(line, "\n")
		pid, said, _ := strings.Cut(line, " ")
		if begin, ok := strings.CutSuffix(line, unfinished); ok {
			begun[pid] = len(lines)
			lines = append(lines, begin)
			continue
		}
		_, end, ok := strings.Cut(said, resumed)
		if at, is := begun[pid]; ok && is && strings.HasPrefix(strings.TrimSpace(said), "<... ") {
			lines[at] += end
			delete(begun, pid)
			continue
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n") + "\n"
}

// What strace wrote of an ADD on a busy machine, where the mark of an
// unfinished call was once taken for the file that it opened.
func TestTraceOfInterruptedCalls(t *testing.T) {
	got := whole(`7     openat(AT_FDCWD</>, "/etc/x", O_RDWR|O_CREAT <unfinished ...>
8     mkdirat(3</run>, "flatnet", 0700 <unfinished ...>
7     <... openat resumed>, 0600) = 3</etc/x>
9     unlinkat(3</run>, "y", 0) = 0
8     <... mkdirat resumed>) = 0
9     write(1, "resumed> <unfinished ...>", 25 <unfinished ...>
9     +++ killed by SIGKILL +++
`)
	want := `7     openat(AT_FDCWD</>, "/etc/x", O_RDWR|O_CREAT, 0600) = 3</etc/x>
8     mkdirat(3</run>, "flatnet", 0700) = 0
9     unlinkat(3</run>, "y", 0) = 0
9     write(1, "resumed> <unfinished ...>", 25
9     +++ killed by SIGKILL +++
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	m := writing.FindAllStringSubmatch(got, -1)
	if len(m) != 3 || m[0][4] != ", O_RDWR|O_CREAT, 0600) = 3</etc/x>" {
		t.Errorf("writing calls are %q", m)
	}
}
