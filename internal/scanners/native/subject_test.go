package native

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
)

// try compiles a condition, with runtimes, and tries it on an image.
func try(t *testing.T, when string, m *image.Image, runtimes fstest.MapFS) (bool, []finding.Evidence) {
	t.Helper()
	set, err := compile([]*rule.Rule{parse(t, when)}, runtimes)
	if err != nil {
		t.Fatal(err)
	}
	s := newSubject(set, &native.Binary{Image: m}, nil)
	held, proofs := s.match(&set.rules[0].when)
	return held, s.evidence(proofs)
}

func wide(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.Write([]byte{c, 0})
	}
	return b.String()
}

func TestTexts(t *testing.T) {
	for _, test := range []struct {
		name, when, data string
		want             string // value of the evidence; empty if the condition must not hold
	}{
		{"string", "string: curl", "xxcurlxx", "curl"},
		{"string in UTF-16", "string: curl", "\x01\x02" + wide("curl") + "\x01", "curl"},
		{"word at both ends of the file", "word: curl", "curl", "curl"},
		{"word between marks", "word: curl", "/curl-", "curl"},
		{"no word: letter before", "word: curl", "libcurl", ""},
		{"no word: digit behind", "word: curl", "curl7", ""},
		{"no word: underscore", "word: curl", "curl_easy", ""},
		{"a later word", "word: curl", "libcurl curl7 curl", "curl"},
		{"word in UTF-16", "word: curl", wide("/curl "), "curl"},
		{"no word in UTF-16", "word: curl", wide("libcurl"), ""},
		{"a word of a longer one in UTF-16", "word: curl", wide("curls"), ""},
		{"text around", "text: {has: curl, like: 'curl +-[a-z]+'}", "\x00/usr/bin/curl  -fsS\x00", "curl  -fs"},
		{"text around in UTF-16", "text: {has: curl, like: 'bin/curl +-[a-z]+'}", "\xff\xff" + wide("/bin/curl -s") + "\x00\x00", "bin/curl -s"},
		{"text ends at what is not printable", "text: {has: curl, like: 'curl.-s'}", "curl\x00-s", ""},
		{"text of a later hit", "text: {has: curl, like: 'curl -s'}", "curl\x00curl\x00curl -s", "curl -s"},
		{"text at the end of the file", "text: {has: curl, like: '^a curl$'}", "\x00a curl", "a curl"},
		{"odd end in UTF-16", "text: {has: curl, like: '^curl$'}", wide("curl") + "x", "curl"},
		{"text is bounded", "text: {has: curl, like: 'far'}", "curl" + strings.Repeat(" ", 2*maxText) + "far", ""},
		{"constant", "bytes: '00 01 ff fe'", "x\x00\x01\xff\xfe", "0001fffe"},
		{"empty file", "string: curl", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			ok, ev := try(t, test.when, &image.Image{Data: []byte(test.data)}, fstest.MapFS{})
			if ok != (test.want != "") || ok && ev[0].Value != test.want {
				t.Errorf("%v with %v; want %q", ok, ev, test.want)
			}
		})
	}
}

// TestGluedWords looks for words where texts have no end marks.
func TestGluedWords(t *testing.T) {
	set, err := compile([]*rule.Rule{parse(t, "word: [curl, /bin/bash]")}, fstest.MapFS{})
	if err != nil {
		t.Fatal(err)
	}
	b := &native.Binary{Image: &image.Image{Data: []byte("libcurlx/bin/bashabc")}, Language: "Go"}
	if _, ev := newSubject(set, b, nil).match(&set.rules[0].when); len(ev) != 1 || ev[0].Value != "/bin/bash" {
		t.Errorf("evidence %v; want the long one alone", ev)
	}
}

func TestMapped(t *testing.T) {
	segment := func(offset, size uint64) image.Segment { return image.Segment{Offset: offset, FileSize: size} }
	for _, test := range []struct {
		name     string
		segments []image.Segment
		want     string
	}{
		{"none: all of the file", nil, "[{0 100}]"},
		{"gaps", []image.Segment{segment(80, 10), segment(10, 20)}, "[{10 20} {80 10}]"},
		{"overlaps", []image.Segment{segment(0, 50), segment(10, 20), segment(40, 20), segment(0, 50)}, "[{0 50} {50 10}]"},
		{"beyond the file", []image.Segment{segment(90, 1000), segment(5000, 10)}, "[{90 10}]"},
		{"a size that wraps around", []image.Segment{segment(90, ^uint64(0))}, "[{90 10}]"},
		{"nothing in the file: all of it", []image.Segment{segment(0, 0)}, "[{0 100}]"},
	} {
		s := &subject{bin: &native.Binary{Image: &image.Image{Data: make([]byte, 100), Segments: test.segments}}}
		if got := fmt.Sprint(s.mapped()); got != test.want {
			t.Errorf("%s: mapped %s; want %s", test.name, got, test.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	m := &image.Image{
		Data:     []byte("....curl...."),
		Sections: []image.Section{{Name: ".rodata", Addr: 0x1000, Offset: 2, FileSize: 8}},
		Imports: []image.Import{
			{Name: "connect", Library: "b.dll", Slot: 0x20, Stub: 0x10},
			{Name: "connect", Library: "a.dll", Slot: 0x30},
			{Name: "connect", Library: "a.dll", Slot: 0x28},
		},
		Exports: []image.Export{{Name: "run", Addr: 0x40}},
	}
	for _, test := range []struct{ when, want string }{
		{"string: curl", "string curl .rodata 0x1002"},
		{"import: connect", "import connect a.dll 0x28"},
		{"{import: connect, from: 'B.*'}", "import connect b.dll 0x10"},
		{"import: 'conn*'", "import connect a.dll 0x28"},
		{"export: run", "export run  0x40"},
		{"section: {name: .rodata, size: 8}", "section .rodata  0x1000"}, // whose entropy nobody measured
	} {
		_, ev := try(t, test.when, m, fstest.MapFS{})
		if len(ev) != 1 || strings.Join([]string{ev[0].Kind, ev[0].Value, ev[0].From, ev[0].Address}, " ") != test.want {
			t.Errorf("%s gives %v; want %s", test.when, ev, test.want)
		}
	}
}

// TestRepeatsAreCheap gives rules a binary that repeats what they ask for.
func TestRepeatsAreCheap(t *testing.T) {
	m := &image.Image{Data: bytes.Repeat([]byte("curl "), 1<<16)}
	for i := range 1 << 18 {
		m.Imports = append(m.Imports, image.Import{Name: "connect"}, image.Import{Name: fmt.Sprint("EVP_", i)})
	}
	for i := range 1 << 14 {
		m.Segments = append(m.Segments, image.Segment{Addr: uint64(i), FileSize: uint64(len(m.Data))})
	}
	began := time.Now()
	for _, when := range []string{"import: connect", "import: 'EVP_*'", "string: curl", "section: {size: 1}", "section: {entropy: 7.9}"} {
		if _, ev := try(t, when, m, fstest.MapFS{}); len(ev) > maxMatched {
			t.Errorf("%s leaves %d pieces of evidence", when, len(ev))
		}
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("five conditions took %v", took)
	}
}

func TestAtLeast(t *testing.T) {
	m := &image.Image{Imports: []image.Import{{Name: "a"}, {Name: "b"}}}
	for _, test := range []struct {
		when string
		want int // pieces of evidence; 0 if it must not hold
	}{
		{"atleast: {n: 2, of: [{import: [a, b, c]}]}", 2},
		{"atleast: {n: 3, of: [{import: [a, b, c]}]}", 0},
		{"any: [{atleast: {n: 3, of: [{import: [a, b, c]}]}}, {import: b}]", 1},
	} {
		if ok, ev := try(t, test.when, m, fstest.MapFS{}); ok != (test.want > 0) || len(ev) != test.want {
			t.Errorf("%s: %v with %v; want %d pieces", test.when, ok, ev, test.want)
		}
	}
}

// TestRuntimes takes off what recognised runtimes import; what one takes off
// does not hide it from the next.
func TestRuntimes(t *testing.T) {
	m := &image.Image{Imports: []image.Import{{Name: "start"}, {Name: "open"}, {Name: "connect"}}}
	runtimes := fstest.MapFS{
		"a.runtime": {Data: []byte("name: a\nwhen: {import: start}\nimports: [start, 'op*']\n")},
		"b.runtime": {Data: []byte("name: b\nwhen: {import: start}\nimports: [connect]\n")},
		"c.runtime": {Data: []byte("name: c\nwhen: {import: absent}\nimports: [listen]\n")},
	}
	m.Imports = append(m.Imports, image.Import{Name: "listen"})
	for when, want := range map[string]bool{
		"import: open": false, "import: connect": false, "import: listen": true,
		"{import: open, runtime: true}": true,
	} {
		if ok, _ := try(t, when, m, runtimes); ok != want {
			t.Errorf("%s is %v; want %v", when, ok, want)
		}
	}
}

func TestPrune(t *testing.T) {
	var ev []proof
	piece := func(kind, value string) proof { return proof{Evidence: finding.NewEvidence(kind, value)} }
	for i := range 20 {
		ev = append(ev, piece("import", fmt.Sprintf("f%02d", i)), piece("import", fmt.Sprintf("f%02d", i)))
	}
	ev = append(ev, piece("string", "x"), piece("string", "y"))
	of := map[string]int{}
	got := prune(ev)
	for _, e := range got {
		of[e.Kind]++
	}
	if of["import"] != maxShown-2 || of["string"] != 2 || got[0].Value != "f00" || got[1].Value != "f01" {
		t.Errorf("kept %v; want the first %d imports and both strings", got, maxShown-2)
	}
	if got := prune(nil); len(got) != 0 {
		t.Errorf("of nothing %v is kept", got)
	}
}

func TestSentence(t *testing.T) {
	piece := finding.NewEvidence
	for _, test := range []struct {
		ev   []finding.Evidence
		want string
	}{
		{nil, "Does it."},
		{[]finding.Evidence{piece("import", "connect")}, "Does it (import connect)."},
		{[]finding.Evidence{piece("string", "a b"), piece("import", "x"), piece("import", "y")}, `Does it (imports x, y; string "a b").`},
		{[]finding.Evidence{piece("library", "a"), piece("library", "b"), piece("constant", "00ff")}, "Does it (libraries a, b; by its constants)."},
		{[]finding.Evidence{piece("symbol", "a"), piece("symbol", "b"), piece("symbol", "c"), piece("symbol", "d"), piece("symbol", "e")}, "Does it (symbols a, b, c, d and 1 more)."},
	} {
		if got := sentence("Does it", test.ev); got != test.want {
			t.Errorf("sentence %q; want %q", got, test.want)
		}
	}
}

// scanFiles scans files with a scanner.
func scanFiles(t testing.TB, s *scan.Scanner, files map[string][]byte) *scan.Result {
	t.Helper()
	ws := workspace.New(workspace.Limits{}, "")
	defer ws.Close()
	for name, data := range files {
		if err := ws.MountFile(workspace.Part{Prefix: name}, name, bytes.NewReader(data), int64(len(data)), nil); err != nil {
			t.Fatal(err)
		}
	}
	res, err := scan.Run(t.Context(), []*scan.Scanner{s}, ws, nil, scan.Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func build(t testing.TB, yaml string) []byte {
	t.Helper()
	data, err := synth.FromYAML([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestPanicInARule keeps a mistake in one rule from ending the scan.
func TestPanicInARule(t *testing.T) {
	set, err := compile([]*rule.Rule{parse(t, "import: connect")}, fstest.MapFS{})
	if err != nil {
		t.Fatal(err)
	}
	broken := compiled{rule: set.rules[0].rule, says: "Breaks", when: condition{op: opAll, children: []condition{
		{op: opFormat, names: names{exact: map[string]bool{"PE": true}}}, {op: "broken"},
	}}}
	set.rules = append(set.rules, broken)
	s := *Scanner
	s.Rules = []*rule.Rule{set.rules[0].rule}
	s.File = func(ctx context.Context, p *scan.Pass, f *scan.File) error { return set.file(ctx, p, f) }
	res := scanFiles(t, &s, map[string][]byte{
		"a.dll": build(t, "format: pe\nimports: [connect]\n"),
		"b.so":  build(t, "format: elf\nimports: [connect]\n"),
	})
	if len(res.Findings) != 2 || len(res.Notes) != 1 || !strings.Contains(res.Notes[0].Text, "no evaluation of broken") {
		t.Errorf("findings %v, notes %v; want one of each file, and a note", res.Findings, res.Notes)
	}
}

// TestEqualSlices tells two slices for one instruction set apart.
func TestEqualSlices(t *testing.T) {
	res := scanFiles(t, Scanner, map[string][]byte{"a": fat(
		build(t, "format: macho\narch: aarch64\nimports: [connect]\n"), build(t, "format: macho\narch: aarch64\nimports: [unlink]\n"))})
	var slicesOf []string
	for _, b := range inventory.Binaries.Of(res) {
		slicesOf = append(slicesOf, b.Slice)
	}
	if !slices.Equal(slicesOf, []string{"aarch64", "aarch64 2"}) {
		t.Fatalf("slices %q, notes %v", slicesOf, res.Notes)
	}
	for _, f := range res.Findings {
		if want := map[string]string{"connect": "aarch64", "unlink": "aarch64 2"}[f.Location.Symbol]; want != "" && f.Anchor != want {
			t.Errorf("%s is of %s; want %s", f.Rule, f.Anchor, want)
		}
	}
}

// fat joins Mach-O files for ARM64 into one, the second as arm64e.
func fat(files ...[]byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, 0xcafebabe)
	out = binary.BigEndian.AppendUint32(out, uint32(len(files)))
	const page = 1 << 14
	offset := page
	var body []byte
	for i, f := range files {
		f = slices.Clone(f)
		binary.LittleEndian.PutUint32(f[8:], uint32(2*i)) // cpusubtype
		for _, v := range []int{0x100000c, 2 * i, offset, len(f), 14} {
			out = binary.BigEndian.AppendUint32(out, uint32(v))
		}
		body = append(body, f...)
		body = append(body, make([]byte, -len(body)&(page-1))...)
		offset = page + len(body)
	}
	return append(append(out, make([]byte, page-len(out))...), body...)
}

// FuzzBinary runs the whole scanner over binaries that are not as they should
// be: no panic, nothing that takes long, no evidence beyond its size.
func FuzzBinary(f *testing.F) {
	for _, yaml := range []string{
		"format: elf\nimports: [connect, execve]\nstrings: [/bin/sh -c curl, /etc/shadow]\nsymbols: [main]\n",
		"format: elf\nkind: executable\ngo: [main.main, net.Dial]\nrust: true\n",
		"format: pe\nimports: [connect@WS2_32.dll, CreateProcessW]\nwide: [powershell -enc]\n",
		"format: macho\narch: [x86_64, aarch64]\nimports: [_connect]\nsections:\n- {name: \"__TEXT,__x\", random: 4096}\n",
		"format: wasm\nimports: [fd_write@wasi_snapshot_preview1]\n",
	} {
		f.Add(build(f, yaml), uint32(0), uint64(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, at uint32, value uint64) {
		if len(data) > 1<<20 {
			t.Skip("larger ones find nothing more")
		}
		if i := int(at); value != 0 && i+8 <= len(data) { // a whole field at once
			data = slices.Clone(data)
			binary.LittleEndian.PutUint64(data[i:], value)
		}
		began := time.Now()
		res := scanFiles(t, Scanner, map[string][]byte{"a": data})
		if took := time.Since(began); took > 20*time.Second {
			t.Fatalf("%d bytes took %v", len(data), took)
		}
		for _, n := range res.Notes {
			if strings.Contains(n.Text, "failed:") {
				t.Fatal(n.Text)
			}
		}
		for _, found := range res.Findings {
			if len(found.Evidence) > maxShown {
				t.Fatalf("%s has %d pieces of evidence", found.Rule, len(found.Evidence))
			}
			for _, e := range found.Evidence {
				if len(e.Value) > finding.MaxEvidence+len("…") || len(e.From) > finding.MaxEvidence+len("…") {
					t.Fatalf("%s: evidence of %d bytes from %d", found.Rule, len(e.Value), len(e.From))
				}
				if strings.ContainsFunc(e.Value+e.From, func(r rune) bool { return r < ' ' }) {
					t.Fatalf("%s: evidence %q cannot be printed", found.Rule, e)
				}
			}
		}
	})
}
