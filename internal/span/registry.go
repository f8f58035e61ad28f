package span

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"flatnet/internal/fields"
	"flatnet/internal/strictjson"
)

// maxEndpoints bounds the registries, each of which is a connection.
const maxEndpoints = 16

// An Endpoint is where a registry takes entries: a POST to Path makes one, and a DELETE of
// one below it removes that.
type Endpoint struct {
	Addr netip.AddrPort
	Path string // begins with a slash
}

// ParseEndpoint reads http://ADDRESS:PORT/PATH, whose port is 80 by default. Names are not
// resolved: that could take longer than everything else.
func ParseEndpoint(s string) (e Endpoint, err error) {
	const form = "http://10.100.1.1:8080/api/containers or http://[fd00::1]:8080/api/containers"
	rest, ok := strings.CutPrefix(s, "http://")
	if _, werr := fields.ParseWord(s); werr != nil || !ok {
		return e, fmt.Errorf("%.80q is not of the form %s", s, form)
	}
	host, path, _ := strings.Cut(rest, "/")
	if strings.ContainsFunc(path, func(r rune) bool { return !inPath(r) }) {
		return e, fmt.Errorf("%.80q: the path may have letters, digits, slashes and %s only", s, otherInPath)
	}
	e.Path = "/" + path
	if addr, aerr := netip.ParseAddr(strings.Trim(host, "[]")); aerr == nil && (host[0] == '[') == addr.Is6() {
		e.Addr = netip.AddrPortFrom(addr, 80)
	} else if e.Addr, err = netip.ParseAddrPort(host); err != nil {
		return e, fmt.Errorf("%.80q has no numeric address in the form %s", s, form)
	}
	a := e.Addr.Addr()
	switch {
	case a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast():
		return e, fmt.Errorf("%.80q: %s is not the address of a server, which it must be without a zone", s, a)
	case e.Addr.Port() == 0:
		return e, fmt.Errorf("%.80q: port 0 is none", s)
	}
	return e, nil
}

// otherInPath are the characters of a path besides letters, digits and slashes (RFC 3986,
// section 3.3).
const otherInPath = "-._~!$&'()*+,;=:@%"

func inPath(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '/' || strings.ContainsRune(otherInPath, r)
}

func parseEndpoint(s string) (string, error) {
	_, err := ParseEndpoint(s)
	return s, err
}

// readRegistry reads the registries of a CNI configuration, which are told of containers
// unless registryEnabled is false.
func readRegistry(doc *strictjson.Object) []string {
	list := fields.Texts(doc, "registryEndpoints", parseEndpoint)
	enabled := doc.Bool("registryEnabled", true)
	switch {
	case len(list) > maxEndpoints:
		doc.Fail("registryEndpoints", "%d are more than %d", len(list), maxEndpoints)
		return nil
	case enabled && len(list) == 0 && doc.NonZero("registryEnabled") && doc.Strings("registryEndpoints") == nil:
		doc.Fail("registryEnabled", "requires registryEndpoints")
	case !enabled:
		return nil
	}
	return list
}

// ParseEndpoints reads a list of endpoints that are separated by commas.
func ParseEndpoints(text string) (list []string, err error) {
	for s := range strings.SplitSeq(text, ",") {
		s, perr := parseEndpoint(strings.TrimSpace(s))
		list, err = append(list, s), errors.Join(err, perr)
	}
	if len(list) > maxEndpoints {
		err = fmt.Errorf("%d endpoints are more than %d", len(list), maxEndpoints)
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}
