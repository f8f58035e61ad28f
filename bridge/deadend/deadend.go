// Package deadend takes away the routes of a container by which packets go nowhere:
// blackhole, unreachable and prohibit. They are no interface's, so they stay when that
// goes, and a container that is disconnected from a network would keep them.
package deadend

import (
	"errors"

	"flatnet/bridge/link"
	"flatnet/bridge/model"
	"flatnet/rtnl"

	"golang.org/x/sys/unix"
)

// Remove deletes those of the routes that go nowhere from the namespace at a path, which
// must not be the host's own: only what an ADD has made, by the route's metric. What does not exist is no error, nor is a namespace that is
// gone.
func Remove(netns string, routes []model.Route) error {
	var inside *link.Sandbox
	var errs []error
	for _, r := range routes {
		if r.Type == 0 {
			continue
		}
		if inside == nil {
			var err error
			if inside, err = link.Enter(netns); errors.Is(err, model.ErrNoContainer) {
				return nil
			} else if err != nil {
				return err
			}
			defer inside.Close()
		}
		err := inside.DeleteRoute(rtnl.Route{Dst: r.Dst, Type: r.Type, Priority: r.Priority, Protocol: link.DeadEnd})
		if err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
