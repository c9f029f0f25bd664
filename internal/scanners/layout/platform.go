package layout

import (
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// A platform is what a name says of the machines that a file is for. Either
// half may be empty; several are alternatives ("darwin-x64+arm64").
type platform struct {
	word  string // the part of the path that says so
	oses  []string
	archs []string
}

func (p platform) String() string {
	return strings.Join(append(slices.Clone(p.oses), p.archs...), " ")
}

// osWords are the names of systems in folders of npm and Python packages, Go
// and Rust, and the systems that they stand for.
var osWords = map[string]string{
	"linux": "linux", "linuxmusl": "linux", "linuxglibc": "linux", "manylinux": "linux", "musllinux": "linux", "android": "android",
	"darwin": "darwin", "macos": "darwin", "macosx": "darwin", "osx": "darwin", "ios": "ios",
	"win32": "windows", "win64": "windows", "windows": "windows",
	"freebsd": "freebsd", "openbsd": "openbsd", "netbsd": "netbsd",
}

// archWords are the names of instruction sets.
var archWords = map[string]string{
	"x64": "x86_64", "amd64": "x86_64", "x86_64": "x86_64", "ia32": "x86", "x86": "x86", "i386": "x86", "i586": "x86", "i686": "x86", "386": "x86",
	"arm64": "aarch64", "aarch64": "aarch64", "armv7": "arm", "armv7l": "arm", "armv6": "arm", "armhf": "arm", "armv7hf": "arm", "arm": "arm",
	"riscv64": "riscv64", "riscv64gc": "riscv64", "ppc64le": "ppc64le", "powerpc64le": "ppc64le", "ppc64": "ppc64", "s390x": "s390x", "loong64": "loongarch64", "loongarch64": "loongarch64",
	"mips64el": "mips64", "mips64": "mips64", "mipsel": "mips", "mips": "mips",
	"wasm32": "wasm32",
}

// saidPlatform returns what the last part of a path that names a system says.
// A part counts only if a system and nothing but words of platforms stand in
// it, as in "linux-x64-musl" or "addon.win32-x64-msvc.node"; "windows" in
// "windows-terminal" is a word like any other.
func saidPlatform(name string) platform {
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '/' || r == '!' })
	for i, part := range slices.Backward(parts) {
		candidates := []string{part}
		if i == len(parts)-1 { // of a file's name, a piece between dots
			candidates = strings.Split(strings.TrimSuffix(part, path.Ext(part)), ".")
		}
		for _, c := range candidates {
			if p, ok := readPlatform(c); ok {
				return p
			}
		}
	}
	return platform{}
}

// fillers may stand beside systems and instruction sets.
var fillers = []string{"gnu", "musl", "glibc", "msvc", "gnueabihf", "musleabihf", "gnueabi", "eabi", "unknown", "pc", "apple", "simulator", "v6", "v7", "v8", "napi", "node", "electron", "lib", "libc", "bin"}

func readPlatform(word string) (platform, bool) {
	p := platform{word: word}
	split := func(r rune) bool { return r == '-' || r == '+' || r == '_' || r == '.' }
	word = strings.ReplaceAll(strings.ToLower(word), "x86_64", "x64")
	for w := range strings.FieldsFuncSeq(word, split) {
		switch {
		case osWords[w] != "":
			p.oses = append(p.oses, osWords[w])
		case archWords[w] != "":
			p.archs = append(p.archs, archWords[w])
		case slices.Contains(fillers, w) || strings.Trim(w, "0123456789v") == "":
		default:
			return platform{}, false
		}
	}
	return p, len(p.oses) > 0
}

// formats are the formats that a system runs.
var formats = map[string]string{
	"linux": "ELF", "android": "ELF", "freebsd": "ELF", "openbsd": "ELF", "netbsd": "ELF",
	"darwin": "Mach-O", "ios": "Mach-O", "windows": "PE",
}

// alsoFits are instruction sets that pass for another: 64-bit Windows runs
// 32-bit programs, and Node.js calls both byte orders of POWER ppc64.
var alsoFits = [][2]string{{"x86", "x86_64"}, {"ppc64le", "ppc64"}}

// fits reports whether a binary is for one of the systems and instruction sets
// that a name says. WebAssembly runs everywhere, and a universal file may hold
// more than its folder promises.
func (p platform) fits(b *inventory.Binary) bool {
	if len(p.oses) == 0 || b.Format == "Wasm" {
		return true
	}
	if !slices.ContainsFunc(p.oses, func(os string) bool { return formats[os] == b.Format }) {
		return false
	}
	return len(p.archs) == 0 || slices.Contains(p.archs, b.Arch) || b.Format == "Mach-O" ||
		slices.ContainsFunc(alsoFits, func(pair [2]string) bool { return pair[0] == b.Arch && slices.Contains(p.archs, pair[1]) })
}
