package report

import (
	"fmt"
	"net/netip"
	"strings"

	"flatnet/bridge/model"
)

// A span is a range of ports that leads to a range of the same length.
type span struct {
	host, protocol string
	first, to      uint16
	n              int
}

// PortTexts returns published ports as people write them: those of both
// families once, and consecutive ones as a range.
func PortTexts(published []model.Publication) (texts []string) {
	var spans []span
	seen := map[span]bool{} // a port of both families
	for _, p := range published {
		if !p.Host.IsValid() {
			continue // closed, not published
		}
		host := ""
		if !p.Everywhere() {
			host = netip.AddrPortFrom(p.Host.Addr(), 0).String()
			host = strings.TrimSuffix(host, "0")
		}
		s := span{host, model.ProtocolName(p.Protocol), p.Host.Port(), p.Target.Port(), 1}
		if seen[s] {
			continue
		}
		seen[s] = true
		if n := len(spans); n > 0 && spans[n-1].precedes(s) {
			spans[n-1].n++
			continue
		}
		spans = append(spans, s)
	}
	for _, s := range spans {
		texts = append(texts, fmt.Sprintf("%s%s->%s/%s", s.host, ending(s.first, s.n), ending(s.to, s.n), s.protocol))
	}
	return texts
}

func (s span) precedes(o span) bool {
	return s.host == o.host && s.protocol == o.protocol && int(o.first)-int(s.first) == s.n && int(o.to)-int(s.to) == s.n
}

// ending returns the n ports from first on.
func ending(first uint16, n int) string {
	if n == 1 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, int(first)+n-1)
}
