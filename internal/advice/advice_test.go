package advice

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"flatnet/bridge/model"
)

func TestOf(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string // after the error's own text
	}{
		{errors.New("x"), ""},
		{model.Errorf(model.ErrTaken, "address x is leased"), ""},
		{model.Unsupported("CONFIG_VETH"), " (load the module of that option with modprobe"},
		{fmt.Errorf("make veth: %w", syscall.EPERM), " (flatnet must be run as root, or with CAP_NET_ADMIN"},
		{errors.Join(errors.New("x"), &fs.PathError{Op: "open", Path: "/p", Err: syscall.EACCES}), " (flatnet must be run as root, or with CAP_SYS_PTRACE for the namespace of a process)"},
		{&fs.PathError{Op: "write", Path: "/p", Err: syscall.ENOSPC}, " (make room on that file system)"},
		{&fs.PathError{Op: "open", Path: "/p", Err: syscall.EROFS}, " (make that file system writable)"},
	} {
		got, ok := strings.CutPrefix(Of(tt.err), tt.err.Error())
		if !ok || tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}
