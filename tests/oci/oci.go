// Package oci has what the tests need of the OCI runtime specification: a container with
// the root file system, the capabilities and the system calls that are given.
package oci

import "encoding/json"

// A Seccomp is a filter of system calls (config-linux.md of the specification).
type Seccomp struct {
	DefaultAction   string    `json:"defaultAction"`
	DefaultErrnoRet int       `json:"defaultErrnoRet"`
	Architectures   []string  `json:"architectures"`
	Syscalls        []Syscall `json:"syscalls"`
}

// A Syscall is a rule: what happens to calls of these names, if all arguments are such.
type Syscall struct {
	Names  []string `json:"names"`
	Action string   `json:"action"`
	Args   []Arg    `json:"args,omitempty"`
}

// An Arg compares an argument, the first of which has index 0.
type Arg struct {
	Index    int    `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo,omitempty"`
	Op       string `json:"op"`
}

// Allowed returns the names of all calls that are let through, whatever their arguments.
func (s *Seccomp) Allowed() map[string]bool {
	names := map[string]bool{}
	for _, rule := range s.Syscalls {
		for _, name := range rule.Names {
			names[name] = true
		}
	}
	return names
}

// A Container is one process in a root file system of its own and in the network
// namespace of its caller.
type Container struct {
	Args, Env    []string
	Root         string // a directory, which can't be written to
	Binds        []string
	Capabilities []string
	Seccomp      *Seccomp
	Cgroup       string
}

// Config returns the container's config.json. /proc is mounted, writable as for any
// program that sets sysctls, and each of Binds at its own path.
func (c *Container) Config() []byte {
	type object = map[string]any
	mounts := []object{{"destination": "/proc", "type": "proc", "source": "proc"}}
	for _, path := range c.Binds {
		mounts = append(mounts, object{"destination": path, "type": "bind", "source": path, "options": []string{"rbind", "rslave"}})
	}
	linux := object{"namespaces": []object{{"type": "mount"}}, "rootfsPropagation": "rslave", "cgroupsPath": c.Cgroup}
	if c.Seccomp != nil {
		linux["seccomp"] = c.Seccomp
	}
	caps := object{"bounding": c.Capabilities, "effective": c.Capabilities, "permitted": c.Capabilities}
	text, _ := json.MarshalIndent(object{ // of plain values
		"ociVersion": "1.0.2",
		"process": object{"user": object{"uid": 0, "gid": 0}, "cwd": "/", "args": c.Args, "env": c.Env,
			"noNewPrivileges": true, "capabilities": caps},
		"root":   object{"path": c.Root, "readonly": true},
		"mounts": mounts,
		"linux":  linux,
	}, "", "\t")
	return text
}
