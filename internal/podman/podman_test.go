package podman

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	for data, want := range map[string]map[string]string{
		`[{"id":"a1","names":["web","other"],"image":"i","created":"2026-01-01T00:00:00Z","flags":{"x":{"y":[1,null]}}},{"id":"a2","names":[]},{"id":"a3"}]`: {"a1": "web"},
		`[{"id":"a1","names":["\u001b[31m"]}]`: {},
		`[{"id":"a1","names":["web"]`:          {},
		`{}`:                                   {},
		``:                                     {},
	} {
		got := map[string]string{}
		if read([]byte(data), got); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", data, got, want)
		}
	}
}

// Names of pods are those of the kubelet, in CRI-O's storage as well as in containerd's
// bundles; what is no name stays out.
func TestPods(t *testing.T) {
	all := map[string]string{}
	read([]byte(`[{"id":"p1","names":["k8s_POD_web-0_shop_6f1c-uid_0"]},{"id":"p2","names":["k8s_app_web-0_shop_uid_0"]}]`), all)
	dir := t.TempDir()
	for path, config := range map[string]string{
		"k8s.io/p3":     `{"ociVersion":"1.0.2","process":{"oomScoreAdj":-998},"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"db-0","io.kubernetes.cri.sandbox-namespace":"shop"}}`,
		"k8s.io/c1":     `{"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-name":"db-0"}}`,
		"k8s.io/p4":     `{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"\u001b[2J"}}`,
		"default/n1":    `{"annotations":{"nerdctl/name":"web"}}`,
		"default/n2":    `{"annotations":{}}`,
		"default/n3":    `{`,
		"default/n\x1b": `{}`,
	} {
		bundle := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(bundle, 0o700), os.WriteFile(filepath.Join(bundle, "config.json"), []byte(config), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	containerd(dir, all)
	want := map[string]string{"p1": "shop/web-0", "p2": "k8s_app_web-0_shop_uid_0", "p3": "shop/db-0", "default-n1": "web", "default-n2": "n2", "default-n3": "n3"}
	if !maps.Equal(all, want) {
		t.Errorf("%v, want %v", all, want)
	}
}
