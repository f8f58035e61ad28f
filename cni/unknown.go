package cni

import (
	"fmt"
	"slices"
	"strings"

	"flatnet/internal/strictjson"
)

// topKeys are the keys of a configuration: of the SPEC (1.1.0, section 1 and 4)
// and CONVENTIONS.md, and flatnet's own.
func topKeys() []string {
	return []string{
		"cniVersion", "name", "type", "args", "capabilities", "dns", "ipam", "prevResult", "runtimeConfig",
		"cni.dev/valid-attachments", "cni.dev/attachments",
		"bridge", "mtu", "isGateway", "isDefaultGateway", "ipMasq", "ipMasqBackend", "noMasq", "forceAddress", "isolation", "internal", "inbound", "allowOverlap",
		"portIsolation", "macspoofchk", "forwardAccept", "vlan", "vlanTrunk", "preserveDefaultVlan", "enabledad",
		"disableContainerInterface", "dnsEnabled", "hairpinMode", "promiscMode",
	}
}

// ipamKeys are those of the ipam object of flatnet's own address management.
func ipamKeys() []string {
	return append(rangeKeys(), "type", "ranges", "routes", "resolvConf", "dataDir")
}

func rangeKeys() []string { return []string{"subnet", "rangeStart", "rangeEnd", "gateway"} }

func routeKeys() []string {
	return []string{"dst", "gw", "mtu", "advmss", "priority", "table", "scope"}
}

// oddKeys returns a sentence for each key of a configuration that may be a
// mistake. Unknown keys are no errors, since other plugins may read them; these
// look like known ones.
func oddKeys(doc *strictjson.Object, own bool) []string {
	var odd []string
	look := func(place string, o *strictjson.Object, known, elsewhere []string) {
		for key := range o.All() {
			if why := oddKey(key, known, elsewhere); why != "" {
				odd = append(odd, fmt.Sprintf("%s%.60q %s", place, key, why))
			}
		}
	}
	if doc.Has("plugins") {
		odd = append(odd, `"plugins" means nothing here: this looks like a whole conflist, of which a plugin gets only its own element`)
	}
	ipam := doc.Object("ipam")
	if !own {
		look("", doc, topKeys(), nil)
		return odd
	}
	look("", doc, topKeys(), ipamKeys())
	look("ipam: ", ipam, ipamKeys(), topKeys())
	for _, set := range ipam.ObjectLists("ranges") {
		for _, r := range set {
			look("ipam.ranges: ", r, rangeKeys(), nil)
		}
	}
	for _, r := range ipam.Objects("routes") {
		look("ipam.routes: ", r, routeKeys(), nil)
	}
	return odd
}

// oddKey returns why a key looks like a mistake, or "".
func oddKey(key string, known, elsewhere []string) string {
	if slices.Contains(known, key) {
		return ""
	}
	same := func(k string) bool { return strings.EqualFold(k, key) }
	if i := slices.IndexFunc(known, same); i >= 0 {
		return fmt.Sprintf("is read as %q", known[i])
	}
	if slices.ContainsFunc(elsewhere, same) {
		if slices.Contains(elsewhere, "rangeStart") {
			return "means nothing here; it belongs into the ipam object"
		}
		return "means nothing in the ipam object; it belongs beside that"
	}
	for _, k := range known {
		if near(strings.ToLower(key), strings.ToLower(k)) {
			return fmt.Sprintf("means nothing to flatnet; did you mean %q?", k)
		}
	}
	return ""
}

// near reports whether two words differ by one letter that is missing, too much,
// wrong or swapped with the next, or if they are long by two.
func near(a, b string) bool {
	limit := 1
	if min(len(a), len(b)) >= 8 {
		limit = 2
	}
	if len(a) > len(b)+limit || len(b) > len(a)+limit {
		return false
	}
	return distance(a, b) <= limit
}

// distance counts the differences between two words: the optimal string
// alignment distance.
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			wrong := 1
			if a[i-1] == b[j-1] {
				wrong = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+wrong)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
