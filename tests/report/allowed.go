package main

// allowed names the tests that may be skipped, each with its reason.
var allowed = map[string]string{
	"TestKernels":                         "qemu and Debian's kernels come from mirrors, which a machine may not reach",
	"TestSeccompChildrenProfile":          otherDebian,
	"TestEmbeddingDocument":               otherDebian,
	"TestInitramfs":                       "qemu and Debian's kernels come from mirrors, which a machine may not reach",
	"TestPodman":                          otherDebian,
	"TestPodmanPublishes":                 otherDebian,
	"TestPodmanWithAChain":                otherDebian,
	"TestBuildah":                         otherDebian,
	"TestNetavarkPodman":                  otherDebian,
	"TestNetavarkPorts":                   otherDebian,
	"TestNetavarkPodmanSid":               otherDebian,
	"TestNetavarkPortsSid":                otherDebian,
	"TestDemo":                            otherDebian,
	"TestNames":                           otherDebian,
	"TestListenerThatIsPodmans":           otherDebian,
	"TestPodmanRemovesWhileTheLockIsHeld": otherDebian,

	"TestNetavarkPodman6":        otherDebian,
	"TestNetavarkPorts6":         otherDebian,
	"TestMirroredPodman":         otherDebian,
	"TestWSL2Document":           otherDebian,
	"TestUninstallWithPodman":    otherDebian,
	"TestInstallChoosesTheDoors": otherDebian,

	"TestFlannel":       engines,
	"TestNebula":        engines,
	"TestDebianPackage": otherDebian,
	"TestSystemdUnit":   otherDebian,

	"TestRecipesPodman":   otherDebian,
	"TestRecipeFlannel":   engines,
	"TestRecipeNebula":    engines,
	"TestRecipeWireGuard": engines,

	"TestNetavarkVLANsShareABridge": "a kernel may lack VLAN filtering",

	"TestInstallDocuments": otherDebian,
	"TestTroublesOfPodman": otherDebian,
	"TestTroubles":         inject,

	"TestRootlessPodman":    otherDebian,
	"TestRootlessPodmanSid": otherDebian,
	"TestRootlessPodmanCNI": otherDebian,

	"TestRootless":            userNamespaces,
	"TestRootlessDirectories": userNamespaces,

	"TestFullDisk": "its file system on a file needs a loop device, which a container may lack",

	"TestFaultAtEverySystemCall": inject,
	"TestFailedADDLeavesNothing": inject,
	"TestKilledAnywhere":         inject,
	"TestLastBesideKilledADDs":   inject,
	"TestReloadBesideAFlush":     inject,
	"TestSTATUSWithoutNFTables":  inject,

	"TestForeignChangeAtEveryMessage": inject,
	"TestFlushAtEveryMessageOfAnADD":  inject,
	"TestPortIsClaimedAtEveryMessage": inject,
}

const inject = "its tool knows the system calls of amd64 only"

const engines = "flannel, etcd and Nebula come from a mirror and the Go module proxy, which a machine may not reach"

const userNamespaces = "a machine may refuse them to ordinary users"

const otherDebian = "the Podmans of all Debian suites come from a mirror, which a machine may not reach"
