// Package podman reads what Podman keeps on disk, for people's eyes only.
package podman

import (
	"cmp"
	"io"
	"os"

	"flatnet/bridge/model"
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

// Names returns the names of the caller's containers by their IDs. What can't be read has
// none: nothing depends on it.
func Names() map[string]string {
	all := map[string]string{}
	for _, path := range files() {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(f, maxSize))
		f.Close()
		if err == nil {
			read(data, all)
		}
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
		// What is no name of Podman's could be anything on a terminal.
		if names := c.Strings("names"); len(names) > 0 && model.ValidName(names[0]) == nil {
			all[id] = names[0]
		}
	}
}
