// Package model has the words of flatnet's domain, without any system call.
package model

import "flatnet/bridge"

type (
	Network      = bridge.Network
	Subnet       = bridge.Subnet
	Route        = bridge.Route
	DNS          = bridge.DNS
	Request      = bridge.Request
	Bandwidth    = bridge.Bandwidth
	Limit        = bridge.Limit
	PortMapping  = bridge.PortMapping
	Lease        = bridge.Lease
	Address      = bridge.Address
	Local        = bridge.Local
	Locals       = bridge.Locals
	Allocator    = bridge.Allocator
	Result       = bridge.Result
	Interface    = bridge.Interface
	IP           = bridge.IP
	HardwareAddr = bridge.HardwareAddr
	Key          = bridge.Key
	Owner        = bridge.Owner
	VLANs        = bridge.VLANs
	PluginError  = bridge.PluginError
)

const (
	DefaultBridge = bridge.DefaultBridge
	DefaultSubnet = bridge.DefaultSubnet
	DefaultFlat   = bridge.DefaultFlat
	IfNameSize    = bridge.IfNameSize
)

var (
	ErrInvalid     = bridge.ErrInvalid
	ErrNoContainer = bridge.ErrNoContainer
	ErrNetNS       = bridge.ErrNetNS
	ErrBusy        = bridge.ErrBusy
	ErrExhausted   = bridge.ErrExhausted
	ErrTaken       = bridge.ErrTaken
	ErrConflict    = bridge.ErrConflict
	ErrUnsupported = bridge.ErrUnsupported
	ErrChanged     = bridge.ErrChanged
	ErrUnavailable = bridge.ErrUnavailable
	ErrLimited     = bridge.ErrLimited
)

// Errorf returns an error with the text of the format which is also of a kind.
func Errorf(kind error, format string, args ...any) error {
	return bridge.Errorf(kind, format, args...)
}

func NewKey(network, containerID, ifName string) (Key, error) {
	return bridge.NewKey(network, containerID, ifName)
}

func ParseHardwareAddr(s string) (HardwareAddr, error) { return bridge.ParseHardwareAddr(s) }
func ValidName(s string) error                         { return bridge.ValidName(s) }
func ValidContainerID(s string) error                  { return bridge.ValidContainerID(s) }
func ValidIfName(s string) error                       { return bridge.ValidIfName(s) }
