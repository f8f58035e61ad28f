package cli

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

func TestParsePorts(t *testing.T) {
	for text, want := range map[string]string{
		"8080:80":                   "tcp 8080 80",
		"8080":                      "tcp 8080 0",
		"53:53/udp":                 "udp 53 53",
		"53/SCTP":                   "sctp 53 0",
		"127.0.0.1:8080:80":         "tcp 127.0.0.1 8080 80",
		"127.0.0.1:8080":            "tcp 127.0.0.1 8080 0",
		"[2001:db8::1]:8080:80/tcp": "tcp 2001:db8::1 8080 80",
		"[::]:8080":                 "tcp :: 8080 0",
		"[::ffff:192.0.2.1]:1:2":    "tcp 192.0.2.1 1 2",
		"80-82":                     "tcp 80 0, tcp 81 0, tcp 82 0",
		"80-81:90-91/udp":           "udp 80 90, udp 81 91",
		"65535":                     "tcp 65535 0",

		"":                   `"" is no port from 1 to 65535`,
		":80":                `"" is no port`,
		"80:":                `"" is no port`,
		"0":                  `"0" is no port`,
		"65536":              `"65536" is no port`,
		"+1":                 `"+1" is no port`,
		"http":               `"http" is no port`,
		"82-80":              "82-80 ends before it begins",
		"80-82:90-91":        "80-82 are 3 ports and 90-91 are 2",
		"80-":                `"" is no port`,
		"80/icmp":            `"icmp" is none of tcp, udp, sctp`,
		"localhost:8080:80":  `"localhost" is not an IP address`,
		"1.2.3:8080":         `"1.2.3" is not an IP address`,
		"224.0.0.1:80:80":    "224.0.0.1 is a multicast address",
		"[fe80::1%eth0]:1:2": "has a zone",
		"2001:db8::1:1:2":    "must be in brackets",
		"::1:80":             "must be in brackets",
		"[::1:80":            `port "[::1:80": `,
	} {
		ports, err := parsePorts(text)
		var all []string
		for _, p := range ports {
			words := []string{model.ProtocolName(p.Protocol)}
			if p.HostIP.IsValid() {
				words = append(words, p.HostIP.String())
			}
			all = append(all, strings.Join(append(words, fmt.Sprint(p.HostPort), fmt.Sprint(p.ContainerPort)), " "))
		}
		got := strings.Join(all, ", ")
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != want || err != nil && !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// A fakePublisher says what it is asked for.
type fakePublisher struct{ said []string }

func (p *fakePublisher) Publish(key model.Key, further []model.PortMapping) error {
	p.said = append(p.said, fmt.Sprint("+", key, further))
	return nil
}

func (p *fakePublisher) Unpublish(keys []model.Key, leaves func(model.Publication) bool) error {
	for _, port := range []string{"0.0.0.0:8080", "[::]:8080", "0.0.0.0:8081", "127.0.0.1:53"} {
		for _, protocol := range []uint8{model.TCP, model.UDP} {
			pub := model.Publication{Protocol: protocol, Host: netip.MustParseAddrPort(port), Target: netip.MustParseAddrPort("10.87.1.2:80")}
			if leaves(pub) {
				p.said = append(p.said, fmt.Sprint("-", keys, pub))
			}
		}
	}
	return nil
}

func TestPublishCommands(t *testing.T) {
	web := "flatnet/0123456789abcdef/eth0"
	for _, tt := range []struct {
		args, stdout, stderr string
		asked                []string
	}{
		{"publish", "flatnet  0123456789ab  web   8080-8081->80-81/tcp\n", "no record of other/db/eth1", nil},
		{"publish db", "NETWORK  CONTAINER  NAME  PORT\n", "no record of other/db/eth1", nil},
		{"publish web --json", `"name": "web"`, "", nil},
		{"publish web 8080:80", "published 8080->80/tcp of web in network flatnet\n", "", []string{"+" + web + " [{6 invalid IP 8080 80}]"}},
		{"publish 0123 127.0.0.1:53/udp", "published 127.0.0.1:53->53/udp of web", "", []string{"+" + web + " [{17 127.0.0.1 53 53}]"}},
		{"publish web --network flatnet 1", "", "", []string{"+" + web + " [{6 invalid IP 1 1}]"}},
		{"publish web --network other 1", "", `web is not on network "other", but on flatnet`, nil},
		{"publish web --json 1", "", "--json is for listing", nil},
		{"publish wbe 1", "", `no attached container has the name or ID "wbe"; is "web" meant?`, nil},
		{"publish web x", "", `port "x": "x" is no port`, nil},
		{`unpublish "" --all`, "", "an argument is empty", nil}, // as of a variable that is not set
		{`publish "" 9000:80`, "", "an argument is empty", nil},
		{"unpublish", "", "it needs CONTAINER", nil},
		{"unpublish web", "", "name the ports, or all of them by --all", nil},
		{"unpublish web 8080 --all", "", "name the ports, or all", nil},
		{"unpublish db --all", "", "no record of other/db/eth1", nil},
		{"unpublish web 8080", "unpublished 8080->80/tcp of web", "",
			[]string{"-[" + web + "] host port 0.0.0.0:8080/tcp", "-[" + web + "] host port [::]:8080/tcp"}},
		{"unpublish web 0.0.0.0:8080:80", "unpublished 8080->80/tcp of web", "", []string{"-[" + web + "] host port 0.0.0.0:8080/tcp"}},
		{"unpublish web 53", "", "web does not publish 53/tcp; it publishes 8080-8081->80-81/tcp, 127.0.0.1:53->53/udp", nil},
		{"unpublish web 8080:81", "", "web does not publish 8080->81/tcp; it", nil},
		{"unpublish web [::1]:8080", "", "web does not publish [::1]:8080/tcp; it", nil},
	} {
		var out, err strings.Builder
		p := &fakePublisher{}
		names := func() map[string]string { return map[string]string{"0123456789abcdef": "web"} }
		args := strings.Fields(strings.ReplaceAll(tt.args, `""`, "EMPTY"))
		for i := range args {
			args[i] = strings.TrimPrefix(args[i], "EMPTY")
		}
		status := Main(&Call{Args: args, Host: fakeHost{}, Inventory: fakeInventory{}, Names: names, Publisher: p, Stdout: &out, Stderr: &err})
		if !strings.Contains(out.String(), tt.stdout) || !strings.Contains(err.String(), tt.stderr) || (status != 0) != (tt.stderr != "") ||
			!slices.Equal(p.said, tt.asked) {
			t.Errorf("flatnet %s: %d, %s%s%q", tt.args, status, out.String(), err.String(), p.said)
		}
	}
}

// What a word may mean is listed, and not too much of it.
func TestIdentify(t *testing.T) {
	var all []*model.Attachment
	names := map[string]string{"ab1": "web", "ab2": "ab1x", "c0": "abc"}
	for _, id := range []string{"ab1", "ab1", "ab2", "c0"} {
		all = append(all, &model.Attachment{Key: model.Key{Network: "n", ContainerID: id}})
	}
	for i := range 20 {
		all = append(all, &model.Attachment{Key: model.Key{ContainerID: fmt.Sprintf("d%02d", i)}})
	}
	c := &Call{Inventory: fakeInventory{}, Names: func() map[string]string { return names }}
	for word, want := range map[string]string{
		"web": "ab1", "ab1": "ab1", "ab2": "ab2", "c": "c0", "abc": "c0", "d07": "d07",
		"ab": `"ab" may be 2 containers: ab1 web, ab2 ab1x`,
		"d":  `"d" may be 20 containers: d00, d01, d02, d03, d04, d05, d06, d07, d08, d09, 10 more`,
		"x":  `no attached container has the name or ID "x"`,
	} {
		id, err := c.identify(word, all)
		if err != nil {
			id = err.Error()
		}
		if id != want {
			t.Errorf("%s: %s, want %s", word, id, want)
		}
	}
}
