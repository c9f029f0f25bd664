package hidden_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/hidden"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// noise returns bytes like those of tables: of no pattern, with runs of zeros.
func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]byte, n)
	for i := range out {
		if r.IntN(64) == 0 {
			i += r.IntN(16)
		}
		out[i%n] = byte(r.Uint32())
	}
	return out
}

// widened stores each byte as a number of size bytes.
func widened(b []byte, size int) []byte {
	out := make([]byte, len(b)*size)
	for i, c := range b {
		out[i*size] = c
	}
	return out
}

func utf16le(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = append(out, byte(u), byte(u>>8))
	}
	return out
}

func xored(b []byte, key string) []byte {
	out := slices.Clone(b)
	for i := range out {
		out[i] ^= key[i%len(key)]
	}
	return out
}

func TestScan(t *testing.T) {
	const url = "https://registry.example/stage"
	for _, test := range []struct {
		name, word, how, text string
		data                  []byte
	}{
		{"xor", "getaddrinfo", "xor 0x5a", "getaddrinfo", xored([]byte("getaddrinfo\x00"), "\x5a")},
		{"xor to what is printable", "https://", "xor 0x5a", url, xored([]byte(url+"\x00"), "\x5a")},
		{"xor, short", "execve", "xor 0xc4", "execve", xored([]byte("\x00execve\x00"), "\xc4")},
		{"xor by all ones", "VirtualAlloc", "xor 0xff", "VirtualAlloc", xored([]byte("VirtualAlloc"), "\xff")},
		{"list under one key", "connect", "xor 0x91", "connect", xored([]byte("socket\x00connect\x00sendto\x00"), "\x91")},
		{"add", "/etc/shadow", "add 0x13", "/etc/shadow", each(func(_ int, c byte) byte { return c + 0x13 })("/etc/shadow\x00")},
		{"sub", "/etc/shadow", "add 0xf0", "/etc/shadow", each(func(_ int, c byte) byte { return c - 0x10 })("/etc/shadow\x00")},
		{"neg", "CreateRemoteThread", "subtracted from 0x00", "CreateRemoteThread", each(func(_ int, c byte) byte { return -c })("CreateRemoteThread")},
		{"add of a place", "CreateRemoteThread", "add of a key that counts", "CreateRemoteThread", each(func(i int, c byte) byte { return c + 9 + byte(5*i) })("CreateRemoteThread")},
		{"xor with a key that counts", "CreateRemoteThread", "xor with a key that counts", "CreateRemoteThread", each(func(i int, c byte) byte { return c ^ byte(7+i) })("CreateRemoteThread")},
		{"xor with a key that counts down", "CreateRemoteThread", "xor with a key that counts", "CreateRemoteThread", each(func(i int, c byte) byte { return c ^ byte(8-i) })("CreateRemoteThread")},
		{"key of 2", "/etc/shadow", "xor with a key of 2 bytes", "/etc/shadow", xored([]byte("/etc/shadow"), "\x91\x3e")},
		{"key of 4", url, "xor with a key of 4 bytes", url, xored([]byte(url), "\x91\x3e\xc7\x08")},
		{"key of 8", "CreateRemoteThread", "xor with a key of 8 bytes", "CreateRemoteThread", xored([]byte("CreateRemoteThread\x00"), "\x91\x3e\xc7\x08\xa1\xb2\x55\xe9")},
		{"key of 16", url, "xor with a key of 16 bytes", url, xored([]byte(url), key(16))},
		{"rotated", "getaddrinfo", "rotated left by 3", "getaddrinfo", each(func(_ int, c byte) byte { return c<<3 | c>>5 })("getaddrinfo")},
		{"nibbles", "getaddrinfo", "rotated left by 4", "getaddrinfo", each(func(_ int, c byte) byte { return c<<4 | c>>4 })("getaddrinfo")},
		{"rot13", "CreateRemoteThread", "rot13", "CreateRemoteThread", []byte("PerngrErzbgrGuernq\x00")},
		{"reversed", "getaddrinfo", "reversed", "getaddrinfo", []byte("\x00ofnirddateg\x00")},
		{"reversed under xor", "getaddrinfo", "xor 0x21, reversed", "getaddrinfo", xored([]byte("ofnirddateg\x00"), "\x21")},
		{"hexadecimal", "/etc/shadow", "hexadecimal", "cat /etc/shadow", []byte(hex.EncodeToString([]byte("cat /etc/shadow")))},
		{"hexadecimal in capitals", "/etc/shadow", "hexadecimal", "cat /etc/shadow", []byte(strings.ToUpper(hex.EncodeToString([]byte("cat /etc/shadow"))))},
		{"base64", "/etc/shadow", "base64", "/etc/shadow | nc", []byte(base64.StdEncoding.EncodeToString([]byte("/etc/shadow | nc")))},
		{"base64, one on", "/etc/shadow", "base64", "c/etc/shadow | nc", []byte(base64.RawStdEncoding.EncodeToString([]byte("c/etc/shadow | nc")))},
		{"base64, two on", "/etc/shadow", "base64", "a /etc/shadow | nc", []byte(base64.URLEncoding.EncodeToString([]byte("a /etc/shadow | nc")))},
		{"utf-16 under xor", "VirtualAlloc", "xor 0x77, 2 bytes to a letter", "VirtualAlloc", xored(utf16le("VirtualAlloc\x00"), "\x77")},
		{"numbers of 2 bytes", "VirtualAlloc", "xor 0x77, 2 bytes to a letter", "VirtualAlloc", widened(xored([]byte("VirtualAlloc"), "\x77"), 2)},
		{"numbers of 4 bytes", "VirtualAlloc", "add 0x03, 4 bytes to a letter", "VirtualAlloc", widened(each(func(_ int, c byte) byte { return c + 3 })("VirtualAlloc"), 4)},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := hidden.New([]string{"unrelated words", test.word})
			for _, size := range []int{0, 7, 100, 65500, 65501, 64460} { // also across chunks
				data := slices.Concat(noise(size, 3), []byte{0, 0, 0, 0}, test.data, []byte{0, 0, 0, 0}, noise(300, 4))
				got := f.Scan(data)
				i := slices.IndexFunc(got, func(f hidden.Find) bool { return f.Word == 1 })
				if i < 0 || len(got) != 1 {
					t.Fatalf("behind %d bytes: %+v; want %q once", size, got, test.word)
				}
				if g := got[i]; g.How != test.how || g.Decoded != test.text || !g.Alone && !strings.HasPrefix(test.word, "http") {
					t.Errorf("behind %d bytes: %+v; want %q, %q", size, g, test.how, test.text)
				}
				if g := got[i]; g.Offset < size+4 || g.Offset+g.Size > size+4+len(test.data) {
					t.Errorf("behind %d bytes: at %d, %d bytes, outside of what holds it", size, g.Offset, g.Size)
				}
			}
		})
	}
}

// TestScanPlain looks in what holds nothing that is encoded.
func TestScanPlain(t *testing.T) {
	f := hidden.New(append(slices.Clone(words), "http://", "169.254.169.254", "/dev/random", "argon2_verify"))
	var text, table, sequence []byte
	for range 400 {
		text = append(text, strings.Join(append(slices.Clone(words), "sysrandom", "/dev/urandom", "argon2i_verify", "CONNECT", "Connect"), "\x00")...)
		table = append(table, 0xff, 0x7f, 0x80, 0, 1, 2, 4, 8)
	}
	for i := range 1 << 16 {
		sequence = append(sequence, byte(i), byte(i>>8))
	}
	for _, test := range []struct {
		name string
		data []byte
	}{
		{"nothing", nil},
		{"little", []byte("abc")},
		{"noise", noise(2<<20, 5)},
		{"plain text", text},
		{"capitals", bytes.ToUpper(text)},
		{"utf-16", utf16le(strings.Join(words, "\x00"))},
		{"wide", widened([]byte(strings.Join(words, "\x00")), 4)},
		{"table", table},
		{"sequence", sequence},
		{"zeros", make([]byte, 1<<16)},
	} {
		if got := f.Scan(test.data); len(got) > 0 {
			t.Errorf("%s: %+v", test.name, got[:min(len(got), 3)])
		}
	}
}

// TestGlance looks for the few ways that are tried on much data.
func TestGlance(t *testing.T) {
	f := hidden.New([]string{"/etc/shadow"})
	for _, test := range []struct {
		how  string
		data []byte
	}{
		{"xor 0x5a", xored([]byte("/etc/shadow\x00"), "\x5a")},
		{"rotated left by 3", each(func(_ int, c byte) byte { return c<<3 | c>>5 })("/etc/shadow")},
		{"base64", []byte(base64.StdEncoding.EncodeToString([]byte("/etc/shadow | nc")))},
		{"", xored([]byte("/etc/shadow"), "\x91\x3e")},
	} {
		for _, size := range []int{0, 65500, 200_000} {
			got := f.Glance(slices.Concat(noise(size, 3), []byte{0, 0}, test.data, []byte{0, 0}))
			if test.how == "" {
				if len(got) > 0 {
					t.Errorf("%+v; a key of two bytes is for Scan", got)
				}
				continue
			}
			if len(got) != 1 || got[0].How != test.how || got[0].Offset < size || got[0].Offset > size+2+len(test.data) {
				t.Errorf("behind %d bytes: %+v; want %s", size, got, test.how)
			}
		}
	}
}

// TestAlone tells words from parts of words.
func TestAlone(t *testing.T) {
	f := hidden.New([]string{"connect"})
	for _, test := range []struct {
		text string
		want bool
	}{{"\x00connect\x00", true}, {"a.connect()", true}, {"\x00disconnect\x00", false}, {"\x00connection\x00", false}} {
		got := f.Scan(slices.Concat(make([]byte, 8), xored([]byte(test.text), "\xb3"), make([]byte, 8)))
		if len(got) != 1 || got[0].Alone != test.want {
			t.Errorf("%q: %+v, want alone %v", test.text, got, test.want)
		}
	}
}

func FuzzScan(f *testing.F) {
	finder := hidden.New(append(slices.Clone(words), "execve", "http://"))
	for _, m := range methods {
		f.Add(m.encode("https://registry.example/stage\x00"))
	}
	f.Add(widened(xored([]byte("VirtualAllocEx"), "\x77"), 4))
	f.Add([]byte("AAAAL2V0Yy9zaGFkb3c="))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, find := range finder.Scan(data) {
			if find.Offset < 0 || find.Size <= 0 || find.Offset+find.Size > len(data) || len(find.Decoded) > 300 || find.How == "" {
				t.Errorf("%+v of %d bytes", find, len(data))
			}
		}
	})
}

// FuzzCode carries out what may be no instructions at all.
func FuzzCode(f *testing.F) {
	finder := hidden.New(words)
	f.Add(uint8(0), []byte("\x48\x8d\x05\x10\x00\x00\x00\x80\x30\x5a\x48\xff\xc0\xeb\xf8"))
	f.Add(uint8(1), []byte("\x55\x89\xe5\xc7\x45\xf0conn\xc7\x45\xf4ect\x00\xe8\x00\x00\x00\x00\xc3"))
	f.Add(uint8(2), []byte("\x00\x00\x40\x39\x00\x14\x00\x52\x00\x00\x00\x39\xfd\xff\xff\x17"))
	f.Fuzz(func(t *testing.T, arch uint8, text []byte) {
		im := &image.Image{Format: image.ELF, OS: "linux", Arch: []image.Arch{image.X86_64, image.X86, image.AArch64}[arch%3], Bits: 64, Data: text}
		if im.Arch == image.X86 {
			im.Bits = 32
		}
		size := uint64(len(text))
		im.Segments = []image.Segment{{Addr: 0x1000, Size: size, FileSize: size, Access: image.Read | image.Execute}}
		im.Imports = []image.Import{{Name: "memcpy", Stub: 0x1000 + size/2}, {Name: "memset", Slot: 0x1000 + size/3}}
		c := &code.Code{Image: im, Read: true, Functions: []image.Function{{Addr: 0x1000, Size: size / 2}, {Addr: 0x1000 + size/2}}}
		for _, got := range finder.Code(c, func(uint64) bool { return true }, nil) {
			if got.Word < 0 || got.Word >= len(words) || len(got.Decoded) > 300 {
				t.Errorf("%+v", got)
			}
		}
	})
}

// BenchmarkScan searches data like that of programs: text, tables, zeros, noise.
func BenchmarkScan(b *testing.B) {
	var list []string
	r := rand.New(rand.NewPCG(7, 7))
	for range 1300 {
		w := make([]byte, 6+r.IntN(14))
		for i := range w {
			w[i] = byte('a' + r.IntN(26))
		}
		list = append(list, string(w))
	}
	f := hidden.New(list)
	data := slices.Concat(noise(1<<20, 9), bytes.Repeat([]byte("a line of plain text\x00of a program\x00"), 30_000), make([]byte, 1<<20), widened(noise(1<<18, 11), 4))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		f.Scan(data)
	}
}
