package host

import (
	"testing"

	"flatnet/bridge/model"
	"flatnet/rtnl"
)

// Of two containers whose IDs begin alike, one may have the name that the other could have.
func TestFindBySigns(t *testing.T) {
	key := model.Key{Network: "flatnet", ContainerID: "container-1", IfName: "eth0"}
	other := model.Key{Network: "flatnet", ContainerID: "container-2", IfName: "eth0"}
	mark, otherMark, none := key.Mark(), other.Mark(), []byte{2, 0, 0, 0, 0, 1}
	alias, otherAlias := model.Owner{Key: key}.Alias(), model.Owner{Key: other}.Alias()
	for _, tt := range []struct {
		name, kind string
		mac        []byte
		alias      string
		want       Signs
	}{
		{"fn-containe", "veth", mark[:], alias, AllSigns},
		{"fn-containe", "veth", none, alias, ByName | ByAlias},
		{"fn-containe", "veth", mark[:], "mine", ByName | ByMAC},
		{"fn-containe", "veth", none, "mine", ByName},
		{"recorded", "veth", none, "", ByName},
		{"fn-x", "veth", mark[:], "", ByMAC},
		{"fn-x", "veth", none, alias, ByAlias},
		{"fn-x", "veth", none, "", 0},
		{"fn-containe", "dummy", mark[:], alias, 0},
		{"fn-containe", "veth", otherMark[:], otherAlias, 0},
		{"fn-containe", "veth", mark[:], otherAlias, ByName | ByMAC},
	} {
		links := []rtnl.Link{{Name: "lo"}, {Name: "tun", Kind: "tun"}, {Name: tt.name, Kind: tt.kind, MAC: tt.mac, Alias: tt.alias}}
		l, has := NewIndex(links).Find(key, "recorded")
		if has != tt.want || (l.Name == tt.name) != (has != 0) {
			t.Errorf("%+v: %s, %b", tt, l.Name, has)
		}
		recorded := map[model.Key]*model.Attachment{key: {HostEnd: "recorded"}}
		if got := Living(links, recorded); got != (has != 0) {
			t.Errorf("%+v: living %v", tt, got)
		}
	}
}
