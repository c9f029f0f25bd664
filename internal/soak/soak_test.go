// Package soak_test feeds mutated files to every parser for as long as it is
// told. The fuzz targets of the packages look for new paths with the compiler's
// help; this looks at hundreds of times as many inputs without it.
//
//	go test ./internal/soak -soak 30m
//
// prints how many inputs each parser took. Without the flag it runs for a moment.
package soak_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/formats/carve"
	"github.com/loupe-sec/loupe/internal/formats/carve/upx"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/ar"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
	"github.com/loupe-sec/loupe/internal/formats/native/macho"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
	"github.com/loupe-sec/loupe/internal/formats/native/signature"
	"github.com/loupe-sec/loupe/internal/formats/native/signature/forge"
	"github.com/loupe-sec/loupe/internal/formats/native/skeleton"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/formats/native/value"
	"github.com/loupe-sec/loupe/internal/formats/native/wasm"
	"github.com/loupe-sec/loupe/internal/formats/sourcetext"
	"github.com/loupe-sec/loupe/internal/formats/yara"
)

var (
	long  = flag.Duration("soak", 200*time.Millisecond, "how `long` to go on")
	files = flag.String("seeds", "", "a `folder` of further files to begin with")
)

// A parser is something that takes hostile bytes. Weight is how often its turn
// comes: cheap ones more often.
type parser struct {
	name   string
	weight int
	seeds  func(*testing.T) [][]byte
	parse  func([]byte)
}

var parsers = []parser{
	{"elf", 6, binaries("elf"), func(b []byte) { _, _ = elf.Parse(b) }},
	{"pe", 6, binaries("pe"), func(b []byte) { _, _ = pe.Parse(b) }},
	{"macho", 6, binaries("macho"), func(b []byte) { _, _ = macho.Parse(b) }},
	{"wasm", 8, binaries("wasm"), func(b []byte) { _, _ = wasm.Parse(b) }},
	{"ar", 8, texts("!<arch>\n/               0           0     0     0       4         `\n\x00\x00\x00\x00a.o/            0           0     0     644     4         `\nabcd"), func(b []byte) { ar.Members(b) }},
	{"whole binary", 1, binaries("elf", "pe", "macho", "wasm"), whole},
	{"code of x86-64", 6, machineCode(image.X86_64), instructions(image.X86_64)},
	{"code of x86", 6, machineCode(image.X86), instructions(image.X86)},
	{"code of aarch64", 6, machineCode(image.AArch64), instructions(image.AArch64)},
	{"code of arm", 6, machineCode(image.ARM), instructions(image.ARM)},
	{"code of riscv64", 6, machineCode(image.RISCV64), instructions(image.RISCV64)},
	{"body key", 30, machineCode(image.X86_64), bodies},
	{"signatures", 6, signed, signatures},
	{"payloads", 1, binaries("elf", "pe"), payloads},
	{"text payloads", 2, texts("const b = \"AGFzbQEAAAABBgFgAX8Bfw==\" + 'AA'; new Uint8Array([0,97,115,109,1,0,0,0])", "data:application/wasm;base64,AGFzbQ=="), func(b []byte) { carve.Text(b) }},
	{"upx", 4, texts("UPX!\x0d\x0d\x08\x07" + strings.Repeat("\x00\x10\x00\x00", 40)), func(b []byte) { _, _ = upx.Unpack(b) }},
	{"yara", 10, texts("rule a : x { meta: s = \"high\" strings: $a = \"abc\" nocase wide $b = { 01 ?? [2-4] (0a|0b) } $c = /ab+[^c]{2,3}$/i condition: #a > 2 and for any i in (1..#b) : (@b[i] < filesize) and uint16be(0) == 0x4d5a }"), yaras},
	{"source text", 20, texts("printf(\"a %s b\\n\", R\"x(y)x\"); /* c */ let s = r#\"t\"#; `go`", "\"\"\"py\"\"\" # x"), sources},
	{"demangled names", 20, texts("_ZNSt6vectorIiSaIiEE9push_backERKi", "?f@@YAXPEAX@Z", "_RNvCs1234_7mycrate3foo", "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE"), func(b []byte) { native.Demangle(string(b)); known.Named(&image.Image{}, string(b)) }},
	{"targets", 40, texts("npm:@a/b@1.0.0", "pkg:pypi/x@2?y=z#w", "git+https://h/o/r#b", "./a"), func(b []byte) { _, _ = target.Parse(string(b)) }},
	{"printed text", 40, texts("a\x1b[0m‮b token=abcdefghijklmnop", "https://u:p@h/"), func(b []byte) { finding.Printable(finding.Redact(string(b)), 300) }},
	{"rules", 10, texts("---\nid: native/a\ntitle: A\nseverity: low\n---\nText.\n\n-- match --\nwhen:\n  import: x\n-- bad/a.elf.binary --\nformat: elf\n"), func(b []byte) { _, _ = rule.Parse(b) }},
}

// binaries returns small files of these formats for every instruction set.
func binaries(formats ...string) func(*testing.T) [][]byte {
	arches := map[string][]string{"elf": {"x86_64", "x86", "aarch64", "arm", "riscv64"}, "pe": {"x86_64", "x86", "aarch64"}, "macho": {"x86_64", "aarch64"}, "wasm": {"wasm32"}}
	return func(t *testing.T) (out [][]byte) {
		for _, format := range formats {
			for _, arch := range arches[format] {
				b, err := synth.Build(synth.Description{
					Format: format, Arch: synth.List{arch}, Strings: []string{"hello world", "/etc/passwd"},
					Imports: []synth.Import{{Name: "connect", Library: "libc.so.6"}, {Name: "open", Library: "libc.so.6"}},
					Exports: []synth.Definition{{Name: "plant", Calls: []synth.Call{{Name: "connect"}, {Name: "open"}}}},
				})
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, b)
			}
		}
		return out
	}
}

func texts(list ...string) func(*testing.T) [][]byte {
	return func(*testing.T) (out [][]byte) {
		for _, s := range list {
			out = append(out, []byte(s))
		}
		return out
	}
}

// machineCode returns instructions that name places.
func machineCode(image.Arch) func(*testing.T) [][]byte {
	return texts(
		"\x55\x48\x89\xe5\x48\x8d\x3d\x04\x00\x00\x00\xe8\x00\x00\x00\x00\xff\x15\x10\x00\x00\x00\x75\xf0\xb8\x2a\x00\x00\x00\x0f\x05\xc3",
		"\x55\x89\xe5\x53\xe8\x00\x00\x00\x00\x5b\x81\xc3\x10\x00\x00\x00\x6a\x05\xff\x93\x0c\x00\x00\x00\xcd\x80\xc2\x08\x00",
		"\xfd\x7b\xbf\xa9\x00\x00\x00\x90\x00\x40\x00\x91\x02\x00\x00\x94\x48\x08\x80\xd2\x01\x00\x00\xd4\xfd\x7b\xc1\xa8\xc0\x03\x5f\xd6",
		"\x10\x40\x2d\xe9\x00\x00\x9f\xe5\x00\x00\x00\xeb\x05\x70\xa0\xe3\x00\x00\x00\xef\x10\x80\xbd\xe8",
		"\x10\xb5\x00\x48\x78\x44\x00\xf0\x02\xf8\x08\xbf\x10\xbd\x00\xdf",
		"\x41\x11\x06\xe4\x17\x05\x00\x00\xef\x00\x40\x00\x93\x08\x00\x04\x73\x00\x00\x00\xa2\x60\x82\x80",
	)
}

// instructions reads bytes as the code of a tiny program.
func instructions(arch image.Arch) func([]byte) {
	return func(b []byte) {
		b = b[:min(len(b), 512)]
		size := uint64(len(b))
		m := &image.Image{
			Format: image.ELF, Arch: arch, OS: "linux", Bits: 64, Kind: image.Executable, Data: b, Entry: 0x1000,
			Segments: []image.Segment{{Addr: 0x1000, Size: size, FileSize: size, Access: image.Read | image.Execute}, {Addr: 0x2000, Size: size, FileSize: size, Access: image.Read | image.Write}},
			Sections: []image.Section{{Name: ".text", Addr: 0x1000, Size: size, FileSize: size, Access: image.Read | image.Execute, Code: true}},
			Imports:  []image.Import{{Name: "dlsym", Slot: 0x2010, Stub: 0x1010}},
		}
		if arch == image.X86 || arch == image.ARM {
			m.Bits = 32
		}
		m.Functions.List = []image.Function{{Addr: 0x1000, Size: size / 2}, {Addr: 0x1000 + size/2}}
		follow(code.Read(m))
	}
}

// follow asks everything of code that anybody asks.
func follow(c *code.Code) {
	known.Label(c, "")
	r := value.New(c)
	for i := range c.Functions[:min(len(c.Functions), 50)] {
		c.Reached(i)
		c.Callers(i)
		steps, _ := r.Steps(i)
		for k := range steps[:min(len(steps), 50)] {
			r.Through(steps[k].Addr, 1)
		}
	}
	if fn := skeleton.Telling(c); fn >= 0 {
		skeleton.Write(c, r, fn, skeleton.Options{})
	}
}

func whole(b []byte) {
	found, _ := native.Parse(b)
	for _, bin := range found {
		follow(code.Read(bin.Image))
	}
}

func bodies(b []byte) {
	for _, arch := range []image.Arch{image.X86_64, image.X86, image.AArch64} {
		known.KeyOf(arch, 0x1000, b, func(int, uint64) string { return "" })
	}
}

func signed(t *testing.T) (out [][]byte) {
	for _, b := range binaries("pe", "macho")(t) {
		s, err := forge.PE(b, forge.Order{Signer: "A"})
		if err != nil {
			s, err = forge.MachO(b, forge.Order{Signer: "A"})
		}
		if err == nil { // not every file has room for one
			out = append(out, s)
		}
	}
	if len(out) < 3 {
		t.Fatal("nothing could be signed")
	}
	return out
}

func signatures(b []byte) {
	m, err := pe.Parse(b)
	list := []*image.Image{m}
	if err != nil || m == nil {
		list, _ = macho.Parse(b)
	}
	for _, m := range list {
		signature.Read(m)
	}
}

func payloads(b []byte) {
	images, _ := native.Images(b)
	found, _ := carve.Find(b, images)
	for i := range found[:min(len(found), 4)] {
		p := &found[i]
		if r, err := p.Open(bytes.NewReader(b), int64(len(b))); err == nil {
			_, _ = io.CopyN(io.Discard, r, 1<<20)
			r.Close()
		}
	}
}

func yaras(b []byte) {
	f, err := yara.Parse("a.yar", b)
	if err != nil {
		return
	}
	yara.Compile(f)
}

func sources(b []byte) {
	for lang := sourcetext.C; lang <= sourcetext.Cython; lang++ {
		sourcetext.Read(lang, b)
	}
}

// TestSoak runs all parsers on mutated seeds. A panic, and an input that takes
// far longer than its size explains, is a failure, and the input is kept.
func TestSoak(t *testing.T) {
	var turns []int
	seeds := make([][][]byte, len(parsers))
	for i, p := range parsers {
		seeds[i] = p.seeds(t)
		turns = append(turns, slices.Repeat([]int{i}, p.weight)...)
	}
	further(t, seeds)
	counts := make([]atomic.Int64, len(parsers))
	end := time.Now().Add(*long)
	var wg sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			h := fnv.New64a()
			fmt.Fprint(h, w, time.Now().UnixNano())
			m := &mutator{rng: rand.New(rand.NewPCG(h.Sum64(), uint64(w)))}
			for time.Now().Before(end) && !t.Failed() {
				for range 16 {
					i := turns[m.rng.IntN(len(turns))]
					for range 8 {
						input := m.mutate(seeds[i])
						if !try(t, &parsers[i], input) {
							return
						}
					}
					counts[i].Add(8)
				}
			}
		})
	}
	wg.Wait()
	total := int64(0)
	for i := range counts {
		t.Logf("%12d %s", counts[i].Load(), parsers[i].name)
		total += counts[i].Load()
	}
	t.Logf("%12d in all", total)
	if total == 0 {
		t.Error("nothing was parsed")
	}
}

// further adds files of a folder to the seeds of the parsers of binaries.
func further(t *testing.T, seeds [][][]byte) {
	if *files == "" {
		return
	}
	entries, err := os.ReadDir(*files)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(*files, e.Name()))
		if err != nil || len(b) > 64<<10 {
			continue
		}
		kind := native.Identify(b[:min(len(b), 4096)])
		for i, p := range parsers {
			if strings.EqualFold(p.name, strings.ReplaceAll(string(kind), "-", "")) || p.name == "whole binary" && kind.Native() {
				seeds[i] = append(seeds[i], b)
			}
		}
	}
}

// slow is how long one small input may take: a machine that is busy with other
// things must not fail it.
const slow = 20 * time.Second

func try(t *testing.T, p *parser, input []byte) (ok bool) {
	before := bytes.Clone(input)
	keep := func(what any) {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("soak-%s-%x", strings.ReplaceAll(p.name, " ", "-"), len(before)))
		_ = os.WriteFile(name, before, 0o600)
		t.Errorf("%s: %v; the input is in %s", p.name, what, name)
	}
	defer func() {
		if r := recover(); r != nil {
			buf := make([]byte, 4096)
			keep(fmt.Sprintf("%v\n%s", r, buf[:runtime.Stack(buf, false)]))
		}
	}()
	start := time.Now()
	p.parse(input)
	if took := time.Since(start); took > slow {
		keep(took)
		return false
	}
	return true
}

// A mutator makes inputs like others.
type mutator struct {
	rng *rand.Rand
	buf []byte
}

var edges = []uint64{0, 1, 2, 3, 4, 7, 8, 15, 16, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0xff, 0x100, 0xfff, 0x1000, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1}

// mutate returns one of the seeds with a few changes; the bytes are good until
// the next call.
func (m *mutator) mutate(seeds [][]byte) []byte {
	b := append(m.buf[:0], seeds[m.rng.IntN(len(seeds))]...)
	for range 1 + m.rng.IntN(6) {
		if len(b) == 0 {
			b = append(b, byte(m.rng.Uint32()))
		}
		at := m.rng.IntN(len(b))
		if m.rng.IntN(3) == 0 {
			at = m.rng.IntN(min(len(b), 256)) // headers matter most
		}
		switch m.rng.IntN(9) {
		case 0:
			b[at] ^= 1 << m.rng.IntN(8)
		case 1:
			b[at] = byte(m.rng.Uint32())
		case 2, 3, 4:
			v, size := edges[m.rng.IntN(len(edges))], 1<<m.rng.IntN(4)
			if m.rng.IntN(3) == 0 {
				v = uint64(m.rng.IntN(2 * len(b)))
			}
			var word [8]byte
			if m.rng.IntN(4) == 0 {
				binary.BigEndian.PutUint64(word[:], v<<(64-8*size))
			} else {
				binary.LittleEndian.PutUint64(word[:], v)
			}
			copy(b[at&^(size-1):], word[:size])
		case 5:
			b = b[:at]
		case 6:
			n := min(1+m.rng.IntN(32), len(b)-at)
			b = append(b[:at], b[at+n:]...)
		case 7:
			n := min(1+m.rng.IntN(64), len(b)-at)
			to := m.rng.IntN(len(b))
			copy(b[to:], bytes.Clone(b[at:at+n]))
		case 8:
			other := seeds[m.rng.IntN(len(seeds))]
			if from := m.rng.IntN(len(other)); at < len(b) {
				copy(b[at:], other[from:min(len(other), from+1+m.rng.IntN(64))])
			}
		}
	}
	m.buf = b
	return b
}
