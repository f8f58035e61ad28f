package plan

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"

	"flatnet/internal/input"
	"flatnet/internal/report"
	"flatnet/internal/strictjson"
)

// maxConfigured bounds how many configurations are tried.
const maxConfigured = 100

// Configured tries the configurations of all networks that a runtime of CNI or Podman would
// find, and returns what an ADD and STATUS of each would report. It skips files that are not
// flatnet's.
func (p Planner) Configured() (all []report.Configured) {
	seen := map[string]bool{}
	for _, path := range append(files(p.CNI, ".conf", ".conflist", ".json"), files(p.Podman, ".json")...) {
		s, err := read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) || err != nil && (s.doc != nil || !mentioned(path)) || seen[s.network]:
			continue
		case err != nil:
			all = append(all, report.Configured{Path: path, Failed: err})
		default:
			seen[s.network] = true
			all = append(all, p.try(s))
		}
		if len(all) == maxConfigured {
			break
		}
	}
	return all
}

// mentioned reports whether a file that can't be parsed may be flatnet's.
func mentioned(path string) bool {
	data, _ := input.Read(path, strictjson.MaxSize)
	return bytes.Contains(data, []byte(`"`+plugin+`"`))
}

func (p Planner) try(s source) report.Configured {
	made := &Plan{source: s}
	failed := p.make(made)
	if failed != nil && made.failed != nil {
		failed = made.failed
	}
	var subnets []netip.Prefix
	if made.Attachment != nil {
		subnets = made.Attachment.Prefixes()
	}
	return report.Configured{Network: s.network, Path: s.path, Netavark: s.netavark, Subnets: subnets, Failed: failed, Status: made.status}
}
