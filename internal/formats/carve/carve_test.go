package carve_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/formats/carve"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
)

// describe puts payloads on lines.
func describe(list []carve.Payload) string {
	var lines []string
	for _, p := range list {
		lines = append(lines, fmt.Sprintf("%s: %s %s", p.Name, p.Encoded(), p.Kind))
	}
	return strings.Join(lines, "\n")
}

func TestNames(t *testing.T) {
	all := payloads(t)
	elf := all["elf"]
	for _, test := range []struct {
		name string
		file []byte
		want string
	}{
		{"section", holder(t, "elf", pack(t, "zstd", elf)), "section:.blob: zstd ELF"},
		{"section behind a header of its own", holder(t, "elf", append([]byte("a header of its own"), pack(t, "zstd", elf)...)), "section:.blob: zstd ELF"},
		{"overlay", slices.Concat(elf, all["pe"]), "overlay: plain PE"},
		{"two in an overlay", slices.Concat(elf, all["pe"], pack(t, "gzip", all["macho"])), fmt.Sprintf("overlay: plain PE\noffset:0x%x: gzip Mach-O", len(elf)+len(all["pe"]))},
		{"resource", withResource(t, elf), "resource:10-PAYLOAD: plain ELF"},
		{"small part of a section", holder(t, "elf", slices.Concat(make([]byte, 100_000), elf)), fmt.Sprintf("offset:0x%x: plain ELF", section(t, elf)+100_000)},
		{"under a key", holder(t, "elf", pack(t, "xor", elf)), "section:.blob: xor 0xa7 ELF"},
		{"layers", holder(t, "elf", pack(t, "gzip, base64, brotli", elf)), "section:.blob: gzip "},
		{"archive", holder(t, "elf", pack(t, "gzip", all["tar"])), "section:.blob: gzip tar"},
		{"self-extracting", append(bytes.Clone(elf), all["zip"]...), "overlay: plain zip"},
		{"text", []byte(`x = "` + string(pack(t, "base64, gzip", elf)) + `"; y = "` + string(pack(t, "base64", all["wasm"])) + `"`), "base64:1: base64, gzip ELF\nbase64:2: base64 Wasm"},
		{"every one of a list", []byte(`["` + string(pack(t, "base64", all["wasm"])) + `", "` + string(pack(t, "base64", elf)) + `"]`), "base64:1: base64 Wasm\nbase64:2: base64 ELF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, notes := look(test.file)
			if describe(got) != test.want || len(notes) > 0 {
				t.Errorf("%s, notes %q; want %s", describe(got), notes, test.want)
			}
		})
	}
}

// TestArguments wants a payload of any length back to the byte where what
// follows it in a call is digits as well, and one of a list that nothing joins.
func TestArguments(t *testing.T) {
	for length := range 4 {
		payload := append(bytes.Clone(payloads(t)["wasm"]), make([]byte, length)...)
		text := base64.StdEncoding.EncodeToString(payload)
		for _, file := range []string{
			`run(Buffer.from('` + text + `', 'base64'), 'main');`,
			`run(Buffer.from('` + text[:2000] + `' + "` + text[2000:] + `",'base64'));`,
			"load(name, `" + text + "`,\n  'base64', 'utf8', 'main')",
			`const source = ['` + text + `', 'base64'];`,
			`const [code, as] = ["` + text + `", "base64", "wasm"]`,
			`x.concat([Buffer.from('` + text + `', 'base64')])`,
		} {
			if !found(t, []byte(file), payload) {
				t.Errorf("%d bytes are not found as they are in %s … %s", len(payload), file[:20], file[len(file)-20:])
			}
		}
	}
	wasm := payloads(t)["wasm"]
	if !found(t, []byte(`run('`+escape(wasm)+`', 'binary')`), wasm) {
		t.Error("the second argument is taken for a part of the first")
	}
}

// section returns where the section of a holder begins in the file.
func section(t testing.TB, payload []byte) int {
	file := holder(t, "elf", slices.Concat(make([]byte, 100_000), payload))
	images, _ := native.Images(file)
	return int(images[0].Section(".blob").Offset)
}

// TestSilent holds what looks like something and is none, or is no business of
// anybody's.
func TestSilent(t *testing.T) {
	elf := payloads(t)["elf"]
	debug := func(name string) []byte {
		return build(t, synth.Description{Format: "elf", Sections: []synth.Section{{Name: name, Flags: "-", Content: synth.Content{Hex: pack(t, "zlib", bytes.Repeat(elf, 4))}}}})
	}
	header := append(bytes.Clone(elf[:64]), "and no more of it, since a linker knows what headers look like"...)
	magics := []byte("\x7fELF\x02\x01\x01\x00 MZ\x90\x00 PE\x00\x00 \x1f\x8b\x08\x00 \x28\xb5\x2f\xfd \xfd7zXZ\x00 PK\x03\x04 PK\x05\x06 \x00asm\x01\x00\x00\x00 BZh91AY&SY \xca\xfe\xba\xbe\x00\x00\x00\x02 \xcf\xfa\xed\xfe ustar ")
	png := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x01\x00\x00\x00\x01\x00\x08\x02\x00\x00\x00\xd3\x10?1\x00\x00\x20\x00IDAT"), pack(t, "zlib", noise(1, 9000))...)
	for name, file := range map[string][]byte{
		"nothing":           elf,
		"magic numbers":     holder(t, "elf", bytes.Repeat(magics, 50)),
		"header alone":      holder(t, "elf", header),
		"half a program":    holder(t, "elf", elf[:len(elf)/2]),
		"half a frame":      holder(t, "elf", pack(t, "zstd", noise(2, 9000))[:5000]),
		"half a gzip":       holder(t, "elf", pack(t, "gzip", noise(2, 9000))[:5000]),
		"little data":       holder(t, "elf", pack(t, "gzip", []byte(strings.Repeat("text ", 60)))),
		"noise":             holder(t, "elf", noise(3, 300_000)),
		"debug":             debug(".debug_info"),
		"old debug":         debug(".zdebug_info"),
		"mini debug":        debug(".gnu_debugdata"),
		"picture":           holder(t, "elf", png),
		"picture in text":   []byte(`url("data:image/png;base64,` + base64.StdEncoding.EncodeToString(png) + `")`),
		"words":             []byte(strings.Repeat(`"It's a text", 'said she', and "that is all".`+"\n", 300)),
		"one long word":     []byte(`"` + strings.Repeat("abcdefgh", 1000) + `"`),
		"numbers":           []byte("[" + strings.Repeat("0, 97, 115, 108, ", 300) + "]"),
		"short numbers":     []byte("[0,97,115,109,1,0,0,0]"),
		"noise in base64":   pack(t, "base64", noise(5, 9000)),
		"noise in a string": []byte(`"` + string(pack(t, "base64", noise(5, 9000))) + `"`),
		"hash":              []byte(`"` + strings.Repeat("0123456789abcdef", 100) + `"`),
	} {
		if got, notes := look(file); len(got)+len(notes) > 0 {
			t.Errorf("%s: %s, notes %q", name, describe(got), notes)
		}
	}
}

// TestBlob finds programs behind pictures and in files under a key, but not
// the file itself.
func TestBlob(t *testing.T) {
	all := payloads(t)
	png := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"), noise(4, 2000)...)
	for _, test := range []struct {
		name string
		file []byte
		want string
	}{
		{"behind a picture", slices.Concat(png, all["elf"]), fmt.Sprintf("offset:0x%x: plain ELF", len(png))},
		{"under a key", pack(t, "xor", all["pe"]), "data: xor 0xa7 PE"},
		{"brotli", pack(t, "brotli", all["wasm"]), "data: brotli Wasm"},
		{"itself", all["elf"], ""},
		{"data", slices.Concat(png, pack(t, "zlib", noise(6, 9000))), ""},
	} {
		if got, notes := carve.Blob(test.file); describe(got) != test.want || len(notes) > 0 {
			t.Errorf("%s: %s, notes %q; want %s", test.name, describe(got), notes, test.want)
		}
	}
}

// TestManyAreCutOff keeps what matters when there is more than anybody reads.
func TestManyAreCutOff(t *testing.T) {
	var section []byte
	for i := range 200 {
		section = append(section, pack(t, "gzip", noise(uint64(i), 600))...)
	}
	section = append(section, payloads(t)["elf"]...)
	got, notes := look(holder(t, "elf", section))
	if len(got) != 65 || got[64].Kind != carve.ELF || len(notes) != 1 || notes[0] != "not looked at: 136 more things that are packed in it" {
		t.Errorf("%d found, notes %q", len(got), notes)
	}
}

func TestOdd(t *testing.T) {
	for _, test := range []struct {
		chain    []carve.Encoding
		inBinary bool
		want     bool
	}{
		{nil, true, false},
		{[]carve.Encoding{carve.Zstd}, true, false},
		{[]carve.Encoding{carve.UPX}, true, false},
		{[]carve.Encoding{carve.Gzip, carve.Zstd}, true, true},
		{[]carve.Encoding{carve.XOR}, true, true},
		{[]carve.Encoding{carve.Base64}, true, true},
		{[]carve.Encoding{carve.Base64, carve.Gzip}, false, false},
		{[]carve.Encoding{carve.Base64, carve.Gzip, carve.XZ}, false, true},
	} {
		p := carve.Payload{Chain: test.chain}
		if got := p.Odd(test.inBinary); got != test.want {
			t.Errorf("%v in a binary %v: %v", test.chain, test.inBinary, got)
		}
	}
}

func TestCovers(t *testing.T) {
	list := []carve.Payload{{Range: image.Range{Offset: 100, Size: 50}}, {Range: image.Range{Offset: 150, Size: 45}}}
	for _, test := range []struct {
		r    image.Range
		want bool
	}{{image.Range{Offset: 100, Size: 100}, true}, {image.Range{Offset: 0, Size: 200}, false}, {image.Range{Offset: 500, Size: 10}, false}} {
		if got := carve.Covers(list, test.r); got != test.want {
			t.Errorf("%+v: %v", test.r, got)
		}
	}
}

// TestSystemBinaries looks through programs of this machine, which carry
// nothing that is not theirs: at most data, never another program.
func TestSystemBinaries(t *testing.T) {
	seen := 0
	for _, name := range []string{"/bin/ls", "/bin/tar", "/usr/bin/ld.bfd", "/usr/bin/objdump", "/usr/bin/file", "/usr/bin/xz", "/usr/bin/gzip", "/usr/bin/python3", "/bin/bash"} {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		seen++
		got, _ := look(data)
		for _, p := range got {
			if p.Kind != carve.Data {
				t.Errorf("%s: %s", name, describe([]carve.Payload{p}))
			}
		}
	}
	if seen == 0 {
		t.Skip("this system has none of the programs")
	}
}

// TestTime bounds the work on input that is made to look like much.
func TestTime(t *testing.T) {
	const size = 1 << 20
	gz := append([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), 0, 0xff, 0xff, 0, 0) // a stored block that goes on and on
	for name, section := range map[string][]byte{
		"gzip in gzip":  bytes.Repeat(gz, size/len(gz)),
		"zlib":          bytes.Repeat([]byte{0x78, 0x9c, 0, 0xff, 0xff, 0, 0}, size/7),
		"zip ends":      bytes.Repeat([]byte("PK\x05\x06\x00\x00\x00\x00\xff\xff\xff\xff\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00"), size/22),
		"keyed headers": bytes.Repeat(pack(t, "xor", append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...)), size/64),
		"elf headers":   bytes.Repeat(payloads(t)["elf"][:64], size/64),
		"lzma":          bytes.Repeat([]byte("\x5d\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x11\x22"), size/16),
		"xz":            bytes.Repeat([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x28\x00\x00\x00"), size/20),
		"digits":        bytes.Repeat([]byte("H4sIUEsDf0VMR"), size/13),
		"zstd in zstd":  bytes.Repeat([]byte("\x28\xb5\x2f\xfd\x00\x58\x30\x00\x00"), size/9),
		"elf tables":    bytes.Repeat([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00\x01\x00\x00\x00"+strings.Repeat("\x00", 28)+"\x40\x00\x38\x00\x00\x00\x40\x00\xff\xff\x00\x00"), size/64),
		"cut tar":       slices.Concat(bytes.Repeat(tarHeader("0"), size/512), tarHeader("77777777777")),
		"zip directory": slices.Concat(bytes.Repeat([]byte("PK\x01\x02"+strings.Repeat("\x00", 42)), 12_000), zipEnds(12_000, 16_000)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, func() { look(holder(t, "elf", section)) })
		})
	}
	for name, text := range map[string]string{
		"quotes":       strings.Repeat(`"AAAAAAAA"`, size/10),
		"open":         strings.Repeat(`"AAAAAAAAAAAAAAAA`, size/17),
		"glue":         strings.Repeat(`"AAAAAAAAA" + `, size/14),
		"escapes":      strings.Repeat(`"\x7fELF`, size/8),
		"open escapes": strings.Repeat(`'MZab\`, size/6),
		"lists":        strings.Repeat(`[0,97,115,109,`, size/14),
		"arguments":    `f(` + strings.Repeat(`"\x7fELFabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefg", `, size/72),
		"many lists":   strings.Repeat(`a=["`+strings.Repeat("A", 1024)+`","b"]`, size/1036),
		"templates":    strings.Repeat("`AAAAAAAAA\n", size/11),
		"unknown data": strings.Repeat(`"`+string(pack(t, "base64", noise(8, 3000)))+"\"\n", 250),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, func() { carve.Text([]byte(text)) })
		})
	}
}

// within fails if f takes so long that it must do the same again and again.
func within(t *testing.T, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it takes %v", took)
	}
}

// tarHeader is the header of a member of that size, in octal digits.
func tarHeader(size string) []byte {
	h := make([]byte, 512)
	copy(h, "a")
	copy(h[124:], size)
	copy(h[148:], "        ")
	copy(h[257:], "ustar\x0000")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

// zipEnds are end records of archives that have one directory of so many
// members, in front of the first record.
func zipEnds(members, records int) (out []byte) {
	for range records {
		r := append([]byte("PK\x05\x06"), make([]byte, 18)...)
		binary.LittleEndian.PutUint16(r[10:], uint16(members))
		binary.LittleEndian.PutUint32(r[12:], uint32(members*46+len(out)))
		out = append(out, r...)
	}
	return out
}

func FuzzFind(f *testing.F) {
	all := payloads(f)
	for encoding := range encodings {
		f.Add(holder(f, "elf", pack(f, encoding, all["elf"])))
		f.Add(holder(f, "macho", pack(f, encoding, all["wasm"])))
	}
	f.Add(withResource(f, all["zip"]))
	f.Add(append(all["pe"], all["tar"]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		images, _ := native.Images(data)
		list, _ := carve.Find(data, images)
		again, _ := carve.Blob(data)
		readAll(t, data, append(list, again...))
	})
}

func FuzzText(f *testing.F) {
	for _, write := range forms {
		f.Add([]byte(write(payloads(f)["wasm"][:1200])))
		f.Add([]byte(write(pack(f, "gzip", payloads(f)["elf"]))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, _ := carve.Text(data)
		readAll(t, data, list)
	})
}

// readAll checks that what was found lies in the file and can be read twice
// with the same result.
func readAll(t *testing.T, data []byte, list []carve.Payload) {
	t.Helper()
	for _, p := range list {
		if p.Range.Offset+p.Range.Size > uint64(len(data)) || p.Packed() <= 0 || p.Name == "" {
			t.Fatalf("%+v of %d bytes", p, len(data))
		}
		var sums [2][]byte
		for i := range sums {
			r, err := p.Open(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatalf("%+v: %v", p, err)
			}
			sums[i], _ = io.ReadAll(io.LimitReader(r, 1<<20))
			r.Close()
		}
		if !bytes.Equal(sums[0], sums[1]) {
			t.Fatalf("%+v reads differently", p)
		}
	}
}

// BenchmarkFind looks through sections like those of a large program: code,
// texts, tables.
func BenchmarkFind(b *testing.B) {
	var data []byte
	for i := range 4 << 20 / 8 {
		data = binary.LittleEndian.AppendUint64(data, uint64(i)*0x9e3779b97f4a7c15>>20)
	}
	text := strings.Repeat("src/lib.rs: called on a None value, index out of bounds; ", 80_000)
	file := build(b, synth.Description{Format: "elf", Sections: []synth.Section{{Name: ".big", Content: synth.Content{Hex: data}}, {Name: ".texts", Content: synth.Content{Hex: []byte(text)}}}})
	images, _ := native.Images(file)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		carve.Find(file, images)
	}
}
