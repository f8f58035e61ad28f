// Package trace prints what the process asks of the kernel on stderr: a line for each netlink
// message with its answer, and for some other system calls. It is on if the environment has
// FLATNET_TRACE=1; otherwise it costs one look-up of that variable for each socket.
//
// A line has the time since the process began, the time that the call took, the socket, the
// call and its outcome:
//
//	trace +1.234ms 0.045ms route#5 RTM_NEWLINK NLM_F_REQUEST|ACK index=7 IFLA_IFNAME="eth0" = ack
//
// Messages that are sent together begin at one time. The kernel answers those of a batch of
// nf_tables together: all but the last have "-" in place of the time that they took.
//
// Lines are written whole, so those of several goroutines and processes don't mix. The variable
// does not name a file: the process is root, and whoever sets its environment could make it
// write anywhere.
package trace

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Variable is the name of the environment variable that turns the trace on.
const Variable = "FLATNET_TRACE"

// Begin returns a command line without the word "trace" in front of a command, and turns the
// trace on if it was there. If CNI_COMMAND is set, no command needs to follow. Begin records
// when the process began.
func Begin(args []string) []string {
	for len(args) > 1 && args[1] == "trace" && (len(args) > 2 && !strings.HasPrefix(args[2], "-") || os.Getenv("CNI_COMMAND") != "") {
		args = slices.Delete(slices.Clone(args), 1, 2)
		os.Setenv(Variable, "1")
	}
	switch v := os.Getenv(Variable); v {
	case "", "0":
	case "1":
		os.Setenv(Variable, "1 "+strconv.FormatInt(time.Now().UnixNano(), 10))
	default:
		if !strings.HasPrefix(v, "1 ") { // of a process that has started this one
			fmt.Fprintf(os.Stderr, "flatnet: %s=%.60q: it must be 1; the trace goes to stderr and to no file\n", Variable, v)
		}
	}
	return args
}

// start reports whether the trace is on, and when the process began.
func start() (began time.Time, on bool) {
	v := os.Getenv(Variable)
	if v == "" {
		return began, false
	}
	first, rest, _ := strings.Cut(v, " ")
	ns, err := strconv.ParseInt(rest, 10, 64)
	if began = time.Unix(0, ns); err != nil {
		began = time.Now()
	}
	return began, first == "1"
}

// A line is written at once. PIPE_BUF of linux/limits.h is 4096: a longer one could be torn in
// a pipe.
const maxLine = 4000

// A tracer writes lines.
type tracer struct {
	began time.Time
	out   io.Writer
}

// line writes a line about what began at a moment and ends now.
func (t tracer) line(begin time.Time, text string) {
	t.write(begin, milliseconds(time.Since(begin))+" "+text)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.3fms", float64(d.Nanoseconds())/1e6)
}

func (t tracer) write(begin time.Time, text string) {
	line := "trace +" + milliseconds(begin.Sub(t.began)) + " " + text
	if len(line) > maxLine {
		line = line[:maxLine] + "..."
	}
	io.WriteString(t.out, line+"\n")
}

// A Span is a system call under way; nil: the trace is off.
type Span struct {
	tracer
	begin time.Time
	text  string
}

// Call begins the span of a system call other than a message.
func Call(name string, args ...string) *Span {
	began, on := start()
	if !on {
		return nil
	}
	for _, a := range args {
		name += " " + quote([]byte(a))
	}
	return &Span{tracer{began, os.Stderr}, time.Now(), name}
}

// Done ends the span.
func (s *Span) Done(err error) {
	if s == nil {
		return
	}
	outcome := "ok"
	if err != nil {
		outcome = quote([]byte(err.Error()))
	}
	s.line(s.begin, s.text+" = "+outcome)
}
