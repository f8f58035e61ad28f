package model

import "fmt"

// The kinds of failure that a door tells apart, by [errors.Is]. Every other
// error is the kernel's or the file system's own.
const (
	// ErrInvalid is a configuration or request that can't be honoured.
	ErrInvalid = Kind("invalid")
	// ErrNoContainer is a container whose namespace does not exist.
	ErrNoContainer = Kind("no such container")
	// ErrNetNS is a path that is no network namespace, or the host's own.
	ErrNetNS = Kind("not a container's network namespace")
	// ErrBusy is a lock or resource that others hold; trying again may help.
	ErrBusy = Kind("busy")
	// ErrExhausted is a network without a free address.
	ErrExhausted = Kind("no free address")
	// ErrTaken is a wanted address, port or name that has another owner.
	ErrTaken = Kind("already taken")
	// ErrConflict is something on the host that is not as flatnet needs it,
	// and not flatnet's to change.
	ErrConflict = Kind("conflict")
	// ErrUnsupported is a kernel without a feature; the text names its CONFIG_ option.
	ErrUnsupported = Kind("not supported by this kernel")
	// ErrChanged is an attachment that is not as ADD made it.
	ErrChanged = Kind("changed")
	// ErrUnavailable is a network that can't take another attachment (STATUS).
	ErrUnavailable = Kind("network unavailable")
	// ErrLimited is a network whose attachments may be cut off as well (STATUS).
	ErrLimited = Kind("limited connectivity")
)

// A Kind is a kind of failure. It is a constant, so that no start of the program makes it.
type Kind string

func (k Kind) Error() string { return string(k) }

// Unsupported is an [ErrUnsupported] that names the CONFIG_ option.
func Unsupported(config string) error { return fmt.Errorf("%w: %s", ErrUnsupported, config) }

// Errorf returns an error with the text of the format, as fmt.Errorf makes it
// (%w included), which errors.Is also finds to be of kind. The kind adds nothing to
// the text: a door reports it as a code.
func Errorf(kind error, format string, args ...any) error {
	return kindError{fmt.Errorf(format, args...), kind}
}

// A kindError is an error and its kind.
type kindError struct {
	error
	kind error
}

func (e kindError) Unwrap() []error { return []error{e.error, e.kind} }

// A Fault is something of the host's side of an attachment that is not as ADD
// made it: CHECK and STATUS report it, and a reload mends it. It is an
// [ErrChanged].
type Fault struct {
	Thing, State string
	// Mend is what an ADD does to a thing that is neither [Missing] nor just set right.
	// Advice is how people mend it; CHECK and STATUS fill in one that is missing.
	Mend, Advice string
	// Table is the table of nf_tables that the thing is in: a reload names only that. Link
	// is the bridge's port, if the thing is one or goes with one.
	Table, Link string
}

// Missing is the state of a thing that an ADD makes.
const Missing = "missing"

func (f Fault) Error() string { return fmt.Sprintf("%s is %s (%s)", f.Thing, f.State, f.Advice) }

func (Fault) Unwrap() error { return ErrChanged }

// Mended is the line that a reload prints.
func (f Fault) Mended() string {
	if f.Table != "" {
		return "mended: " + f.Table + " was not as it should be"
	}
	return "mended: " + f.Thing + " was " + f.State
}

// A Coded is an error whose code (SPEC 1.1.0, section 5, "Error") is known: a door found
// it, or another plugin, to which flatnet delegates, has reported it.
type Coded struct {
	error
	Code uint64
}

// WithCode returns err with a code.
func WithCode(code uint64, err error) error { return Coded{err, code} }
