// Package podman reads what Podman and other engines keep on disk, for people's eyes only.
package podman

import (
	"cmp"
	"strings"

	"flatnet/bridge/model"
	"flatnet/internal/input"
	"flatnet/internal/rootless"
	"flatnet/internal/strictjson"
)

// files list containers (containers/storage, containers.go): those that outlive a boot,
// and those that don't, which Podman calls volatile.
func files() []string {
	storage := cmp.Or(rootless.Storage(), "/var/lib/containers/storage")
	return []string{
		storage + "/overlay-containers/containers.json",
		storage + "/overlay-containers/volatile-containers.json",
		storage + "/vfs-containers/containers.json",
		"/run/containers/storage/overlay-containers/volatile-containers.json",
	}
}

// maxSize is more than a list of 10,000 containers needs.
const maxSize = 64 << 20

// Names returns the names of the caller's containers, or of their pods, by the IDs that
// CNI and netavark know them by. What can't be read has none: nothing depends on it.
func Names() map[string]string {
	all := map[string]string{}
	for _, path := range files() {
		if data, err := input.Read(path, maxSize); err == nil {
			read(data, all)
		}
	}
	if !rootless.Podman() {
		containerd(tasks, all)
	}
	return all
}

// read adds the containers of a list.
func read(data []byte, all map[string]string) {
	const begin, end = `{"containers":`, `}`
	doc, err := strictjson.ParseLarge([]byte(begin+string(data)+end), maxSize+len(begin+end))
	if err != nil {
		return
	}
	for _, c := range doc.ManyObjects("containers", 1<<20) {
		id, _ := c.String("id")
		if names := c.Strings("names"); len(names) > 0 {
			put(all, id, pod(names[0]))
		}
	}
}

// put adds a name, if it is one: what is none could be anything on a terminal.
func put(all map[string]string, id, name string) {
	for part := range strings.SplitSeq(name, "/") {
		if model.ValidName(part) != nil {
			return
		}
	}
	all[id] = name
}

// pod returns "<namespace>/<pod>" for the name that CRI-O gives to a pod's own container,
// which is k8s_POD_<pod>_<namespace>_<UID>_<attempt>, and other names as they are.
func pod(name string) string {
	parts := strings.Split(name, "_")
	if len(parts) == 6 && parts[0] == "k8s" && parts[1] == "POD" {
		return parts[3] + "/" + parts[2]
	}
	return name
}
