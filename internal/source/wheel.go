package source

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// A distFile is a file of an index whose name says what it is.
type distFile struct {
	indexFile
	version pyVersion
	wheel   *wheelTags // nil for a source distribution
}

// wheelTags is the compatibility part of a wheel's name, by the "Binary
// distribution format" specification (PEP 427) and "Platform compatibility
// tags" (PEP 425).
type wheelTags struct {
	build     string
	pythons   []string
	abis      []string
	platforms []string
}

var (
	distName   = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._+!-]*$`)
	sdistNames = []string{".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz"}
)

// parseDist reads the name of a file of a project. A file that is neither a
// wheel nor a source distribution of it is not ok.
func parseDist(f indexFile, project string, parse func(string) (pyVersion, error)) (d distFile, ok bool) {
	if !distName.MatchString(f.name) {
		return d, false
	}
	d.indexFile = f
	if stem, isWheel := strings.CutSuffix(f.name, ".whl"); isWheel {
		parts := strings.Split(stem, "-")
		if len(parts) != 5 && len(parts) != 6 || target.NormalizePyPI(parts[0]) != project {
			return d, false
		}
		tags := parts[len(parts)-3:]
		d.wheel = &wheelTags{
			pythons:   strings.Split(tags[0], "."),
			abis:      strings.Split(tags[1], "."),
			platforms: strings.Split(tags[2], "."),
		}
		if len(parts) == 6 {
			d.wheel.build = parts[2]
		}
		v, err := parse(strings.ReplaceAll(parts[1], "_", "-"))
		d.version = v
		return d, err == nil
	}
	for _, ending := range sdistNames {
		stem, isSource := strings.CutSuffix(f.name, ending)
		if !isSource {
			continue
		}
		// Names of old may hold dashes like the one before the version.
		for i := range len(stem) {
			if stem[i] == '-' && target.NormalizePyPI(stem[:i]) == project {
				if v, err := parse(stem[i+1:]); err == nil {
					d.version = v
					return d, true
				}
			}
		}
	}
	return d, false
}

// platform returns the platform tags as they stand in the name; empty for any.
func (w *wheelTags) platform() string {
	if w == nil || w.pure() {
		return ""
	}
	return strings.Join(w.platforms, ".")
}

func (w *wheelTags) pure() bool { return slices.Contains(w.platforms, "any") }

var platformTag = pattern.New(`^(manylinux|musllinux|macosx|android|ios|pyodide|emscripten|linux|win)(\d*)((?:_\d+)*)(?:_(.+))?$`)

var (
	// tagCPUs are the architectures that end platform tags.
	tagCPUs = []string{
		"x86_64", "amd64", "i386", "i486", "i586", "i686", "x86", "aarch64", "arm64", "arm32", "armv6l", "armv7l", "armv8l",
		"ppc", "ppc64", "ppc64le", "s390", "s390x", "riscv32", "riscv64", "loongarch64", "mips", "mips64", "mips64le", "sparc64", "ia64",
		"universal", "universal2", "intel", "fat", "fat3", "fat32", "fat64", "wasm32",
		"arm64_v8a", "armeabi_v7a", "arm64_iphoneos", "arm64_iphonesimulator", "x86_64_iphonesimulator",
	}

	// otherSystems begin tags that are made of whatever the system says of
	// itself.
	otherSystems = pattern.New(`^(freebsd|openbsd|netbsd|dragonfly|solaris|sunos|aix|cygwin|mingw)_[a-z0-9_]+$`)
)

// isPlatformTag reports whether s is a platform tag, or the beginning of some:
// manylinux_2_17_x86_64, manylinux2014, musllinux, any.
func isPlatformTag(s string) bool {
	if s == "any" || otherSystems.MatchString(s) {
		return true
	}
	m := platformTag.FindStringSubmatch(s)
	if m == nil || m[4] != "" && !slices.Contains(tagCPUs, m[4]) {
		return false
	}
	switch m[1] {
	case "manylinux":
		return m[2] == "" || m[2] == "1" || m[2] == "2010" || m[2] == "2014"
	case "win":
		return m[2] == "" && m[3] == "" || s == "win32"
	}
	return m[2] == ""
}

// family returns what a platform tag is for without how old a system it takes:
// "manylinux_x86_64" of manylinux_2_17_x86_64 and of manylinux2014_x86_64. The
// level is how new a system it needs.
func family(tag string) (name string, level int) {
	m := platformTag.FindStringSubmatch(tag)
	if m == nil || m[1] == "win" {
		return tag, 0
	}
	switch m[2] { // PEP 600, "Legacy manylinux tags"
	case "1":
		level = 2<<16 + 5
	case "2010":
		level = 2<<16 + 12
	case "2014":
		level = 2<<16 + 17
	}
	numbers := strings.Split(strings.TrimPrefix(m[3], "_"), "_")
	if major, err := strconv.ParseUint(numbers[0], 10, 12); err == nil {
		level = int(major) << 16
		if len(numbers) > 1 {
			if minor, err := strconv.ParseUint(numbers[1], 10, 16); err == nil {
				level += int(minor)
			}
		}
	}
	if m[4] == "" {
		return m[1], level
	}
	return m[1] + "_" + m[4], level
}

// families names all that a wheel is for, as one word.
func (w *wheelTags) families() (name string, level int) {
	var all []string
	for _, tag := range w.platforms {
		f, l := family(tag)
		all = append(all, f)
		level = max(level, l)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "+"), level
}

// fits reports whether a wheel is for p, or for one of a choice of tags.
func (w *wheelTags) fits(p platform) bool {
	for _, tag := range w.platforms {
		for _, q := range tagPlatforms(tag) {
			if (p.os == "" || p.os == q.os) && (p.cpu == "" || p.cpu == q.cpu) && (p.libc == "" || q.libc == "" || p.libc == q.libc) {
				return true
			}
		}
	}
	return false
}

// tagPlatforms says in our own words what a platform tag is for.
func tagPlatforms(tag string) []platform {
	name, _ := family(tag)
	if name == "win32" {
		return []platform{{os: "win32", cpu: "ia32"}}
	}
	system, cpu, ok := strings.Cut(name, "_")
	if !ok {
		return nil
	}
	p := platform{cpu: cmp.Or(aliases[cpu], cpu)}
	switch system {
	case "manylinux":
		p.os, p.libc = "linux", "glibc"
	case "musllinux":
		p.os, p.libc = "linux", "musl"
	case "macosx":
		p.os = "darwin"
		switch cpu {
		case "universal2":
			return []platform{{os: "darwin", cpu: "arm64"}, {os: "darwin", cpu: "x64"}}
		case "intel", "universal":
			return []platform{{os: "darwin", cpu: "x64"}, {os: "darwin", cpu: "ia32"}}
		}
	case "win":
		p.os = "win32"
	case "pyodide", "emscripten":
		p.os = "emscripten"
	default:
		p.os = system
	}
	return []platform{p}
}

// python returns the newest interpreter version that the wheel names, as
// major*100+minor, whether it is for CPython or any Python, and whether it is
// only for the free-threaded build.
func (w *wheelTags) python() (version int, common, free bool) {
	for _, tag := range w.pythons {
		name := strings.TrimRight(tag, "0123456789")
		if name != "cp" && name != "py" {
			continue
		}
		common = true
		if digits := tag[len(name):]; digits != "" {
			minor, _ := strconv.ParseUint(digits[1:], 10, 8)
			version = max(version, int(digits[0]-'0')*100+int(minor))
		}
	}
	free = !slices.ContainsFunc(w.abis, func(abi string) bool { return !strings.HasSuffix(abi, "t") })
	return version, common, free
}

// bound says how closely a wheel is bound to one Python: 2 to that version
// alone, 1 to the stable ABI, 0 not at all.
func (w *wheelTags) bound() int {
	switch {
	case slices.Contains(w.abis, "abi3"):
		return 1
	case slices.Contains(w.abis, "none"):
		return 0
	}
	return 2
}

// newestPython picks from wheels of one family the one for the newest Python:
// first for CPython, then its free-threaded build, then other interpreters. A
// wheel that runs on all later versions counts as one for the newest, but
// yields to one that is made for it. Of equals, the one for the newest system.
func newestPython(wheels []distFile) distFile {
	newest := 0
	for _, d := range wheels {
		if v, common, free := d.wheel.python(); common && !free {
			newest = max(newest, v)
		}
	}
	rank := func(d distFile) []int {
		v, common, free := d.wheel.python()
		kind := 0
		if common {
			kind = 2
			if free {
				kind = 1
			}
		}
		serves := v
		if kind == 2 && d.wheel.bound() < 2 && v >= 300 {
			serves = newest
		}
		_, level := d.wheel.families()
		build := strings.TrimRight(d.wheel.build, "abcdefghijklmnopqrstuvwxyz_")
		number, _ := strconv.Atoi(build)
		return []int{kind, serves, d.wheel.bound(), v, level, number}
	}
	return slices.MaxFunc(wheels, func(a, b distFile) int {
		return cmp.Or(slices.Compare(rank(a), rank(b)), cmp.Compare(a.name, b.name))
	})
}

// chooseFiles picks the files of one version that are to be looked at, sorted
// by name with source distributions last. left names the families of wheels
// that the choice leaves out, none the names in it that there is nothing for.
func chooseFiles(files []distFile, wanted choice) (chosen []distFile, left, none []string) {
	byFamily := map[string][]distFile{}
	var sources, pure []distFile
	for _, f := range files {
		switch {
		case f.wheel == nil:
			sources = append(sources, f)
		case f.wheel.pure():
			pure = append(pure, f)
		default:
			name, _ := f.wheel.families()
			byFamily[name] = append(byFamily[name], f)
		}
	}
	var native []distFile
	for _, group := range byFamily {
		native = append(native, newestPython(group))
	}
	native = slices.DeleteFunc(native, func(d distFile) bool { return covered(d, native) })
	slices.SortFunc(native, func(a, b distFile) int { return cmp.Compare(a.name, b.name) })
	var one []distFile // a pure wheel, else the source
	if len(pure) > 0 {
		one = []distFile{newestPython(pure)}
		pure = one
	}
	if len(sources) > 0 {
		slices.SortFunc(sources, func(a, b distFile) int { // .tar.gz before .zip
			return cmp.Or(cmp.Compare(sdistRank(a), sdistRank(b)), cmp.Compare(a.name, b.name))
		})
		sources = sources[:1]
		if one == nil {
			one = sources
		}
	}
	switch wanted.word {
	case "":
		if wanted.list != nil {
			chosen, none = wanted.wheels(pure, native, byFamily)
			break
		}
		fallthrough
	case "all":
		return slices.Concat(pure, native, sources), nil, nil
	case "host":
		chosen = bestFor(native, hostPlatform())
	}
	for _, f := range native {
		if !slices.ContainsFunc(chosen, func(c distFile) bool { return c.name == f.name }) {
			left = append(left, f.wheel.platform())
		}
	}
	if len(chosen) == 0 {
		chosen = one
	}
	return chosen, left, none
}

// covered reports whether a wheel for another interpreter than CPython is for
// platforms that a wheel for CPython is for as well.
func covered(d distFile, all []distFile) bool {
	if _, common, _ := d.wheel.python(); common {
		return false
	}
	for _, tag := range d.wheel.platforms {
		for _, p := range tagPlatforms(tag) {
			if !slices.ContainsFunc(all, func(o distFile) bool {
				_, common, _ := o.wheel.python()
				return common && o.wheel.fits(p)
			}) {
				return false
			}
		}
	}
	return true
}

func sdistRank(d distFile) int {
	return slices.IndexFunc(sdistNames, func(s string) bool { return strings.HasSuffix(d.name, s) })
}

// wheels returns those that a list names, and the names that no wheel has. What
// the one of a family that is looked at is not for, as the newest Python may
// have none for an old system, others of the family are asked for.
func (c choice) wheels(pure, native []distFile, families map[string][]distFile) (all []distFile, none []string) {
	for _, f := range slices.Concat(pure, native) {
		if slices.ContainsFunc(c.list, f.wheel.named) {
			all = append(all, f)
		}
	}
	for _, name := range c.list {
		named := func(f distFile) bool { return f.wheel.named(name) }
		if slices.ContainsFunc(all, named) {
			continue
		}
		found := false
		for _, group := range families {
			if fitting := slices.DeleteFunc(slices.Clone(group), func(f distFile) bool { return !named(f) }); len(fitting) > 0 {
				all = append(all, newestPython(fitting))
				found = true
			}
		}
		if !found {
			none = append(none, name)
		}
	}
	slices.SortFunc(all, func(a, b distFile) int {
		return cmp.Or(order(a.wheel.pure(), b.wheel.pure()), cmp.Compare(a.name, b.name))
	})
	return all, none
}

// order puts true before false.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// named reports whether a name in a list means the wheel: by a part of its
// platform tag, by the tag without the system's age, or by our own words.
func (w *wheelTags) named(name string) bool {
	if w.pure() || name == "any" {
		return w.pure() && name == "any"
	}
	if p, ok := parsePlatform(name); ok {
		return w.fits(p)
	}
	return strings.Contains(w.platform(), name) || slices.ContainsFunc(w.platforms, func(tag string) bool {
		f, _ := family(tag)
		return f == name
	})
}

// bestFor returns the wheel that is for p and for the fewest others.
func bestFor(native []distFile, p platform) []distFile {
	var fitting []distFile
	for _, f := range native {
		if f.wheel.fits(p) {
			fitting = append(fitting, f)
		}
	}
	if len(fitting) == 0 {
		return nil
	}
	return []distFile{slices.MinFunc(fitting, func(a, b distFile) int {
		return cmp.Or(cmp.Compare(breadth(a), breadth(b)), cmp.Compare(a.name, b.name))
	})}
}

func breadth(d distFile) int {
	n := 0
	for _, tag := range d.wheel.platforms {
		n = max(n, len(tagPlatforms(tag)))
	}
	return n
}
