package carve_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/loupe-sec/loupe/internal/formats/carve"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
)

// build makes a binary by its description.
func build(t testing.TB, d synth.Description) []byte {
	t.Helper()
	data, err := synth.Build(d)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// holder makes a binary with a section of those bytes.
func holder(t testing.TB, format string, section []byte) []byte {
	name := ".blob"
	if format == "macho" {
		name = "__DATA,__blob"
	}
	return build(t, synth.Description{Format: format, Sections: []synth.Section{{Name: name, Content: synth.Content{Hex: section}}}})
}

// payloads are small programs and archives.
func payloads(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, format := range []string{"elf", "pe", "macho", "wasm"} {
		all[format] = build(t, synth.Description{
			Format:   format,
			Strings:  []string{"inside of " + format},
			Sections: []synth.Section{{Name: map[string]string{"macho": "__DATA,__noise", "elf": ".noise", "pe": ".noise", "wasm": "noise"}[format], Content: synth.Content{Random: 3000}}},
		})
	}
	var z bytes.Buffer
	zw := zip.NewWriter(&z)
	var r bytes.Buffer
	tw := tar.NewWriter(&r)
	for i := range 4 {
		name, text := fmt.Sprintf("d/%d.txt", i), noise(uint64(i), 700)
		w, err := zw.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(text)
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		tw.Write(text)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	all["zip"], all["tar"] = z.Bytes(), r.Bytes()
	return all
}

// noise returns bytes without a pattern, the same for the same seed.
func noise(seed uint64, n int) []byte {
	rnd := rand.New(rand.NewPCG(seed, 99))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rnd.Uint32())
	}
	return out
}

// encodings pack bytes.
var encodings = map[string]func(testing.TB, []byte) []byte{
	"plain":   func(_ testing.TB, b []byte) []byte { return b },
	"gzip":    packer(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }),
	"zlib":    packer(func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil }),
	"deflate": packer(func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 9) }),
	"zstd":    packer(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
	"xz":      packer(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
	"lzma":    packer(func(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter(w) }),
	"lz4":     packer(func(w io.Writer) (io.WriteCloser, error) { return lz4.NewWriter(w), nil }),
	"brotli":  packer(func(w io.Writer) (io.WriteCloser, error) { return brotli.NewWriter(w), nil }),
	"xor": func(_ testing.TB, b []byte) []byte {
		out := bytes.Clone(b)
		for i := range out {
			out[i] ^= 0xa7
		}
		return out
	},
	"base64": func(_ testing.TB, b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) },
	"hex":    func(_ testing.TB, b []byte) []byte { return []byte(hex.EncodeToString(b)) },
}

func packer(open func(io.Writer) (io.WriteCloser, error)) func(testing.TB, []byte) []byte {
	return func(t testing.TB, b []byte) []byte {
		t.Helper()
		var out bytes.Buffer
		w, err := open(&out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
}

// pack packs bytes in layers, of which the last named is the inner one.
func pack(t testing.TB, layers string, b []byte) []byte {
	t.Helper()
	for _, encoding := range slices.Backward(strings.Split(layers, ", ")) {
		b = encodings[encoding](t, b)
	}
	return b
}

// places put packed bytes into a binary.
var places = map[string]func(testing.TB, []byte) []byte{
	"ELF section":    func(t testing.TB, b []byte) []byte { return holder(t, "elf", b) },
	"PE section":     func(t testing.TB, b []byte) []byte { return holder(t, "pe", b) },
	"Mach-O section": func(t testing.TB, b []byte) []byte { return holder(t, "macho", b) },
	"ELF overlay":    func(t testing.TB, b []byte) []byte { return append(build(t, synth.Description{Format: "elf"}), b...) },
	"PE overlay":     func(t testing.TB, b []byte) []byte { return append(build(t, synth.Description{Format: "pe"}), b...) },
	"PE resource":    func(t testing.TB, b []byte) []byte { return withResource(t, b) },
	"behind a length": func(t testing.TB, b []byte) []byte {
		return holder(t, "elf", append([]byte{byte(len(b)), byte(len(b) >> 8), byte(len(b) >> 16), 0}, b...))
	},
	"in the middle": func(t testing.TB, b []byte) []byte {
		text := strings.Repeat("some constants, some text. ", 301)
		return holder(t, "elf", slices.Concat([]byte(text), b, []byte("!"+text)))
	},
}

// anywhere are the encodings that can be found where nothing says that
// something begins.
var anywhere = []string{"plain", "gzip", "zlib", "zstd", "xz", "lzma", "lz4", "xor", "gzip, zstd"}

// TestGenerated hides every payload in every encoding at every place, in
// binaries and in source text, and wants it back byte for byte.
func TestGenerated(t *testing.T) {
	all := payloads(t)
	tried, lost := 0, 0
	check := func(name string, file, want []byte) {
		t.Helper()
		tried++
		if !found(t, file, want) {
			lost++
			t.Logf("lost: %s", name)
		}
	}
	for kind, payload := range all {
		for _, encoding := range append(slices.Sorted(maps.Keys(encodings)), "gzip, zstd") {
			packed := pack(t, encoding, payload)
			for place, put := range places {
				switch {
				case encoding == "xor" && kind != "elf" && kind != "pe":
					continue // keys are looked for in these alone
				case place == "in the middle" && !slices.Contains(anywhere, encoding):
					continue
				case place == "behind a length" && (encoding == "brotli" || encoding == "deflate" || encoding == "base64" || encoding == "hex"):
					continue
				case kind == "tar" && (encoding == "base64" || encoding == "hex"):
					continue // it begins with a name, so that nothing tells where in a binary
				}
				check(fmt.Sprintf("%s as %s: %s", kind, encoding, place), put(t, packed), payload)
			}
		}
		for _, encoding := range []string{"plain", "gzip", "zlib", "deflate", "zstd", "xz", "brotli", "gzip, zstd"} {
			packed := pack(t, encoding, payload)
			for form, write := range forms {
				if strings.HasSuffix(form, "numbers") || form == "escapes" {
					if kind == "tar" && encoding == "plain" || encoding == "brotli" || encoding == "deflate" {
						continue // the first bytes say nothing
					}
				}
				check(fmt.Sprintf("%s as %s: %s", kind, encoding, form), []byte(write(packed)), payload)
			}
		}
	}
	t.Logf("%d of %d found", tried-lost, tried)
	if tried < 500 || lost*100 > tried {
		t.Errorf("%d of %d not found; want at most 1 in 100 of at least 500", lost, tried)
	}
}

// found reports whether what is found in the file is those bytes and nothing
// else.
func found(t testing.TB, file, want []byte) bool {
	t.Helper()
	got := contents(t, file)
	return len(got) == 1 && got[0] == sha256.Sum256(want)
}

// look finds what is in a file, as source text if it is no binary.
func look(file []byte) ([]carve.Payload, []string) {
	if native.Identify(file) == native.Unknown {
		return carve.Text(file)
	}
	images, _ := native.Images(file)
	return carve.Find(file, images)
}

// contents returns the sums of all that is found in a file.
func contents(t testing.TB, file []byte) (sums [][32]byte) {
	t.Helper()
	list, _ := look(file)
	for _, p := range list {
		r, err := p.Open(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil {
			t.Errorf("%s in %s: %v", p.Encoded(), p.Name, err)
		}
		r.Close()
		sums = append(sums, [32]byte(h.Sum(nil)))
	}
	return sums
}

// forms write bytes as source text.
var forms = map[string]func([]byte) string{
	"one literal": func(b []byte) string {
		return `const code = Buffer.from("` + base64.StdEncoding.EncodeToString(b) + `", "base64");`
	},
	"url alphabet": func(b []byte) string {
		return `code = urlsafe_b64decode('` + base64.URLEncoding.EncodeToString(b) + `')`
	},
	"no padding": func(b []byte) string { return "don't panic\nx = '" + base64.RawStdEncoding.EncodeToString(b) + `'` },
	"sum": func(b []byte) string {
		return "module.exports = '" + strings.Join(cut(base64.StdEncoding.EncodeToString(b), 76), "' +\n  '") + "';"
	},
	"template": func(b []byte) string {
		return "export default `\n" + strings.Join(cut(base64.StdEncoding.EncodeToString(b), 76), "\n") + "\n`;"
	},
	"list": func(b []byte) string {
		return `const code = ["` + strings.Join(cut(base64.StdEncoding.EncodeToString(b), 500), `", "`) + `"].join("");`
	},
	"list of a name": func(b []byte) string {
		text := base64.StdEncoding.EncodeToString(b)
		return `const parts = ["` + text[:len(text)/3] + `", "` + text[len(text)/3:] + `"]; run(Buffer.from(parts.join(""), "base64"));`
	},
	"list of equal pieces": func(b []byte) string {
		return "static const char *code[] = {\n\"" + strings.Join(cut(base64.StdEncoding.EncodeToString(b), 500), "\",\n\"") + "\",\n};"
	},
	"joined tuple": func(b []byte) string {
		text := base64.StdEncoding.EncodeToString(b)
		return `DATA = b"".join((b"` + text[:len(text)/2] + `", b"` + text[len(text)/2:] + `"))`
	},
	"implode": func(b []byte) string {
		text := hex.EncodeToString(b)
		return `$code = implode('', ['` + text[:len(text)/4] + `', '` + text[len(text)/4:] + `']);`
	},
	"argument before others": func(b []byte) string {
		return `decode("x", "` + base64.RawStdEncoding.EncodeToString(b) + `", "base64url", "main")`
	},
	"uri": func(b []byte) string {
		return `fetch("data:application/octet-stream;base64,` + base64.StdEncoding.EncodeToString(b) + `")`
	},
	"docstring": func(b []byte) string {
		return "DATA = b64decode(\"\"\"\n    " + strings.Join(cut(base64.StdEncoding.EncodeToString(b), 76), "\n    ") + "\n\"\"\")\n"
	},
	"side by side": func(b []byte) string {
		return "DATA = (\n    b'" + strings.Join(cut(base64.StdEncoding.EncodeToString(b), 76), "'\n    b'") + "'\n)\n"
	},
	"newlines": func(b []byte) string {
		return `{"data": "` + strings.Join(cut(base64.StdEncoding.EncodeToString(b), 76), `\n`) + `"}`
	},
	"hex": func(b []byte) string { return `bytes.fromhex("` + hex.EncodeToString(b) + `")` },
	"numbers": func(b []byte) string {
		return "new Uint8Array([" + strings.ReplaceAll(strings.Trim(fmt.Sprint(b), "[]"), " ", ",") + "])"
	},
	"hex numbers": hexNumbers,
	"escapes":     func(b []byte) string { return "exec(zlib.decompress(b'" + escape(b) + "'))" },
}

func hexNumbers(b []byte) string {
	var out strings.Builder
	out.WriteString("static const unsigned char code[] = {")
	for i, c := range b {
		if i%12 == 0 {
			out.WriteString("\n ")
		}
		fmt.Fprintf(&out, " 0x%02x,", c)
	}
	return out.String() + "\n};"
}

// escape writes bytes as Python does.
func escape(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		switch {
		case c == '\\' || c == '\'':
			out.WriteByte('\\')
			out.WriteByte(c)
		case c == '\n':
			out.WriteString(`\n`)
		case c < ' ' || c > '~':
			fmt.Fprintf(&out, `\x%02x`, c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

func cut(s string, n int) (parts []string) {
	for len(s) > n {
		parts, s = append(parts, s[:n]), s[n:]
	}
	return append(parts, s)
}

// withResource makes a PE file with those bytes as resource 10, "PAYLOAD": a
// tree of types, names and languages, then the leaf ("PE Format", The .rsrc
// Section).
func withResource(t testing.TB, b []byte) []byte {
	t.Helper()
	const leaf, name, at = 0x48, 0x58, 0x68
	var rsrc []byte
	for _, entry := range [][2]uint32{{10, 0x80000018}, {0x80000000 | name, 0x80000030}, {1033, leaf}} {
		rsrc = append(rsrc, make([]byte, 12)...)
		if entry[0]&0x80000000 != 0 {
			rsrc = append(rsrc, 1, 0, 0, 0)
		} else {
			rsrc = append(rsrc, 0, 0, 1, 0)
		}
		rsrc = binary.LittleEndian.AppendUint32(rsrc, entry[0])
		rsrc = binary.LittleEndian.AppendUint32(rsrc, entry[1])
	}
	rsrc = append(rsrc, make([]byte, at-len(rsrc))...)
	copy(rsrc[name:], "\x07\x00P\x00A\x00Y\x00L\x00O\x00A\x00D\x00")
	rsrc = append(append(rsrc, b...), "padding that is not of the resource"...)
	file := build(t, synth.Description{Format: "pe", Sections: []synth.Section{{Name: ".rsrc", Content: synth.Content{Hex: rsrc}}}})
	images, _ := native.Images(file)
	section := images[0].Section(".rsrc")
	rva := uint32(section.Addr - images[0].Base)
	binary.LittleEndian.PutUint32(file[section.Offset+leaf:], rva+at)
	binary.LittleEndian.PutUint32(file[section.Offset+leaf+4:], uint32(len(b)))
	dirs := binary.LittleEndian.Uint32(file[0x3c:]) + 24 + 112 // of PE32+
	binary.LittleEndian.PutUint32(file[dirs+2*8:], rva)
	binary.LittleEndian.PutUint32(file[dirs+2*8+4:], uint32(len(rsrc)))
	return file
}
