// Package oddkeys finds keys of a CNI configuration that may be mistakes. Unknown keys are no
// errors, since other plugins and runtimes may read them; these resemble known ones.
package oddkeys

import (
	"fmt"
	"slices"
	"strings"

	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
)

// Top lists the keys of a configuration: of the SPEC (1.1.0, section 1 and 4) and
// CONVENTIONS.md, and flatnet's own.
func Top() []string {
	return []string{
		"cniVersion", "name", "type", "args", "capabilities", "dns", "ipam", "prevResult", "runtimeConfig",
		"cni.dev/valid-attachments", "cni.dev/attachments",
		"bridge", "mtu", "isGateway", "isDefaultGateway", "ipMasq", "ipMasqBackend", "noMasq", "forceAddress",
		"isolation", "internal", "inbound", "allowOverlap", "portIsolation", "macspoofchk", "forwardAccept",
		"vlan", "vlanTrunk", "preserveDefaultVlan", "enabledad", "disableContainerInterface", "dnsEnabled",
		"hairpinMode", "promiscMode", "peers", "hostId", "subnetFile", "registryEndpoints", "registryEnabled",
	}
}

// IPAM lists those of the ipam object of flatnet's own address management.
func IPAM() []string {
	return append(Range(), "type", "ranges", "routes", "resolvConf", "dataDir", "hostId", "subnetFile")
}

// Range lists those of a range.
func Range() []string { return []string{"subnet", "rangeStart", "rangeEnd", "gateway"} }

// Route lists those of a route.
func Route() []string {
	return []string{"dst", "gw", "mtu", "advmss", "priority", "table", "scope"}
}

// capabilities lists those of CONVENTIONS.md, and Podman's and the CRI's: what a runtime
// gives in runtimeConfig if the configuration declares it.
func capabilities() []string {
	return []string{"portMappings", "ipRanges", "bandwidth", "dns", "ips", "mac", "aliases", "cgroupPath", "infinibandGUID", "deviceID"}
}

// A level is an object of the configuration: its keys, those that belong elsewhere, and a
// hint where.
type level struct {
	known, elsewhere []string
	hint             string
	exact            bool // others read it, who tell capitals apart
	free             bool // others have keys of their own in it
	// other are words that mean the same elsewhere, in small letters, and the known keys.
	other map[string]string
}

// A finder looks through one configuration; own: with flatnet's own address management.
type finder struct {
	own   bool
	found []string
}

// level returns the object at a path, and whether it is one whose keys are known.
func (f *finder) level(path string) (level, bool) {
	switch path {
	case "":
		if f.own {
			return level{known: Top(), elsewhere: IPAM(), hint: "here; it belongs into the ipam object"}, true
		}
		return level{known: Top()}, true
	case "ipam":
		return level{known: IPAM(), elsewhere: Top(), hint: "in the ipam object; it belongs beside that"}, f.own
	case "ipam.ranges", "runtimeConfig.ipRanges":
		return level{known: Range()}, true
	case "ipam.routes":
		other := map[string]string{"gateway": "gw", "via": "gw", "destination": "dst", "to": "dst", "metric": "priority"}
		return level{known: Route(), other: other}, true
	case "args":
		return level{known: []string{"cni"}, free: true}, true
	case "args.cni":
		return level{known: []string{"ips", "mac", "labels"}}, true
	case "capabilities":
		return level{known: capabilities(), exact: true}, true
	case "runtimeConfig":
		return level{known: capabilities()}, true
	case "runtimeConfig.portMappings":
		return level{known: []string{"hostPort", "containerPort", "protocol", "hostIP"}}, true
	case "runtimeConfig.bandwidth":
		return level{known: []string{"ingressRate", "ingressBurst", "egressRate", "egressBurst"}}, true
	case "runtimeConfig.dns":
		return level{known: []string{"servers", "searches", "options"}}, true
	case "dns":
		return level{known: []string{"nameservers", "domain", "search", "options"}}, true
	case "vlanTrunk":
		return level{known: []string{"minID", "maxID", "id"}}, true
	}
	return level{}, false
}

// Find returns a sentence for each key that may be a mistake. With another plugin's address
// management, which is not own, the ipam object is that one's.
func Find(doc *strictjson.Object, own bool) []string {
	f := finder{own: own}
	if doc.Has("plugins") {
		f.found = append(f.found, `"plugins" means nothing here: `+
			"this looks like a whole conflist, of which a plugin gets only its own element")
	}
	f.look("", doc)
	return f.found
}

// someElements is how many elements of a list are looked at: a program makes long ones, and
// the same mistake in each.
const someElements = 8

// look looks at an object and below, or at the objects of a list, or of lists.
func (f *finder) look(path string, value any) {
	switch v := value.(type) {
	case *strictjson.Object:
		if l, ok := f.level(path); ok {
			f.keys(path, &l, v)
		}
	case []any:
		for _, e := range v[:min(len(v), someElements)] {
			f.look(path, e)
		}
	}
}

func (f *finder) keys(path string, l *level, o *strictjson.Object) {
	for key, value := range o.All() {
		if !l.free {
			f.judge(path, l, key)
		}
		switch value.(type) {
		case *strictjson.Object, []any:
			i := slices.IndexFunc(l.known, func(k string) bool { return strings.EqualFold(k, key) })
			if i >= 0 {
				f.look(strings.TrimPrefix(path+"."+l.known[i], "."), value)
			}
		}
	}
}

// judge adds a sentence about a key, unless it is what it should be, or the sentence is there.
func (f *finder) judge(path string, l *level, key string) {
	why := fields.Suspicion(key, l.known, l.elsewhere, l.hint)
	if known := l.other[strings.ToLower(key)]; why == "" && known != "" {
		why = fmt.Sprintf("means nothing to flatnet; did you mean %q?", known)
	}
	if why == "" {
		return
	}
	if known, ok := strings.CutPrefix(why, "is read as "); ok && l.exact {
		why = "means nothing to runtimes; did you mean " + known + "?"
	}
	if path != "" {
		path += ": "
	}
	if text := fmt.Sprintf("%s%.60q %s", path, key, why); !slices.Contains(f.found, text) {
		f.found = append(f.found, text)
	}
}
