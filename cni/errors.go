package cni

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// The codes of errors that this package detects; see the package's documentation.
const (
	codeVersion     = 1
	codeEnvironment = 4
	codeIO          = 5
	codeDecode      = 6
	codeConfig      = 7
	codeOther       = 110
)

// A failure is an error whose code is known.
type failure struct {
	code uint64
	error
}

// errorCode is the one place where errors become codes. Of the kinds in a
// joined error the first in the table decides.
func errorCode(err error) uint64 {
	var known failure
	if errors.As(err, &known) {
		return known.code
	}
	var plugin model.PluginError
	if errors.As(err, &plugin) {
		return plugin.Code
	}
	for _, k := range [...]struct {
		kind error
		code uint64
	}{
		{model.ErrLimited, 51},
		{model.ErrUnavailable, 50},
		{model.ErrInvalid, codeConfig},
		{model.ErrNoContainer, 3},
		{model.ErrNetNS, codeEnvironment},
		{model.ErrBusy, 11},
		{model.ErrExhausted, 100},
		{model.ErrTaken, 101},
		{model.ErrConflict, 102},
		{model.ErrUnsupported, 103},
		{model.ErrChanged, 104},
		{syscall.EIO, codeIO},
		{syscall.ENOSPC, codeIO},
		{syscall.EDQUOT, codeIO},
		{syscall.EROFS, codeIO},
	} {
		if errors.Is(err, k.kind) {
			return k.code
		}
	}
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) || errors.As(err, &link) {
		return codeIO
	}
	return codeOther
}

// encodeError writes the error object of SPEC section 5, "Error". Its details
// are left out: the message is complete.
func encodeError(version string, err error) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	w.String("cniVersion", version)
	w.Uint("code", errorCode(err))
	// Joined errors come one a line.
	msg := strings.ReplaceAll(err.Error(), "\n", "; ")
	if errors.Is(err, model.ErrNoContainer) || errors.Is(err, model.ErrNetNS) {
		msg = "CNI_NETNS: " + msg
	}
	w.String("msg", msg)
	w.End('}')
	return append(w.Bytes, '\n')
}
