package pe_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A reading is what both this package and pefile say of a file.
type reading struct {
	Machine  int
	Base     uint64
	Imports  []image.Import
	Exports  []image.Export
	Pdata    int // functions of the exception directory, -1 if there is none to count
	Version  map[string]string
	BuildID  string
	Overlay  int // -1 if it cannot be compared
	Sections []string
}

// pefileScript prints a reading of each file named on its input. The count of
// functions is its own, from the raw exception directory.
const pefileScript = `
import json, struct, sys
import pefile
from ordlookup import ordLookup

def count(pe):
    dirs = pe.OPTIONAL_HEADER.DATA_DIRECTORY
    machine = pe.FILE_HEADER.Machine
    if len(dirs) < 4 or not dirs[3].VirtualAddress or not dirs[3].Size or machine not in (0x8664, 0xaa64, 0x1c4):
        return -1
    table, n = pe.get_data(dirs[3].VirtualAddress, dirs[3].Size), 0
    if machine == 0x8664:
        for start, end, info in struct.iter_unpack('<III', table[:len(table) // 12 * 12]):
            n += start != 0 and info & 1 == 0 and pe.get_data(info, 1)[0] >> 3 & 4 == 0
        return n
    for start, info in struct.iter_unpack('<II', table[:len(table) // 8 * 8]):
        if start == 0:
            continue
        if info & 3:
            n += info & 3 != 2
            continue
        data = pe.get_data(info, 4096)
        head = struct.unpack_from('<I', data)[0]
        if machine == 0x1c4:
            n += head >> 22 & 1 == 0
            continue
        at, epilogues, words = 4, head >> 22 & 31, head >> 27
        if not epilogues and not words:
            more = struct.unpack_from('<I', data, 4)[0]
            at, epilogues, words = 8, more & 0xffff, more >> 16 & 0xff
        if not head >> 21 & 1:
            at += 4 * epilogues
        codes = data[at:at + 4 * words]
        i = 0
        while i < len(codes) and codes[i] not in (0xe4, 0xe5):
            c = codes[i]
            i += 1 if c < 0xc0 else 2 if c < 0xe0 else {0xe0: 4, 0xe2: 2, 0xe7: 3, 0xf8: 2, 0xf9: 3, 0xfa: 4, 0xfb: 5}.get(c, 1)
        n += not (i < len(codes) and codes[i] == 0xe5)
    return n

for path in sys.stdin.read().splitlines():
    data = open(path, 'rb').read()
    pe = pefile.PE(data=data, fast_load=True, max_symbol_exports=1 << 17)
    pe.parse_data_directories(directories=[0, 1, 2, 6, 13])
    base = pe.OPTIONAL_HEADER.ImageBase
    imports = []
    for attr, delay in (('DIRECTORY_ENTRY_IMPORT', False), ('DIRECTORY_ENTRY_DELAY_IMPORT', True)):
        for lib in getattr(pe, attr, []):
            for i in lib.imports:
                name = i.name
                if i.import_by_ordinal:
                    name = ordLookup(lib.dll.lower(), i.ordinal)
                    if not name or name.startswith(b'ord'):
                        name = b'#%d' % i.ordinal
                imports.append(dict(Name=name.decode(), Library=lib.dll.decode(), Slot=i.address, Delay=delay,
                                    Ordinal=i.ordinal if i.import_by_ordinal else 0))
    exports = [dict(Name=(e.name or b'').decode(), Ordinal=e.ordinal, Forward=(e.forwarder or b'').decode(),
                    Addr=0 if e.forwarder else base + e.address)
               for e in getattr(getattr(pe, 'DIRECTORY_ENTRY_EXPORT', None), 'symbols', [])]
    version = {}
    for info in (i for l in getattr(pe, 'FileInfo', []) for i in l if i.name == 'StringFileInfo'):
        for table in info.StringTable:
            for k, v in table.entries.items():
                v = v.decode().split('\0')[0]
                if v:
                    version.setdefault(k.decode(), v)
    build = ''
    for d in getattr(pe, 'DIRECTORY_ENTRY_DEBUG', []):
        if d.struct.Type == 2 and d.entry is not None and hasattr(d.entry, 'Signature_Data1'):
            e = d.entry
            build = '%08x%04x%04x%02x%02x%s%x' % (e.Signature_Data1, e.Signature_Data2, e.Signature_Data3,
                e.Signature_Data4, e.Signature_Data5, e.Signature_Data6.hex(), e.Age)
            break
    overlay = len(data) - (pe.get_overlay_data_start_offset() or len(data))
    if pe.FILE_HEADER.PointerToSymbolTable or pe.OPTIONAL_HEADER.DATA_DIRECTORY[4].Size:
        overlay = -1
    print(json.dumps(dict(Machine=pe.FILE_HEADER.Machine, Base=base, Imports=imports, Exports=exports, Version=version,
                          Pdata=count(pe), BuildID=build, Overlay=overlay,
                          Sections=[s.Name.rstrip(b'\0').decode() for s in pe.sections])))
`

// pefileReadings runs pefile over files.
func pefileReadings(t *testing.T, paths []string) []reading {
	t.Helper()
	python := ""
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import pefile").Run() == nil {
			python = name
			break
		}
	}
	if python == "" {
		t.Skip("python3 with pefile is not installed")
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", pefileScript)
	cmd.Stdin = strings.NewReader(strings.Join(paths, "\n"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pefile: %v", err)
	}
	var list []reading
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var r reading
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	if len(list) != len(paths) {
		t.Fatalf("pefile read %d of %d files", len(list), len(paths))
	}
	return list
}

// compareWithPefile parses files and expects what pefile says of them.
func compareWithPefile(t *testing.T, paths []string) {
	t.Helper()
	arch := map[int]image.Arch{i386: image.X86, amd64: image.X86_64, arm64: image.AArch64, armnt: image.ARM}
	imports, functions := 0, 0
	for i, want := range pefileReadings(t, paths) {
		data, err := os.ReadFile(paths[i])
		if err != nil {
			t.Fatal(err)
		}
		m := parse(t, data)
		name := filepath.Base(paths[i])
		if m.Arch != arch[want.Machine] || m.Base != want.Base {
			t.Errorf("%s: %s at %#x, want machine %#x at %#x", name, m.Arch, m.Base, want.Machine, want.Base)
		}
		if len(m.Notes) > 0 {
			t.Errorf("%s: notes %q", name, m.Notes)
		}
		for i, imp := range want.Imports {
			// pefile reads Winsock 1.1's ordinals by the table of Winsock 2.
			if strings.EqualFold(imp.Library, "wsock32.dll") && imp.Ordinal > 0 {
				want.Imports[i].Name = m.Imports[i].Name
			}
		}
		if diff := cmp.Diff(want.Imports, m.Imports, equateEmpty); diff != "" {
			t.Errorf("%s: imports (-pefile +got)\n%s", name, diff)
		}
		got := slices.Clone(m.Exports)
		for i := range got {
			got[i].Data = false // pefile does not say
		}
		byOrdinal := func(a, b image.Export) int {
			return strings.Compare(fmt.Sprintf("%06d %s", a.Ordinal, a.Name), fmt.Sprintf("%06d %s", b.Ordinal, b.Name))
		}
		slices.SortFunc(want.Exports, byOrdinal)
		slices.SortFunc(got, byOrdinal)
		if diff := cmp.Diff(want.Exports, got, equateEmpty); diff != "" {
			t.Errorf("%s: exports (-pefile +got)\n%s", name, diff)
		}
		if diff := cmp.Diff(want.Version, m.VersionInfo, equateEmpty); diff != "" {
			t.Errorf("%s: version info (-pefile +got)\n%s", name, diff)
		}
		if m.BuildID != want.BuildID {
			t.Errorf("%s: build id %q, pefile says %q", name, m.BuildID, want.BuildID)
		}
		if want.Overlay >= 0 && m.Overlay.Size != uint64(want.Overlay) {
			t.Errorf("%s: overlay %+v, pefile says %d bytes", name, m.Overlay, want.Overlay)
		}
		if want.Pdata >= 0 && (m.Functions.Method != "pdata" || m.Functions.Count != want.Pdata) {
			t.Errorf("%s: %d functions by %s, want %d", name, m.Functions.Count, m.Functions.Method, want.Pdata)
		}
		if len(m.Sections) != len(want.Sections) {
			t.Errorf("%s: %d sections, want %q", name, len(m.Sections), want.Sections)
		}
		imports += len(m.Imports)
		functions += m.Functions.Count
	}
	t.Logf("%d files, %d imports, %d functions", len(paths), imports, functions)
}

var equateEmpty = cmp.FilterValues(func(a, b any) bool { return isEmpty(a) && isEmpty(b) }, cmp.Ignore())

func isEmpty(v any) bool {
	switch v := v.(type) {
	case []image.Import:
		return len(v) == 0
	case []image.Export:
		return len(v) == 0
	case map[string]string:
		return len(v) == 0
	}
	return false
}

// systemFiles returns the PE files that Debian's packages bring: mingw's
// libraries and the launchers of Python's installers.
func systemFiles(t *testing.T) []string {
	t.Helper()
	var list []string
	seen := map[string]bool{}
	home, _ := os.UserHomeDir()
	for _, pattern := range []string{
		"/usr/lib/gcc/*mingw32/*/*.dll", "/usr/*-w64-mingw32/lib/*.dll",
		"/usr/lib/python3*/*-packages/setuptools/*.exe", "/usr/lib/python3*/*-packages/pip/_vendor/distlib/*.exe",
		"/usr/lib/python3*/*-packages/distlib/*.exe", "/usr/share/python-wheels/*.exe",
		filepath.Join(home, ".pyenv/versions/*/lib/python3*/site-packages/setuptools/*.exe"),
		filepath.Join(home, ".pyenv/versions/*/lib/python3*/site-packages/pip/_vendor/distlib/*.exe"),
		filepath.Join(home, ".pyenv/versions/*/lib/python3*/distutils/command/*.exe"),
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil || seen[string(data)] {
				continue
			}
			seen[string(data)] = true
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		t.Skip("no PE files are installed (mingw-w64, python3-setuptools)")
	}
	return list
}

func TestSystemAgainstPefile(t *testing.T) { compareWithPefile(t, systemFiles(t)) }

// Every known ordinal has the name that pefile has for it, but for the three
// functions of Winsock 1.1 that it mixes up.
func TestOrdinalsAgainstPefile(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for _, library := range []string{"WS2_32.dll", "OLEAUT32.dll"} {
		d := &tables{}
		var list []uint64
		for n := range uint64(520) {
			list = append(list, 1<<31|(n+1))
		}
		table := d.pointers(append(list, 0)...)
		dirRVA := d.u32(table, 0, 0, d.text(library), table, 0, 0, 0, 0, 0)
		path := filepath.Join(dir, library)
		c := craft{machine: i386, data: d.b, dirs: map[int][2]uint32{1: {dirRVA, 40}}}
		if err := os.WriteFile(path, c.bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	compareWithPefile(t, paths)
}

// The names of ordinals are names that mingw's import libraries know.
func TestOrdinalsAgainstMingw(t *testing.T) {
	nm, err := exec.LookPath("i686-w64-mingw32-nm")
	if err != nil {
		t.Skip("mingw-w64 is not installed")
	}
	for library, last := range map[string]uint64{"ws2_32": 520, "wsock32": 1200, "oleaut32": 520} {
		path := "/usr/i686-w64-mingw32/lib/lib" + library + ".a"
		out, err := exec.CommandContext(t.Context(), nm, "--defined-only", path).Output()
		if err != nil {
			t.Skipf("no import library %s", path)
		}
		known := map[string]bool{}
		for _, s := range regexp.MustCompile(`__imp__(\w+?)(@\d+)?\n`).FindAllStringSubmatch(string(out), -1) {
			known[s[1]] = true
		}
		d := &tables{}
		var list []uint64
		for n := range last {
			list = append(list, 1<<31|(n+1))
		}
		table := d.pointers(append(list, 0)...)
		dir := d.u32(table, 0, 0, d.text(library+".dll"), table, 0, 0, 0, 0, 0)
		m := parse(t, craft{machine: i386, data: d.b, dirs: map[int][2]uint32{1: {dir, 40}}}.bytes())
		named, unknown := 0, []string{}
		for _, i := range m.Imports {
			if strings.HasPrefix(i.Name, "#") {
				continue
			}
			named++
			if !known[i.Name] {
				unknown = append(unknown, i.Name)
			}
		}
		t.Logf("%s: %d names, mingw does not have %q", library, named, unknown)
		if len(unknown) > named/20 {
			t.Errorf("%s: mingw's import library knows none of %q", library, unknown)
		}
	}
}
