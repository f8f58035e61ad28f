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
		"bridge", "mtu", "isGateway", "isDefaultGateway", "ipMasq", "ipMasqBackend", "noMasq", "forceAddress",
		"isolation", "internal", "inbound", "allowOverlap", "portIsolation", "macspoofchk", "forwardAccept",
		"vlan", "vlanTrunk", "preserveDefaultVlan", "enabledad", "disableContainerInterface", "dnsEnabled",
		"hairpinMode", "promiscMode",
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

// suspiciousKeys returns a sentence for each key of a configuration that may be a
// mistake. Unknown keys are no errors, since other plugins may read them; these
// resemble known ones.
func suspiciousKeys(doc *strictjson.Object, own bool) (found []string) {
	look := func(place string, o *strictjson.Object, known, elsewhere []string, hint string) {
		for key := range o.All() {
			if why := suspicion(key, known, elsewhere, hint); why != "" {
				found = append(found, fmt.Sprintf("%s%.60q %s", place, key, why))
			}
		}
	}
	if doc.Has("plugins") {
		found = append(found, `"plugins" means nothing here: `+
			"this looks like a whole conflist, of which a plugin gets only its own element")
	}
	if !own {
		look("", doc, topKeys(), nil, "")
		return found
	}
	ipam := doc.Object("ipam")
	look("", doc, topKeys(), ipamKeys(), "here; it belongs into the ipam object")
	look("ipam: ", ipam, ipamKeys(), topKeys(), "in the ipam object; it belongs beside that")
	for _, set := range ipam.ObjectLists("ranges") {
		for _, r := range set {
			look("ipam.ranges: ", r, rangeKeys(), nil, "")
		}
	}
	for _, r := range ipam.Objects("routes") {
		look("ipam.routes: ", r, routeKeys(), nil, "")
	}
	return found
}

// suspicion returns why a key looks like a mistake, or "".
func suspicion(key string, known, elsewhere []string, hint string) string {
	same := func(k string) bool { return strings.EqualFold(k, key) }
	similar := func(k string) bool {
		changes := 1
		if min(len(k), len(key)) >= 8 {
			changes = 2
		}
		return within(changes, strings.ToLower(k), strings.ToLower(key))
	}
	if slices.Contains(known, key) {
		return ""
	}
	if i := slices.IndexFunc(known, same); i >= 0 {
		return fmt.Sprintf("is read as %q", known[i])
	}
	if slices.ContainsFunc(elsewhere, same) {
		return "means nothing " + hint
	}
	if i := slices.IndexFunc(known, similar); i >= 0 {
		return fmt.Sprintf("means nothing to flatnet; did you mean %q?", known[i])
	}
	return ""
}

// within reports whether n changes turn a into b: a letter that is missing, too
// much, wrong or swapped with the next.
func within(n int, a, b string) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	if n == 0 || a == "" || b == "" {
		return len(a)+len(b) <= n
	}
	swapped := len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0]
	return swapped && within(n-1, a[2:], b[2:]) ||
		within(n-1, a[1:], b) || within(n-1, a, b[1:]) || within(n-1, a[1:], b[1:])
}
