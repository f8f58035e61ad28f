// Cnirun does with a network what a container runtime does, by the reference
// library:
//
//	cnirun add|check|del CONFLIST ID NETNS [RUNTIMECONFIG]
//	cnirun gc CONFLIST
//
// Gc calls no attachment valid, as cnitool's does. The runtime configuration is JSON, of which each plugin gets what it declares
// to be capable of. CNI_PATH says where plugins are.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 && (len(args) != 2 || args[0] != "gc") {
		return fmt.Errorf("usage: cnirun add|check|del CONFLIST ID NETNS [RUNTIMECONFIG], or cnirun gc CONFLIST")
	}
	list, err := libcni.ConfListFromFile(args[1])
	if err != nil {
		return err
	}
	cni := libcni.NewCNIConfigWithCacheDir(filepath.SplitList(os.Getenv("CNI_PATH")), "/var/lib/cni", nil)
	ctx := context.Background()
	if args[0] == "gc" {
		return cni.GCNetworkList(ctx, list, nil)
	}
	rt := &libcni.RuntimeConf{ContainerID: args[2], NetNS: args[3], IfName: "eth0"}
	if len(args) > 4 {
		if err := json.Unmarshal([]byte(args[4]), &rt.CapabilityArgs); err != nil {
			return err
		}
	}
	switch args[0] {
	case "add":
		result, err := cni.AddNetworkList(ctx, list, rt)
		if err != nil {
			return err
		}
		return result.PrintTo(os.Stdout)
	case "check":
		return cni.CheckNetworkList(ctx, list, rt)
	case "del":
		return cni.DelNetworkList(ctx, list, rt)
	}
	return fmt.Errorf("no such verb: %s", args[0])
}
