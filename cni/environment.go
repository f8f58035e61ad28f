package cni

import (
	"fmt"
	"slices"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/fields"
)

// An env is the part of the environment that a command uses; the rest may hold
// anything. Podman, for one, asks for VERSION with dummies in it.
type env struct {
	command, containerID, netns, ifName, args, path string
}

// environment reads and validates the variables of SPEC section 2,
// "Parameters".
func environment(getenv func(string) string) (e env, err error) {
	const attachment, others = "ADD DEL CHECK", "GC STATUS VERSION"
	e.command = getenv("CNI_COMMAND")
	if !slices.Contains(strings.Fields(attachment+" "+others), e.command) {
		return e, fmt.Errorf("CNI_COMMAND: %.20q is none of %s %s", e.command, attachment, others)
	}
	var missing []string
	for _, v := range [...]struct {
		name     string
		value    *string
		required string
		optional string
		valid    func(string) error
	}{
		{"CNI_CONTAINERID", &e.containerID, attachment, "", model.ValidContainerID},
		{"CNI_IFNAME", &e.ifName, attachment, "", e.validIfName},
		{"CNI_NETNS", &e.netns, "ADD CHECK", "DEL", anything},
		{"CNI_ARGS", &e.args, "", attachment, anything},
		{"CNI_PATH", &e.path, "", attachment + " " + others, anything},
	} {
		required := strings.Contains(v.required, e.command)
		if !required && !strings.Contains(v.optional, e.command) {
			continue
		}
		*v.value = getenv(v.name)
		if *v.value == "" {
			if required {
				missing = append(missing, v.name)
			}
			continue
		}
		if err := v.valid(*v.value); err != nil {
			return e, fmt.Errorf("%s: %w", v.name, err)
		}
	}
	if missing != nil {
		return e, fmt.Errorf("%s must be set for %s", strings.Join(missing, ", "), e.command)
	}
	return e, nil
}

func anything(string) error { return nil }

func (e env) validIfName(s string) error {
	if e.command == "ADD" {
		_, err := fields.ParseIfName(s)
		return err
	}
	return model.ValidIfName(s)
}
