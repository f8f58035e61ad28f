package cni

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flatnet/internal/strictjson"
)

func TestSuspiciousKeys(t *testing.T) {
	for keys, want := range map[string]string{
		`"ipmasq":true`:                                    `"ipmasq" is read as "ipMasq"`,
		`"ipMaqs":true`:                                    `did you mean "ipMasq"?`,
		`"isolaton":"x"`:                                   `did you mean "isolation"?`,
		`"isDefaultGatway":true`:                           `did you mean "isDefaultGateway"?`,
		`"subnet":"10.87.1.0/24"`:                          `"subnet" means nothing here; it belongs into the ipam object`,
		`"ranges":[]`:                                      `"ranges" means nothing here`,
		`"plugins":[{}]`:                                   "whole conflist",
		`"ipam":{"subnett":"10.87.1.0/24"}`:                `ipam: "subnett" means nothing to flatnet; did you mean "subnet"?`,
		`"ipam":{"rangestart":"10.87.1.9"}`:                `ipam: "rangestart" is read as "rangeStart"`,
		`"ipam":{"mtu":1400}`:                              `ipam: "mtu" means nothing in the ipam object; it belongs beside that`,
		`"ipam":{"ranges":[[{"subnet":"x","gatway":""}]]}`: `ipam.ranges: "gatway" means nothing to flatnet; did you mean "gateway"?`,
		`"ipam":{"routes":[{"dts":"x"}]}`:                  `ipam.routes: "dts" means nothing to flatnet; did you mean "dst"?`,

		`"foo":1,"keyA":["x"],"master":"eth0","mode":"l2","ipMasqBackend":"nftables"`:    "",
		`"ipam":{"type":"host-local","subnet":"10.1.0.0/16","mtu":1}`:                    "",
		`"capabilities":{"portMappings":true},"args":{"cni":{}},"runtimeConfig":{}`:      "",
		`"ipam":{"subnet":"10.87.1.0/24","rangeStart":"x","resolvConf":"y","comment":1}`: "",
	} {
		doc, err := strictjson.Parse([]byte(`{"cniVersion":"1.0.0","name":"n","type":"flatnet",` + keys + `}`))
		if err != nil {
			t.Fatal(keys, err)
		}
		kind, _ := doc.Object("ipam").String("type")
		got := suspiciousKeys(doc, kind == "")
		if want == "" && got != nil || want != "" && (len(got) != 1 || !strings.Contains(got[0], want)) {
			t.Errorf("%s: %q, want %q", keys, got, want)
		}
	}
}

// Whatever key of the top level the package reads is in the table.
func TestAllKeysAreKnown(t *testing.T) {
	files, _ := filepath.Glob("*.go")
	reads := regexp.MustCompile(`(?:doc\.(?:Bool|Uint|String|Strings|Object|Objects)\(|fields\.[A-Za-z]+\(doc, )"([^"]+)"`)
	count := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range reads.FindAllStringSubmatch(string(source), -1) {
			if count++; !slices.Contains(topKeys(), m[1]) {
				t.Errorf("%s reads %q, which topKeys lacks", file, m[1])
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d keys were found", count)
	}
}
