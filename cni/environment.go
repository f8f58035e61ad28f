package cni

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"flatnet/bridge/model"
)

// An env is the part of the environment that a command uses; the rest may hold
// anything. Podman, for one, asks for VERSION with dummies in it.
type env struct {
	command, containerID, netns, ifName, args, path string
}

// environment reads and validates the variables of SPEC section 2,
// "Parameters".
func environment(getenv func(string) string) (env, error) {
	var (
		e          env
		attachment = []string{"ADD", "CHECK", "DEL"}
		network    = []string{"GC", "STATUS"}
	)
	e.command = getenv("CNI_COMMAND")
	if err := validCommand(e.command); err != nil {
		return e, fmt.Errorf("CNI_COMMAND: %w", err)
	}
	var missing []string
	for _, v := range [...]struct {
		name     string
		value    *string
		required []string
		optional []string
		valid    func(command, value string) error
	}{
		{"CNI_CONTAINERID", &e.containerID, attachment, nil, validContainerID},
		{"CNI_IFNAME", &e.ifName, attachment, nil, validIfName},
		{"CNI_NETNS", &e.netns, []string{"ADD", "CHECK"}, []string{"DEL"}, nil},
		{"CNI_ARGS", &e.args, nil, attachment, nil},
		{"CNI_PATH", &e.path, nil, append(attachment, network...), nil},
	} {
		required := slices.Contains(v.required, e.command)
		if !required && !slices.Contains(v.optional, e.command) {
			continue
		}
		*v.value = getenv(v.name)
		switch {
		case *v.value == "" && required:
			missing = append(missing, v.name)
		case *v.value != "" && v.valid != nil:
			if err := v.valid(e.command, *v.value); err != nil {
				return e, fmt.Errorf("%s: %w", v.name, err)
			}
		}
	}
	if missing != nil {
		return e, fmt.Errorf("%s must be set for %s", strings.Join(missing, ", "), e.command)
	}
	return e, nil
}

func validCommand(s string) error {
	switch s {
	case "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION":
		return nil
	case "":
		return errors.New("must be set")
	}
	return fmt.Errorf("%.20q is none of ADD, DEL, CHECK, GC, STATUS, VERSION", s)
}

func validContainerID(_, s string) error { return model.ValidContainerID(s) }

func validIfName(command, s string) error {
	if command == "ADD" {
		return newIfName(s)
	}
	return model.ValidIfName(s)
}

// newIfName accepts names that an interface can be created with. The kernel
// keeps three: every namespace has its lo, and /proc/sys/net has folders for
// all interfaces and for the default (sysctl_dev_name_is_allowed of
// net/ipv4/devinet.c).
func newIfName(s string) error {
	switch s {
	case "lo", "all", "default":
		return fmt.Errorf("%q is reserved by the kernel", s)
	}
	return model.ValidIfName(s)
}
