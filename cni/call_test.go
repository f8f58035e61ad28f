package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"flatnet/bridge/model"
	"flatnet/internal/advice"
)

// A fake is an engine that records what it is asked for.
type fake struct {
	calls  []string
	config *model.Config
	prev   model.Result
	valid  []model.Key

	result model.Result
	err    error // of every method but Del
	delErr error
}

func (f *fake) record(name string, c *model.Config) error {
	f.calls, f.config = append(f.calls, name), c
	return f.err
}

func (f *fake) Add(c *model.Config) (model.Result, error) { return f.result, f.record("ADD", c) }

func (f *fake) Check(c *model.Config, prev model.Result) error {
	f.prev = prev
	return f.record("CHECK", c)
}

func (f *fake) Del(c *model.Config) error {
	_ = f.record("DEL", c)
	return f.delErr
}

func (f *fake) GC(c *model.Config, valid []model.Key) error {
	f.valid = valid
	return f.record("GC", c)
}

func (f *fake) Status(c *model.Config) error { return f.record("STATUS", c) }

// minimal is the least configuration that there is.
const minimal = `{"cniVersion":"1.1.0","name":"flatnet","type":"flatnet"}`

// environ is a complete environment for command, with changes in the form
// KEY=VALUE; KEY alone unsets it.
func environ(command string, changes ...string) map[string]string {
	env := map[string]string{
		"CNI_COMMAND":     command,
		"CNI_CONTAINERID": "0123456789abcdef",
		"CNI_NETNS":       "/run/netns/c1",
		"CNI_IFNAME":      "eth0",
		"CNI_PATH":        "/usr/lib/cni",
	}
	for _, c := range changes {
		k, v, _ := strings.Cut(c, "=")
		env[k] = v
	}
	return env
}

// call runs one call in memory. All that may be on stderr is about keys that
// look like mistakes.
func call(engine Engine, env map[string]string, stdin string) (status int, stdout string) {
	var out, log bytes.Buffer
	status = Main(Call{func(k string) string { return env[k] }, strings.NewReader(stdin), &out, &log}, engine)
	for line := range strings.Lines(log.String()) {
		if !strings.HasPrefix(line, "flatnet: configuration: ") || env["CNI_COMMAND"] != "ADD" {
			panic("stderr: " + line)
		}
	}
	return status, out.String()
}

// reply is an error object.
type reply struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`
}

func TestCommandsReachTheEngine(t *testing.T) {
	for _, tt := range []struct{ command, more, stdout string }{
		{"ADD", ``, `{"cniVersion":"1.1.0"}` + "\n"},
		{"CHECK", `,"prevResult":{}`, ""},
		{"DEL", ``, ""},
		{"GC", `,"cni.dev/valid-attachments":[]`, ""},
		{"STATUS", ``, ""},
	} {
		var f fake
		status, out := call(&f, environ(tt.command), strings.TrimSuffix(minimal, "}")+tt.more+"}")
		if status != 0 || out != tt.stdout || len(f.calls) != 1 || f.calls[0] != tt.command {
			t.Errorf("%s: status %d, calls %v, stdout %q, want %q", tt.command, status, f.calls, out, tt.stdout)
		}
		f = fake{err: model.ErrBusy, delErr: model.ErrBusy}
		status, out = call(&f, environ(tt.command), strings.TrimSuffix(minimal, "}")+tt.more+"}")
		if want := `{"cniVersion":"1.1.0","code":11,"msg":"busy"}` + "\n"; status != 1 || out != want {
			t.Errorf("failed %s: status %d, stdout %q, want %q", tt.command, status, out, want)
		}
	}
}

func TestVersion(t *testing.T) {
	const supported = `,"supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}` + "\n"
	// As Podman 4 asks.
	env := map[string]string{"CNI_COMMAND": "VERSION", "CNI_IFNAME": "dummy", "CNI_NETNS": "dummy", "CNI_PATH": "dummy"}
	for _, tt := range []struct{ stdin, want string }{
		{`{"cniVersion":"1.0.0"}`, "1.0.0"},
		{`{"cniVersion":"0.1.0","name":17}`, "0.1.0"},
		{`{"cniVersion":"1.2.0"}`, "1.2.0"},
		{``, "1.1.0"},
		{`{}`, "1.1.0"},
		{`{"cniVersion":""}`, "1.1.0"},
		{`{"cniVersion":17}`, "1.1.0"},
		{`{"cniVersion":"1.0"}`, "1.1.0"},
		{`{"cniVersion":"1.0.x"}`, "1.1.0"},
		{`{"cniVersion":".."}`, "1.1.0"},
		{`not JSON`, "1.1.0"},
	} {
		var f fake
		status, out := call(&f, env, tt.stdin)
		if want := `{"cniVersion":"` + tt.want + `"` + supported; status != 0 || out != want || f.calls != nil {
			t.Errorf("%s: status %d, calls %v, stdout %s", tt.stdin, status, f.calls, out)
		}
	}
}

// A broken is a stdout that nobody reads any more.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestUnreportedAddIsUndone(t *testing.T) {
	for _, tt := range []struct {
		name    string
		command string
		fake    fake
		calls   string
		log     string
	}{
		{"add", "ADD", fake{}, "[ADD DEL]", "broken pipe"},
		{"undo fails", "ADD", fake{delErr: model.ErrBusy}, "[ADD DEL]", "can't remove the attachment: busy"},
		{"failed add", "ADD", fake{err: model.ErrBusy}, "[ADD]", `"msg":"busy"`},
		{"failed del", "DEL", fake{delErr: model.ErrBusy}, "[DEL]", `"msg":"busy"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := environ(tt.command)
			var log bytes.Buffer
			status := Main(Call{func(k string) string { return env[k] }, strings.NewReader(minimal), broken{}, &log}, &tt.fake)
			if status != 1 || fmt.Sprint(tt.fake.calls) != tt.calls || !strings.Contains(log.String(), tt.log) {
				t.Fatalf("status %d, calls %v, stderr %q", status, tt.fake.calls, log.String())
			}
		})
	}
}

// A counter counts writes.
type counter struct {
	io.Writer
	n int
}

func (c *counter) Write(p []byte) (int, error) {
	c.n++
	return c.Writer.Write(p)
}

func TestStdoutIsWrittenOnce(t *testing.T) {
	env := environ("ADD")
	out := &counter{Writer: io.Discard}
	Main(Call{func(k string) string { return env[k] }, strings.NewReader(minimal), out, io.Discard}, &fake{result: full})
	if out.n != 1 {
		t.Fatalf("%d writes", out.n)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("gone") }

func TestUnreadableStdin(t *testing.T) {
	env := environ("DEL")
	var out bytes.Buffer
	status := Main(Call{func(k string) string { return env[k] }, brokenReader{}, &out, io.Discard}, &fake{})
	want := `{"cniVersion":"1.1.0","code":5,"msg":"reading the configuration from stdin: gone"}` + "\n"
	if status != 1 || out.String() != want {
		t.Fatalf("status %d, stdout %s", status, out.String())
	}
}

func TestErrorCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code uint
	}{
		{model.ErrInvalid, 7},
		{model.ErrNoContainer, 3},
		{model.ErrNetNS, 4},
		{model.ErrBusy, 11},
		{model.ErrUnavailable, 50},
		{model.ErrLimited, 51},
		{model.ErrExhausted, 100},
		{model.ErrTaken, 101},
		{model.ErrConflict, 102},
		{model.ErrUnsupported, 103},
		{model.ErrChanged, 104},
		{fmt.Errorf("subnet: %w", model.ErrInvalid), 7},
		{fmt.Errorf("%w: %w", model.ErrUnavailable, model.ErrExhausted), 50},
		{errors.Join(model.ErrUnavailable, model.ErrLimited), 51},
		{fmt.Errorf("%w: %w", model.ErrNetNS, &fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}), 4},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, 5},
		{&os.LinkError{Op: "rename", Old: "x", New: "y", Err: syscall.EACCES}, 5},
		{fmt.Errorf("write: %w", syscall.ENOSPC), 5},
		{fmt.Errorf("write: %w", syscall.EIO), 5},
		{fmt.Errorf("write: %w", syscall.EROFS), 5},
		{fmt.Errorf("write: %w", syscall.EDQUOT), 5},
		{fmt.Errorf("link: %w", syscall.EPERM), 110},
		{errors.New("anything"), 110},
	} {
		status, out := call(&fake{err: tt.err}, environ("ADD"), minimal)
		var r reply
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		msg := strings.ReplaceAll(advice.Of(tt.err), "\n", "; ")
		if tt.code == 3 || tt.code == 4 {
			msg = "CNI_NETNS: " + msg
		}
		if want := (reply{"1.1.0", tt.code, msg, ""}); status != 1 || r != want {
			t.Errorf("got %+v, want %+v", r, want)
		}
	}
}

func TestErrorsAreInTheConfigurationsVersion(t *testing.T) {
	for _, v := range Versions() {
		_, out := call(&fake{err: model.ErrBusy}, environ("ADD"), `{"cniVersion":"`+v+`","name":"n","type":"flatnet"}`)
		if want := `{"cniVersion":"` + v + `","code":11,"msg":"busy"}` + "\n"; out != want {
			t.Errorf("%s, want %s", out, want)
		}
	}
	if _, out := call(&fake{err: model.ErrBusy}, environ("ADD"), `{"name":"n"}`); !strings.HasPrefix(out, `{"cniVersion":"0.1.0",`) {
		t.Errorf("without a version: %s", out)
	}
}
