package prebuilt

import (
	"slices"
	"strconv"
	"strings"
)

// A Target is a machine that a package is installed on, in Node's words.
type Target struct {
	Platform string // "linux", "darwin", "win32"
	Arch     string // "x64", "arm64"
	Libc     string // "glibc" or "musl" on Linux, else empty
}

// Targets are the machines that are asked about unless others are named: those
// for which Node itself is published, with Alpine Linux beside the others.
var Targets = []Target{
	{"linux", "x64", "glibc"}, {"linux", "x64", "musl"},
	{"linux", "arm64", "glibc"}, {"linux", "arm64", "musl"},
	{"darwin", "x64", ""}, {"darwin", "arm64", ""},
	{"win32", "x64", ""},
}

// A Node is a release line of Node.js.
type Node struct {
	ABI  string // NODE_MODULE_VERSION, process.versions.modules
	NAPI int    // the highest Node-API version, process.versions.napi
}

// Nodes are the release lines that are asked about unless others are named:
// those with long-term support, 22 and 24.
var Nodes = []Node{{"127", 10}, {"137", 10}}

// abiOf holds NODE_MODULE_VERSION by major version (Node.js,
// doc/abi_version_registry.json).
var abiOf = map[int]string{
	4: "46", 5: "47", 6: "48", 7: "51", 8: "57", 9: "59", 10: "64", 11: "67", 12: "72", 13: "79", 14: "83", 15: "88", 16: "93",
	17: "102", 18: "108", 19: "111", 20: "115", 21: "120", 22: "127", 23: "131", 24: "137", 25: "141",
}

// abiFor returns the NODE_MODULE_VERSION that a target of Node means: the
// number itself, or that of the release line; empty if it is not known.
func abiFor(target string) string {
	if _, err := strconv.Atoi(target); err == nil {
		return target
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(target, "v"), ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return ""
	}
	return abiOf[n]
}

// best returns the highest of a package's Node-API versions that a release
// line has, or 0.
func best(offered []int, node Node) int {
	out := 0
	for _, v := range offered {
		if v <= node.NAPI {
			out = max(out, v)
		}
	}
	return out
}

// distinct returns a list without repetitions, in its order.
func distinct[T comparable](list []T) []T {
	var out []T
	for _, v := range list {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}
