package elf_test

import (
	stdelf "debug/elf"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

var corpus = flag.String("corpus", "", "compare all ELF files below this folder as well")

// systemFiles returns ELF files that the system comes with, of several
// machines, with and without symbols and code: at most limit of each folder,
// spread evenly over its names.
func systemFiles(t *testing.T, limit int, maxSize int64) []string {
	var all []string
	for _, dir := range []string{
		"/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib/i386-linux-gnu",
		"/usr/aarch64-linux-gnu/lib", "/usr/arm-linux-gnueabihf/lib", "/usr/riscv64-linux-gnu/lib",
		"/usr/powerpc64le-linux-gnu/lib", "/usr/s390x-linux-gnu/lib", "/usr/i686-linux-gnu/lib", "/usr/lib/debug/.build-id",
	} {
		all = append(all, spread(filesIn(dir, maxSize), limit)...)
	}
	if len(all) == 0 {
		t.Skip("this system has no ELF files of its own")
	}
	if *corpus != "" {
		all = append(all, filesIn(*corpus, 1<<40)...)
	}
	return all
}

func filesIn(dir string, maxSize int64) []string {
	var list []string
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil && info.Size() <= maxSize && isELF(path) {
				list = append(list, path)
			}
		}
		return nil
	})
	slices.Sort(list)
	return list
}

func spread(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	out := make([]string, n)
	for i := range out {
		out[i] = list[i*len(list)/n]
	}
	return out
}

// readelf runs GNU readelf over many files and returns what it says of each.
func readelf(t *testing.T, files []string, options ...string) map[string]string {
	t.Helper()
	program := tool(t, "readelf")
	said := map[string]string{}
	for chunk := range slices.Chunk(files, 50) {
		args := append(slices.Clone(options), chunk...)
		if len(chunk) == 1 {
			args = append(args, "/dev/null") // with one file it does not say which
		}
		for part := range strings.SplitSeq("\n"+output(t, program, args...), "\nFile: ") {
			name, rest, _ := strings.Cut(part, "\n")
			said[name] = rest
		}
	}
	return said
}

// A dynamicView is what the dynamic symbols and libraries of a file are.
type dynamicView struct {
	imports, exports, libraries, versions, paths []string
	name                                         string
}

var (
	symbolLine  = regexp.MustCompile(`(?m)^ *\d+: ([0-9a-f]+) +\S+ (\S+) +(\S+) +(\S+) +(?:\[.*?\] +)?(\S+) +(?:\[.*?\] +)?(\S+?)(?:(@@?)(\S+))?(?: \(\d+\))?$`)
	neededLine  = regexp.MustCompile(`(?m)\(NEEDED\) +Shared library: \[(.*)\]$`)
	sonameLine  = regexp.MustCompile(`(?m)\(SONAME\) +Library soname: \[(.*)\]$`)
	pathLine    = regexp.MustCompile(`(?m)\((?:RPATH|RUNPATH)\) +Library (?:rpath|runpath): \[(.*)\]$`)
	versionLine = regexp.MustCompile(`(?m)^ +0x[0-9a-f]+: +Name: (\S+) +Flags: .* Version: \d+$`)
	frameLine   = regexp.MustCompile(` FDE cie=[0-9a-f]+ pc=([0-9a-f]+)\.\.`)
)

// viewOfReadelf collects what readelf prints.
func viewOfReadelf(text string) dynamicView {
	var v dynamicView
	text = strings.ReplaceAll(text, "<OS specific>: 10", "UNIQUE") // if the header does not say GNU
	for _, m := range symbolLine.FindAllStringSubmatch(text, -1) {
		value, typ, bind, vis, index, name, version := m[1], m[2], m[3], m[4], m[5], m[6], m[8]
		data := typ == "OBJECT" || typ == "TLS" || typ == "COMMON"
		switch {
		case bind != "GLOBAL" && bind != "WEAK" && bind != "UNIQUE" || typ == "SECTION" || typ == "FILE":
		case index == "UND":
			v.imports = append(v.imports, importLine(name, version, bind == "WEAK", data))
		case vis == "DEFAULT" || vis == "PROTECTED":
			addr, _ := strconv.ParseUint(value, 16, 64)
			v.exports = append(v.exports, exportLine(name, addr, data, typ))
		}
	}
	for _, m := range neededLine.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(v.libraries, m[1]) {
			v.libraries = append(v.libraries, m[1])
		}
	}
	if m := sonameLine.FindStringSubmatch(text); m != nil {
		v.name = m[1]
	}
	for _, m := range pathLine.FindAllStringSubmatch(text, -1) {
		v.paths = append(v.paths, strings.Split(m[1], ":")...)
	}
	for _, m := range versionLine.FindAllStringSubmatch(text, -1) {
		v.versions = append(v.versions, m[1])
	}
	return v.sorted()
}

// viewOfImage collects the same from an image.
func viewOfImage(m *image.Image) dynamicView {
	v := dynamicView{name: m.Name, libraries: m.Libraries, versions: m.Versions, paths: m.RunPaths}
	for _, in := range m.Imports {
		v.imports = append(v.imports, importLine(in.Name, in.Version, in.Weak, in.Data))
	}
	for _, e := range m.Exports {
		v.exports = append(v.exports, exportLine(e.Name, e.Addr, e.Data, "?"))
	}
	return v.sorted()
}

func (v dynamicView) sorted() dynamicView {
	slices.Sort(v.imports)
	slices.Sort(v.exports)
	v.versions = slices.Compact(slices.Sorted(slices.Values(v.versions)))
	return v
}

func importLine(name, version string, weak, data bool) string {
	return name + " version=" + version + " weak=" + strconv.FormatBool(weak) + " data=" + strconv.FormatBool(data)
}

// exportLine leaves out what the image states differently: bit 0 of addresses
// of code, and that thread-local variables have an offset.
func exportLine(name string, addr uint64, data bool, typ string) string {
	line := name + " data=" + strconv.FormatBool(data)
	if !data && typ != "TLS" {
		line += " at " + strconv.FormatUint(addr&^1, 16)
	}
	return line
}

func (v dynamicView) compare(t *testing.T, path, oracle string, want dynamicView) {
	t.Helper()
	for _, part := range []struct {
		name      string
		got, want []string
	}{
		{"imports", v.imports, want.imports}, {"exports", v.exports, want.exports}, {"libraries", v.libraries, want.libraries},
		{"versions", v.versions, want.versions}, {"run paths", v.paths, want.paths}, {"name", []string{v.name}, []string{want.name}},
	} {
		if !slices.Equal(part.got, part.want) {
			t.Errorf("%s: %s\n got %s\nonly %s has %s", path, part.name, less(part.got, part.want), oracle, less(part.want, part.got))
		}
	}
}

// less returns the first few of a that b has not.
func less(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) && len(out) < 5 {
			out = append(out, s)
		}
	}
	return out
}

// TestSystemFilesLikeReadelf compares everything about dynamic linking with
// GNU readelf.
func TestSystemFilesLikeReadelf(t *testing.T) {
	files := systemFiles(t, 60, 4<<20)
	said := readelf(t, files, "-W", "-h", "-d", "--dyn-syms", "-V")
	if len(files) < 120 {
		t.Logf("only %d files", len(files))
	}
	imports := 0
	for _, path := range files {
		m := read(t, path)
		if m.Kind == image.Object || strings.Contains(path, "/.build-id/") {
			continue // no dynamic linking
		}
		got := viewOfImage(m)
		got.compare(t, path, "readelf", viewOfReadelf(said[path]))
		imports += len(m.Imports)
		class := "ELF" + strconv.Itoa(m.Bits)
		if !strings.Contains(said[path], class) {
			t.Errorf("%s: %d bits, readelf does not say %s", path, m.Bits, class)
		}
	}
	t.Logf("%d files, %d imports", len(files), imports)
}

// TestSystemFilesLikeStandardLibrary compares with debug/elf.
func TestSystemFilesLikeStandardLibrary(t *testing.T) {
	archs := map[stdelf.Machine]image.Arch{
		stdelf.EM_X86_64: image.X86_64, stdelf.EM_386: image.X86, stdelf.EM_AARCH64: image.AArch64,
		stdelf.EM_ARM: image.ARM, stdelf.EM_RISCV: image.RISCV64,
	}
	for _, path := range systemFiles(t, 60, 4<<20) {
		f, err := stdelf.Open(path)
		if err != nil {
			t.Logf("%s: %v", path, err)
			continue
		}
		m := read(t, path)
		if want := archs[f.Machine]; want != "" && m.Arch != want {
			t.Errorf("%s: arch %q, want %q", path, m.Arch, want)
		}
		if m.BigEndian != (f.Data == stdelf.ELFDATA2MSB) || m.Kind == image.Library && f.Type != stdelf.ET_DYN {
			t.Errorf("%s: %v %v, want %v %v", path, m.BigEndian, m.Kind, f.Data, f.Type)
		}
		symbols, _ := f.Symbols()
		if m.Stripped != (f.SectionByType(stdelf.SHT_SYMTAB) == nil) {
			t.Errorf("%s: stripped %v with %d symbols", path, m.Stripped, len(symbols))
		}
		if len(m.Sections) != max(0, len(f.Sections)-1) {
			t.Errorf("%s: %d sections, want %d", path, len(m.Sections), len(f.Sections)-1)
		}
		for i, s := range m.Sections {
			if want := f.Sections[i+1]; s.Name != want.Name || s.Offset != want.Offset || s.Size != want.FileSize {
				t.Errorf("%s: section %d is %q at %#x size %d, want %q at %#x size %d", path, i+1, s.Name, s.Offset, s.Size, want.Name, want.Offset, want.FileSize)
			}
		}
		if m.Kind == image.Object || strings.Contains(path, "/.build-id/") {
			continue
		}
		imports, _ := f.ImportedSymbols()
		want := map[string]int{}
		for _, s := range imports {
			want[s.Name+"@"+s.Version+" in "+s.Library]++
		}
		got := map[string]int{}
		for _, in := range m.Imports {
			if !in.Weak || want[in.Name+"@"+in.Version+" in "+in.Library] > 0 { // it knows global symbols only
				got[in.Name+"@"+in.Version+" in "+in.Library]++
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: imports %v, want %v", path, got, want)
		}
	}
}

// TestSystemFunctionsLikeReadelf compares the starts of functions with the
// frame descriptions that GNU readelf prints.
func TestSystemFunctionsLikeReadelf(t *testing.T) {
	files := systemFiles(t, 40, 1<<20)
	said := readelf(t, files, "-W", "-wfN")
	compared, functions := 0, 0
	for _, path := range files {
		m := read(t, path)
		if !strings.HasPrefix(m.Functions.Method, "eh_frame") {
			continue
		}
		_, text, _ := strings.Cut(said[path], "Contents of the .eh_frame section:")
		text, _, _ = strings.Cut(text, "Contents of the .debug_frame section:")
		want := map[uint64]bool{}
		for _, line := range frameLine.FindAllStringSubmatch(text, -1) {
			at, _ := strconv.ParseUint(line[1], 16, 64)
			if inCode(m, at) {
				want[at] = true
			}
		}
		got := map[uint64]bool{}
		for _, f := range m.Functions.List {
			got[f.Addr] = true
		}
		if m.Functions.Method == "eh_frame+symbols" {
			for at := range want {
				if !got[at] {
					t.Errorf("%s: function %#x is missing", path, at)
				}
			}
		} else if !maps.Equal(got, want) {
			t.Errorf("%s: %d functions, want %d", path, len(got), len(want))
		}
		if m.Functions.Count != len(got) {
			t.Errorf("%s: count %d of %d functions", path, m.Functions.Count, len(got))
		}
		compared++
		functions += len(got)
	}
	if compared < 30 {
		t.Errorf("only %d of %d files have frame descriptions", compared, len(files))
	}
	t.Logf("%d files, %d functions", compared, functions)
}

func inCode(m *image.Image, at uint64) bool {
	for _, s := range m.Sections {
		if s.Code && at >= s.Addr && at-s.Addr < s.Size {
			return true
		}
	}
	return false
}

// TestSystemStubsLikeObjdump compares the stubs of imports with the labels that
// GNU objdump makes up for them.
func TestSystemStubsLikeObjdump(t *testing.T) {
	label := regexp.MustCompile(`(?m)^([0-9a-f]+) <([^>@]+)(?:@\S+)?@plt>:$`)
	programs := map[image.Arch]string{
		image.X86_64: "objdump", image.X86: "objdump", image.AArch64: "aarch64-linux-gnu-objdump", image.ARM: "arm-linux-gnueabihf-objdump",
	}
	tool(t, "objdump")
	compared, stubs := 0, 0
	for _, path := range systemFiles(t, 60, 1<<20) {
		m := read(t, path)
		program := lookTool(programs[m.Arch])
		if program == "" || len(m.Imports) == 0 {
			continue
		}
		args := []string{"-d", "-w", "--no-show-raw-insn", path}
		for _, s := range m.Sections {
			if strings.HasPrefix(s.Name, ".plt") {
				args = append(args, "-j", s.Name)
			}
		}
		if len(args) == 4 {
			continue
		}
		want := map[string]string{}
		for _, l := range label.FindAllStringSubmatch(output(t, program, args...), -1) {
			want[strings.TrimLeft(l[1], "0")] = l[2]
		}
		got := map[string]string{}
		for _, in := range m.Imports {
			if in.Stub == 0 {
				continue
			}
			at := strconv.FormatUint(in.Stub, 16)
			if way := strconv.FormatUint(in.Stub-4, 16); m.Arch == image.ARM && want[way] != "" {
				at = way // from Thumb code
			}
			got[at] = in.Name
		}
		for _, e := range m.Exports {
			if at := strconv.FormatUint(e.Stub, 16); e.Stub != 0 && want[at] != "" {
				got[at] = e.Name
			} else if way := strconv.FormatUint(e.Stub-4, 16); e.Stub != 0 {
				got[way] = e.Name
			}
		}
		for at, name := range want {
			if got[at] != name && takesFunction(m, name) { // it labels entries of thread-local variables as well
				t.Errorf("%s: stub %s is %q, want %q", path, at, got[at], name)
			}
		}
		for at, name := range got {
			if len(want) > 0 && want[at] != name { // it does not know the ARM stubs of LLD
				t.Errorf("%s: stub %s is %q, not for objdump", path, at, name)
			}
		}
		compared++
		stubs += len(got)
	}
	if compared == 0 {
		t.Skip("no file with stubs and no objdump for its machine")
	}
	t.Logf("%d files, %d stubs", compared, stubs)
}

func takesFunction(m *image.Image, name string) bool {
	return slices.ContainsFunc(m.Imports, func(in image.Import) bool { return in.Name == name && !in.Data })
}

func read(t *testing.T, path string) *image.Image {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, data)
}
