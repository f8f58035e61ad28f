package host

import (
	"fmt"
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
		named := tt.kind == "veth" && tt.alias != "" && tt.alias != "mine"
		if got := Attached(links, key.Network, []model.Key{key}); got != (has != 0 && tt.name != "recorded" || named) {
			t.Errorf("%+v: attached %v", tt, got)
		}
	}
}

// Beside links that are surely another network's, the question whether any link is a network's
// takes no longer with many keys: each of many DELs at once asks it.
func TestAttachedBesideOthers(t *testing.T) {
	var links []rtnl.Link
	var keys []model.Key
	for i := range 10 {
		key := model.Key{Network: "other", ContainerID: fmt.Sprint(i), IfName: "eth0"}
		mark := key.Mark()
		links = append(links, rtnl.Link{Name: fmt.Sprint("fn-", i), Kind: "veth", MAC: mark[:], Alias: model.Owner{Key: key}.Alias()})
		keys = append(keys, model.Key{Network: "flatnet", ContainerID: fmt.Sprint(i), IfName: "eth0"})
	}
	attached := false
	few := testing.AllocsPerRun(10, func() { attached = attached || Attached(links, "flatnet", nil) })
	many := testing.AllocsPerRun(10, func() { attached = attached || Attached(links, "flatnet", keys) })
	if attached || many != few {
		t.Errorf("attached: %v; %v allocations without keys, %v with", attached, few, many)
	}
}
