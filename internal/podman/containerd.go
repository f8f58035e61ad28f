package podman

import (
	"cmp"
	"path/filepath"

	"flatnet/internal/input"
	"flatnet/internal/strictjson"
)

// tasks is where containerd keeps the bundle of each running container, as
// <containerd's namespace>/<ID>/config.json (its state directory by default, runtime v2).
// Its database (meta.db) has more, but is locked by the daemon.
const tasks = "/run/containerd/io.containerd.runtime.v2.task"

// maxBundle is more than an OCI configuration needs, and maxTasks more than a host runs.
const (
	maxBundle = 4 << 20
	maxTasks  = 10_000
)

// containerd adds the names of containerd's containers. The kubelet's are pods, and known to
// CNI by the ID of their sandbox; those of nerdctl and ctr by namespace and ID.
func containerd(dir string, all map[string]string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*", "config.json"))
	for _, file := range files[:min(len(files), maxTasks)] {
		bundle := filepath.Dir(file)
		id, namespace := filepath.Base(bundle), filepath.Base(filepath.Dir(bundle))
		notes := annotations(file)
		switch kind, _ := notes.String("io.kubernetes.cri.container-type"); kind {
		case "sandbox":
			name, _ := notes.String("io.kubernetes.cri.sandbox-name")
			in, _ := notes.String("io.kubernetes.cri.sandbox-namespace")
			put(all, id, in+"/"+name)
		case "":
			name, _ := notes.String("nerdctl/name")
			put(all, namespace+"-"+id, cmp.Or(name, id))
		}
	}
}

// annotations returns those of an OCI configuration; of one that can't be read, none.
func annotations(file string) *strictjson.Object {
	none, _ := strictjson.Parse([]byte("{}"))
	data, err := input.Read(file, maxBundle)
	if err != nil {
		return none
	}
	doc, err := strictjson.ParseLarge(data, maxBundle)
	if err != nil {
		return none
	}
	if notes := doc.Object("annotations"); notes != nil {
		return notes
	}
	return none
}
