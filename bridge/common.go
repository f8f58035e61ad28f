package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"flatnet/internal/strictjson"
)

// A network's record is what its attachments have in common on the host beside
// its rules: see [Network.common].

// networkFile is the name of the record in the network's directory. Names of
// other records have a colon.
const networkFile = "bridge"

func (r records) networkFile(network string) string {
	return filepath.Join(r.dir, network, networkFile)
}

// saveNetwork records what a network's attachments have in common, unless that
// is recorded already. Of several subnets, some may have no container yet: their
// gateways are added by the attachments that make them.
func (r records) saveNetwork(a Attachment, br bridgeState) {
	if r.dir == "" || len(a.Addresses) == 0 && !a.NoAddress { // more is known when there are
		return
	}
	copy(a.BridgeMAC[:], br.MAC)
	file := r.networkFile(a.Key.Network)
	old, err := os.ReadFile(file)
	if err == nil {
		if o, perr := strictjson.Parse(old); perr == nil {
			if have, derr := decodeCommon(o); derr == nil && have.Bridge == a.Bridge {
				for _, gw := range have.Gateways {
					if len(a.Siblings) == 0 || slices.Contains(a.Siblings, gw) { // else the configuration has changed
						a.addGateway(gw)
					}
				}
			}
		}
	}
	if data := encodeCommon(a); !bytes.Equal(data, old) {
		r.write(file, data)
	}
}

// networks reads all networks' records. What can't be read is reported in the
// error, and the rest is returned all the same.
func (r records) networks() (all []Attachment, err error) {
	if r.dir == "" { // else the working directory's files would be read
		return nil, nil
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "*", networkFile))
	for _, file := range files {
		o, rerr := r.read(file)
		if errors.Is(rerr, fs.ErrNotExist) {
			continue
		}
		if rerr == nil {
			var a Attachment
			if a, rerr = decodeCommon(o); rerr == nil {
				a.Key.Network = filepath.Base(filepath.Dir(file))
				all = append(all, a)
				continue
			}
			rerr = fmt.Errorf("%s: %w", file, rerr)
		}
		err = errors.Join(err, rerr)
	}
	return all, err
}

// common is what the attachments of a network have in common; without a record,
// nothing but the network.
func (r records) common(network string) Attachment {
	all, _ := r.networks() // of what can't be read, a reload tells
	for _, a := range all {
		if a.Key.Network == network {
			return a
		}
	}
	return Attachment{Key: Key{Network: network}}
}

func encodeCommon(a Attachment) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	w.String("bridge", a.Bridge)
	w.String("mac", a.BridgeMAC.String())
	w.Uint("mtu", uint64(a.MTU))
	w.Uint("group", uint64(a.Group))
	w.Strings("gateways", texts(a.Gateways, netip.Prefix.String))
	w.Strings("routed", texts(a.Routed, netip.Prefix.String))
	w.Bool("promisc", a.PromiscMode)
	w.Bool("hairpin", a.HairpinMode)
	w.Bool("portIsolation", a.PortIsolated)
	w.Bool("macspoofchk", a.SpoofCheck)
	w.Uint("vlan", uint64(a.VLANs.ID))
	w.Strings("vlanTrunk", texts(a.VLANs.Trunk, func(id uint16) string { return strconv.Itoa(int(id)) }))
	w.Bool("preserveDefaultVlan", a.VLANs.KeepDefault)
	w.End('}')
	return w.Bytes
}

// texts are the list's elements as strings, sorted as these.
func texts[T any](list []T, text func(T) string) []string {
	all := make([]string, 0, len(list))
	for _, v := range list {
		all = append(all, text(v))
	}
	slices.Sort(all)
	return all
}

func decodeCommon(o *strictjson.Object) (a Attachment, err error) {
	a.Bridge, _ = o.String("bridge")
	if err := ValidIfName(a.Bridge); err != nil {
		o.Fail("bridge", "%w", err)
	}
	if mac, _ := o.String("mac"); mac != (HardwareAddr{}).String() {
		if a.BridgeMAC, err = ParseHardwareAddr(mac); err != nil {
			o.Fail("mac", "%w", err)
		}
	}
	mtu, _ := o.Uint("mtu", math.MaxUint32)
	group, _ := o.Uint("group", math.MaxUint32)
	a.MTU, a.Group = uint32(mtu), uint32(group)
	for _, text := range o.Strings("gateways") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			o.Fail("gateways", "%w", err)
			continue
		}
		a.addGateway(p)
	}
	for _, text := range o.Strings("routed") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			o.Fail("routed", "%w", err)
		}
		a.Routed = append(a.Routed, p)
	}
	a.Siblings = a.Gateways
	a.PromiscMode, a.HairpinMode, a.PortIsolated = o.Bool("promisc", false), o.Bool("hairpin", false), o.Bool("portIsolation", false)
	a.SpoofCheck = o.Bool("macspoofchk", false)
	id, _ := o.Uint("vlan", maxVLAN)
	a.VLANs = VLANs{ID: uint16(id), KeepDefault: o.Bool("preserveDefaultVlan", false)}
	for _, text := range o.Strings("vlanTrunk") {
		id, err := strconv.ParseUint(text, 10, 16)
		if err != nil || id > maxVLAN {
			o.Fail("vlanTrunk", "%q is no VLAN", text)
		}
		a.VLANs.Trunk = append(a.VLANs.Trunk, uint16(id))
	}
	slices.Sort(a.VLANs.Trunk)
	return a, o.Err()
}

// maxVLAN is the last that IEEE 802.1Q has room for.
const maxVLAN = 4094
