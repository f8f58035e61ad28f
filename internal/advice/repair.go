package advice

// A Repairable is an error that a person can repair by a command or a setting. The text of the
// error does not have it: flatnet doctor prints it.
type Repairable struct {
	error
	Check  string // of flatnet doctor
	Repair string
}

// Repair makes an error that is nil, or says what repairs it.
func Repair(err error, check, repair string) error {
	if err == nil {
		return nil
	}
	return Repairable{err, check, repair}
}

// Unwrap returns the error without the repair.
func (r Repairable) Unwrap() error { return r.error }

// What doctor's checks are called.
const (
	Forwarding = "forwarding"
	Collisions = "collisions"
	Firewalls  = "other firewalls"
)

// Repairs lists what can be repaired of an error, which may be several that are joined.
func Repairs(err error) (all []Repairable) {
	if r, ok := err.(Repairable); ok {
		return []Repairable{r}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return Repairs(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			all = append(all, Repairs(part)...)
		}
	}
	return all
}
