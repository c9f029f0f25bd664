package source

import (
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// A platform is what a build is for, in the words of Node: linux-x64-musl,
// darwin-arm64, win32-ia32. An empty field means any.
type platform struct{ os, cpu, libc string }

// aliases are other people's words for the same things.
var aliases = map[string]string{
	"windows": "win32", "win": "win32", "macos": "darwin", "macosx": "darwin",
	"amd64": "x64", "x86_64": "x64", "x86": "ia32", "i686": "ia32", "i386": "ia32", "386": "ia32",
	"aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "ppc64le": "ppc64", "loongarch64": "loong64",
	"gnu": "glibc", "wasm": "wasm32",
}

var (
	systems = []string{"linux", "darwin", "win32", "android", "freebsd", "openbsd", "netbsd", "sunos", "aix", "cygwin", "openharmony", "emscripten", "wasi", "ios"}
	cpus    = []string{"x64", "ia32", "arm", "arm64", "ppc64", "s390x", "riscv64", "loong64", "mips", "mipsel", "mips64", "mips64el", "ppc", "s390", "wasm32"}
	libcs   = []string{"glibc", "musl"}
)

// parsePlatform reads OS-CPU-LIBC; any part may be missing.
func parsePlatform(s string) (p platform, ok bool) {
	s = strings.ToLower(s)
	s = strings.ReplaceAll(s, "x86_64", "x64") // the one name with a separator in it
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == '/' || r == '_' }) {
		if alias, known := aliases[word]; known {
			word = alias
		}
		switch {
		case p.os == "" && slices.Contains(systems, word):
			p.os = word
		case p.cpu == "" && slices.Contains(cpus, word):
			p.cpu = word
		case p.libc == "" && slices.Contains(libcs, word):
			p.libc = word
		default:
			return platform{}, false
		}
	}
	return p, p != platform{}
}

// hostPlatform is the platform of this machine.
func hostPlatform() platform {
	p := platform{os: runtime.GOOS, cpu: runtime.GOARCH}
	for _, field := range []*string{&p.os, &p.cpu} {
		if alias, ok := aliases[*field]; ok {
			*field = alias
		}
	}
	if p.os == "linux" {
		p.libc = libcOf(os.DirFS("/"))
	}
	return p
}

// libcOf says what the C library of a Linux system is, by the loaders that it
// has. Beside glibc's there may be musl's, to build for other systems, and
// beside musl's one that takes glibc's name: a link, or that of gcompat.
func libcOf(root fs.FS) string {
	loaders := func(patterns ...string) (found []string) {
		for _, p := range patterns {
			names, _ := fs.Glob(root, p)
			found = append(found, names...)
		}
		return found
	}
	// s390x and older ports call glibc's ld64.so.
	glibc := slices.ContainsFunc(loaders("lib64/ld-linux*.so.*", "lib/ld-linux*.so.*", "lib64/ld64.so.*", "lib/ld64.so.*"), func(name string) bool {
		to, err := fs.ReadLink(root, name)
		return err != nil || !strings.Contains(to, "musl") && !strings.Contains(to, "gcompat")
	})
	if loaders("lib/ld-musl-*.so.1") == nil || glibc && loaders("lib/libgcompat.so*") == nil {
		return "glibc"
	}
	return "musl"
}

// A choice says for which platforms a package's builds are wanted: one of the
// words, or a list.
type choice struct {
	word string // "", "all", "host" or "none"; "" leaves it to the source
	list []string
}

// parseChoice reads --platform: all, host, none, or names separated by commas.
func parseChoice(s string) (choice, error) {
	switch s {
	case "", "all", "host", "none":
		return choice{word: s}, nil
	}
	var c choice
	for name := range strings.SplitSeq(s, ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			c.list = append(c.list, name)
		}
	}
	if len(c.list) == 0 {
		return choice{}, badPlatform("", s)
	}
	return c, nil
}

// CheckPlatform says whether list is what --platform takes for packages of an
// ecosystem, without asking anybody: all, host, none, names of platforms or,
// for PyPI, tags of wheels. The error is a fault of kind Invalid that names
// what is allowed.
func CheckPlatform(eco target.Ecosystem, list string) error {
	c, err := parseChoice(list)
	if err != nil {
		return badPlatform(eco, list)
	}
	for _, name := range c.list {
		if _, ok := parsePlatform(name); !ok && (eco != target.PyPI || !isPlatformTag(name)) {
			return badPlatform(eco, name)
		}
	}
	return nil
}

func badPlatform(eco target.Ecosystem, s string) error {
	help := "use all, host, none or names like linux-x64, linux-x64-musl, darwin-arm64 and win32-x64"
	if eco == target.PyPI {
		help = "use all, host, none, names like linux-x64, linux-x64-musl, darwin-arm64 and win32-x64," +
			" or wheel tags like manylinux_2_17_x86_64, musllinux_1_2_aarch64, macosx_11_0_arm64, win_amd64 and any"
	}
	return fault.New(fault.Invalid, "%q is not a platform", oneLine(s)).Try("%s", help)
}

// A constraint is the os, cpu and libc fields of a package.json: lists of
// names, or of names with "!" before them that are excluded.
type constraint struct{ os, cpu, libc []string }

func (c constraint) any() bool { return len(c.os)+len(c.cpu)+len(c.libc) > 0 }

// admits reports whether the package may be installed on p, as npm's
// install-checks do. An empty field of p asks nothing.
func (c constraint) admits(p platform) bool {
	return listed(c.os, p.os) && listed(c.cpu, p.cpu) && listed(c.libc, p.libc)
}

func listed(list []string, value string) bool {
	if value == "" || len(list) == 0 || len(list) == 1 && list[0] == "any" {
		return true
	}
	match, negated := false, 0
	for _, entry := range list {
		if name, not := strings.CutPrefix(entry, "!"); not {
			if name == value {
				return false
			}
			negated++
		} else if entry == value {
			match = true
		}
	}
	return match || negated == len(list)
}

// String writes the constraint like a platform: linux-x64-musl. Several values
// of a field are joined by "+".
func (c constraint) String() string {
	var parts []string
	for _, list := range [][]string{c.os, c.cpu, c.libc} {
		if len(list) > 0 {
			parts = append(parts, strings.Join(list, "+"))
		}
	}
	return strings.Join(parts, "-")
}
