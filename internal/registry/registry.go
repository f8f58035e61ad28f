// Package registry tells registries, such as the gateways of other hosts, which containers
// this host has. They may be down, slow or hostile: nothing that they do fails a call, and
// all of them together delay it by a second at most.
package registry

import (
	"fmt"
	"time"

	"flatnet/bridge/model"
	"flatnet/internal/span"
	"flatnet/internal/strictjson"
)

// wait bounds a call's connections to registries, all together.
const wait = time.Second

// maxPorts bounds the ports of an entry.
const maxPorts = 1000

// Added registers an attachment that has been made. It warns of registries that did not
// take it.
func Added(c *model.Config, result *model.Result, warn func(string)) {
	if len(c.Span.Registry) == 0 || len(result.IPs) == 0 {
		return
	}
	body := encode(c, result, uint64(time.Now().Unix()))
	tell(c, "POST", []string{""}, body, warn)
}

// Removed removes the entry of a container whose attachment was removed, unless it has
// another one on the network.
func Removed(c *model.Config, alloc model.Allocator, warn func(string)) {
	Collected(c, []model.Key{c.Request.Key}, alloc, warn)
}

func removeAll(c *model.Config, ids []string, warn func(string)) {
	if len(c.Span.Registry) > 0 && len(ids) > 0 {
		tell(c, "DELETE", ids, nil, warn)
	}
}

// Leased lists the keys of a network whose containers are registered, to compare with later.
func Leased(c *model.Config, alloc model.Allocator) []model.Key {
	if len(c.Span.Registry) == 0 {
		return nil
	}
	keys, err := alloc.Keys()
	if err != nil { // the removal reports it
		return nil
	}
	return keys
}

// Collected removes the entries of containers of before that have no lease any more. An
// entry is a container's, whatever the number of its interfaces. If the leases can't be
// read, it sends nothing.
func Collected(c *model.Config, before []model.Key, alloc model.Allocator, warn func(string)) {
	if len(before) == 0 || len(c.Span.Registry) == 0 {
		return
	}
	left, err := alloc.Keys()
	if err != nil {
		return
	}
	keep := map[string]bool{}
	for _, key := range left {
		keep[key.ContainerID] = true
	}
	var gone []string
	for _, key := range before {
		if !keep[key.ContainerID] {
			keep[key.ContainerID] = true // named only once
			gone = append(gone, key.ContainerID)
		}
	}
	removeAll(c, gone, warn)
}

// tell sends a request for each ID to each registry, and warns once of each that did not
// take all of them. One that is listed twice gets each once.
func tell(c *model.Config, method string, ids []string, body []byte, warn func(string)) {
	end := time.Now().Add(wait)
	var servers []*server
	known := map[span.Endpoint]bool{}
	for _, url := range c.Span.Registry {
		e, err := span.ParseEndpoint(url)
		if err != nil {
			warn(err.Error())
		} else if !known[e] {
			known[e] = true
			servers = append(servers, &server{url: url, endpoint: e, method: method, body: body, ids: ids})
		}
	}
	run(servers, end)
	for _, s := range servers {
		if s.failed > 0 {
			warn(fmt.Sprintf("registry %s: %s failed for %d of %d containers, which work without it: %s; "+
				"see whether the registry is up, or set registryEnabled to false", s.url, method, s.failed, len(ids), s.problem))
		}
	}
}

// encode returns the entry of an attachment, as the gateways of the seed's project have it.
func encode(c *model.Config, result *model.Result, now uint64) []byte {
	var w strictjson.Writer
	w.Begin("", '{')
	w.String("id", c.Request.Key.ContainerID)
	w.String("ip", result.IPs[0].Address.Addr().String())
	w.Begin("ips", '[')
	for _, ip := range result.IPs {
		w.String("", ip.Address.Addr().String())
	}
	w.End(']')
	if len(c.Request.Names) > 0 {
		w.String("hostname", c.Request.Names[0])
	}
	seen := map[uint16]bool{}
	w.Begin("ports", '[')
	for _, p := range c.Request.Ports[:min(len(c.Request.Ports), maxPorts)] {
		if !seen[p.ContainerPort] {
			w.Uint("", uint64(p.ContainerPort))
		}
		seen[p.ContainerPort] = true
	}
	w.End(']')
	if c.Span.HostID != 0 {
		w.Uint("hostId", uint64(c.Span.HostID))
	}
	w.String("network", c.Network.Name)
	w.String("createdAt", stamp(now))
	w.End('}')
	return w.Bytes
}

// stamp returns a time of 1970 or later, in seconds since then, as RFC 3339 has it in UTC.
// (The time package's own brings along all time zones.) Years begin in March, so that the
// leap day is the last of them.
func stamp(seconds uint64) string {
	const secondsADay, of400Years, toEra = 24 * 60 * 60, 146097, 719468 // days since 1 March of the year 0
	day, second := seconds/secondsADay+toEra, seconds%secondsADay
	era, day := day/of400Years, day%of400Years
	year := (day - day/1460 + day/36524 - day/146096) / 365 // a leap year each 4, but not 100, but 400
	day -= 365*year + year/4 - year/100
	month := (5*day + 2) / 153 // of 5 months each, 30 and 31 days in turn
	day -= (153*month + 2) / 5
	year, month = year+400*era, month+3
	if month > 12 {
		year, month = year+1, month-12
	}
	return fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", year, month, day+1, second/3600, second/60%60, second%60)
}
