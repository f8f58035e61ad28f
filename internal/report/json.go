package report

import (
	"math"
	"net/netip"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/strictjson"
)

// ListJSON returns attachments as flatnet list prints them for programs.
func ListJSON(all []*Attachment) string {
	var w strictjson.Writer
	w.Lines = true
	w.Begin("", '[')
	for _, a := range all {
		w.Begin("", '{')
		writeKey(&w, a.Key, a.Name)
		writeAddrs(&w, "addresses", a.Addresses)
		w.Begin("ports", '[')
		for _, p := range a.Ports {
			writePort(&w, p)
		}
		w.End(']')
		w.String("hostInterface", a.HostEnd)
		if !a.Since.IsZero() {
			w.String("since", a.Since.UTC().Format(time.RFC3339))
		}
		w.String("state", a.State)
		if a.Repair != "" {
			w.String("repair", a.Repair)
		}
		w.End('}')
	}
	w.End(']')
	return string(w.Bytes)
}

func writeKey(w *strictjson.Writer, key model.Key, name string) {
	w.String("network", key.Network)
	w.String("container", key.ContainerID)
	w.String("name", name)
	w.String("interface", key.IfName)
}

func writePort(w *strictjson.Writer, p model.Publication) {
	if !p.Host.IsValid() {
		return // closed, not published
	}
	w.Begin("", '{')
	w.String("hostIP", p.Host.Addr().String())
	w.Uint("hostPort", uint64(p.Host.Port()))
	w.Uint("containerPort", uint64(p.Target.Port()))
	w.String("protocol", model.ProtocolName(p.Protocol))
	w.End('}')
}

func writeAddrs(w *strictjson.Writer, key string, addrs []netip.Addr) {
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	w.Strings(key, texts)
}

// StatusJSON returns networks as flatnet status prints them for programs.
func StatusJSON(all []*Network) string {
	var w strictjson.Writer
	w.Lines = true
	w.Begin("", '[')
	for _, n := range all {
		w.Begin("", '{')
		w.String("network", n.Name)
		w.String("bridge", n.Bridge)
		w.Strings("gateways", n.Gateways())
		w.Uint("attachments", uint64(len(n.Attachments)))
		w.Begin("pools", '[')
		for _, p := range n.Pools {
			w.Begin("", '{')
			w.String("subnet", p.Prefix.String())
			w.Uint("used", p.Used)
			if p.Free != math.MaxUint64 { // else there are more than any counter has
				w.Uint("free", p.Free)
			}
			w.End('}')
		}
		w.End(']')
		if n.Rules >= 0 {
			w.Uint("missingRules", uint64(n.Rules))
		}
		w.String("state", n.State)
		if n.Status != "" {
			w.String("status", n.Status)
		}
		w.End('}')
	}
	w.End(']')
	return string(w.Bytes)
}

// Gateways returns the addresses of the bridge.
func (n *Network) Gateways() (all []string) {
	for _, p := range n.GatewayPrefixes() {
		all = append(all, p.Addr().String())
	}
	return all
}

// GarbageJSON returns leftovers as flatnet gc prints them for programs.
func GarbageJSON(found []*Leftover, removed bool) string {
	var w strictjson.Writer
	w.Lines = true
	w.Begin("", '[')
	for _, l := range found {
		w.Begin("", '{')
		writeKey(&w, l.Key, l.Name)
		w.String("kind", l.Kind)
		w.String("what", l.What)
		if l.Kept != "" {
			w.String("kept", l.Kept)
		}
		w.Bool("removed", removed && l.Kept == "")
		w.End('}')
	}
	w.End(']')
	return string(w.Bytes)
}
