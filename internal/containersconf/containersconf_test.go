package containersconf

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	for text, want := range map[string]string{
		"": "{podman 10.88.0.0/16  [] []}",
		"[network]\n# default_subnet = \"10.1.0.0/16\"\ndefault_subnet = \"10.2.0.0/16\" # mine\n[engine]\ndefault_subnet = \"10.3.0.0/16\"": "{podman 10.2.0.0/16  [] []}",
		"[network]\ndefault_network = 'mine'\n": "{mine 10.88.0.0/16  [] []}",
		"[network]\ndefault_subnet_pools = [{\"base\" = \"10.4.0.0/16\", \"size\" = 24},\n  {base = \"10.6.0.0/15\", size = 24}, # more\n]\ndefault_subnet=\"10.5.0.0/24\"": "{podman 10.5.0.0/24  [] []}",
		"[network]\ndefault_subnet_pools = []\ndefault_network=\"x\"": "{x 10.88.0.0/16  [] []}",
		"[network]\nnetwork_backend = \"cni\"\n":                      "{podman 10.88.0.0/16 cni [] []}",
		"[network]\ncni_plugin_dirs = [\n  \"/a\", # first\n  '/b',\n]\nnetavark_plugin_dirs=[\"/c\"]\n[engine]\ncni_plugin_dirs=[\"/d\"]": "{podman 10.88.0.0/16  [/a /b] [/c]}",
		"[network]\ncni_plugin_dirs = [\"/a\"]\ncni_plugin_dirs = [\"/b\", { append = true }]":                                             "{podman 10.88.0.0/16  [/a /b] []}",
		"[network]\ncni_plugin_dirs = [\"/a\"]\ncni_plugin_dirs = [\"/b\", {append=false}]":                                                "{podman 10.88.0.0/16  [/b] []}",
		"[network]\ncni_plugin_dirs = [\"/a\"":       "{podman 10.88.0.0/16  [] []}",
		"default_subnet = \"10.3.0.0/16\"\n[network": "{podman 10.88.0.0/16  [] []}",
	} {
		file := filepath.Join(t.TempDir(), "containers.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("CONTAINERS_CONF", file)
		if got := fmt.Sprint(Read("/", "")); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
