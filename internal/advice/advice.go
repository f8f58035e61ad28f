// Package advice says what a person can do about an error whose text does not.
package advice

import (
	"errors"
	"syscall"

	"flatnet/bridge/model"
)

// Of returns the text of an error, with advice if the error is of a known kind: what a
// system call refuses is the same wherever it is called.
func Of(err error) string {
	text := err.Error()
	for _, known := range []struct {
		kind   error
		advice string
	}{
		{model.ErrUnsupported, "load the module of that option with modprobe, or use a kernel that has it"},
		{syscall.EPERM, "flatnet must be run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN over the network namespace"},
		{syscall.EACCES, "flatnet must be run as root, or with CAP_SYS_PTRACE for the namespace of a process"},
		{syscall.ENOSPC, "make room on that file system"},
		{syscall.EROFS, "make that file system writable"},
	} {
		if errors.Is(err, known.kind) {
			return text + " (" + known.advice + ")"
		}
	}
	return text
}
