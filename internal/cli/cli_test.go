package cli

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"flatnet/bridge/model"
)

// A fakeHost has two attachments, one of dual stack, and a link of which only
// the mark is known. A reload finds something to mend.
type fakeHost struct{ err error }

func (h fakeHost) Reload() ([]string, error) { return []string{"mended: x was y"}, h.err }

func (h fakeHost) Owners() ([]model.Owner, error) {
	return []model.Owner{
		{Key: model.Key{Network: "flatnet", ContainerID: "0123456789abcdef", IfName: "eth0"}, Link: "fn-01234567",
			Addresses: []netip.Addr{netip.MustParseAddr("10.87.1.2"), netip.MustParseAddr("fd87::2")}},
		{Link: "fn-fresh"},
		{Key: model.Key{Network: "other", ContainerID: "db", IfName: "eth1"}, Link: "fn-db"},
	}, h.err
}

func TestCommands(t *testing.T) {
	const table = "NETWORK  CONTAINER     INTERFACE  ADDRESSES          HOST INTERFACE\n" +
		"flatnet  0123456789ab  eth0       10.87.1.2,fd87::2  fn-01234567\n" +
		"other    db            eth1                          fn-db\n"
	sick := errors.New("the kernel is sick")
	for _, tt := range []struct {
		args           string
		err            error
		stdout, stderr string
		status         int
	}{
		{"", nil, usage + "\n", "", 0},
		{"help", nil, usage + "\n", "", 0},
		{"--help", nil, usage + "\n", "", 0},
		{"-h", nil, usage + "\n", "", 0},
		{"version", nil, "flatnet v1-test\n", "", 0},
		{"--version", nil, "flatnet v1-test\n", "", 0},
		{"list", nil, table, "", 0},
		{"list", sick, "", "flatnet: the kernel is sick\n", 1},
		{"reload", nil, "mended: x was y\n", "", 0},
		{"reload", sick, "mended: x was y\n", "flatnet: the kernel is sick\n", 1},
		{"list all", nil, "", "flatnet list takes no argument, got \"all\"\n", 2},
		{"frobnicate", nil, "", "flatnet has no command \"frobnicate\"\n\n" + usage + "\n", 2},
	} {
		var stdout, stderr strings.Builder
		status := Main(strings.Fields(tt.args), "v1-test", fakeHost{tt.err}, &stdout, &stderr)
		if status != tt.status || stdout.String() != tt.stdout || stderr.String() != tt.stderr {
			t.Errorf("flatnet %s: %d\n%s%s", tt.args, status, stdout.String(), stderr.String())
		}
	}
}
