package hidden_test

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/hidden"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
)

// A method hides a text: encode makes the bytes that a program holds, and
// decode is C that turns n bytes of e into text at out.
type method struct {
	name   string
	encode func(s string) []byte
	decode string
	ended  bool // the zero at the end is encoded too
}

func each(f func(i int, c byte) byte) func(string) []byte {
	return func(s string) []byte {
		out := []byte(s)
		for i := range out {
			out[i] = f(i, out[i])
		}
		return out
	}
}

// loop is C that goes through all bytes.
func loop(expr string) string {
	return "for (int i = 0; i < n; i++) out[i] = " + expr + "; out[n] = 0;"
}

func key(n int) string {
	k := "\x91\x5e\xc3\x17\xa8\x2d\x74\xf6\x3b\xd9\x62\x8f\x4c\xe1\x05\xba"
	return k[:n]
}

func keyed(n int) method {
	var list []string
	for _, c := range []byte(key(n)) {
		list = append(list, fmt.Sprint(c))
	}
	return method{
		fmt.Sprintf("xor with a key of %d", n), each(func(i int, c byte) byte { return c ^ key(n)[i%n] }),
		fmt.Sprintf("static const u8 k[] = {%s}; ", strings.Join(list, ",")) + loop(fmt.Sprintf("e[i] ^ k[i %% %d]", n)), false,
	}
}

func rc4(s string) []byte {
	var state [256]byte
	for i := range state {
		state[i] = byte(i)
	}
	j := 0
	for i := range state {
		j = (j + int(state[i]) + int("secret"[i%6])) & 255
		state[i], state[j] = state[j], state[i]
	}
	out := []byte(s)
	i, j := 0, 0
	for k := range out {
		i = (i + 1) & 255
		j = (j + int(state[i])) & 255
		state[i], state[j] = state[j], state[i]
		out[k] ^= state[(int(state[i])+int(state[j]))&255]
	}
	return out
}

var methods = []method{
	{"xor", each(func(_ int, c byte) byte { return c ^ 0x5a }), loop("e[i] ^ 0x5a"), false},
	{"xor with its end", each(func(_ int, c byte) byte { return c ^ 0xa7 }), loop("e[i] ^ 0xa7"), true},
	{"xor of a small key", each(func(_ int, c byte) byte { return c ^ 3 }), loop("e[i] ^ 3"), true},
	{"add", each(func(_ int, c byte) byte { return c + 0x13 }), loop("e[i] - 0x13"), true},
	{"sub", each(func(_ int, c byte) byte { return c - 7 }), loop("e[i] + 7"), false},
	{"not", each(func(_ int, c byte) byte { return ^c }), loop("~e[i]"), true},
	{"neg", each(func(_ int, c byte) byte { return -c }), loop("-e[i]"), false},
	{"xor then add", each(func(_ int, c byte) byte { return (c ^ 0x33) + 5 }), loop("(e[i] - 5) ^ 0x33"), false},
	{"add then xor", each(func(_ int, c byte) byte { return (c + 9) ^ 0x6c }), loop("(e[i] ^ 0x6c) - 9"), true},
	keyed(2), keyed(4), keyed(8), keyed(16), keyed(11),
	{"xor with a key that counts", each(func(i int, c byte) byte { return c ^ byte(0x41+i) }), loop("e[i] ^ (u8)(0x41 + i)"), true},
	{"xor with a product", each(func(i int, c byte) byte { return c ^ byte(i*37+11) }), loop("e[i] ^ (u8)(i * 37 + 11)"), false},
	{"add of a place", each(func(i int, c byte) byte { return c + byte(3*i) }), loop("e[i] - 3 * i"), false},
	{"rotated left", each(func(_ int, c byte) byte { return bits.RotateLeft8(c, 3) }), loop("(u8)(e[i] >> 3 | e[i] << 5)"), false},
	{"rotated right", each(func(_ int, c byte) byte { return bits.RotateLeft8(c, -2) }), loop("(u8)(e[i] << 2 | e[i] >> 6)"), true},
	{"reversed", func(s string) []byte { b := []byte(s); slices.Reverse(b); return b }, loop("e[n - 1 - i]"), false},
	{"reversed under xor", func(s string) []byte {
		b := each(func(_ int, c byte) byte { return c ^ 0x77 })(s)
		slices.Reverse(b)
		return b
	}, loop("e[n - 1 - i] ^ 0x77"), false},
	{
		"rot13", each(func(_ int, c byte) byte {
			switch {
			case 'a' <= c && c <= 'z':
				return 'a' + (c-'a'+13)%26
			case 'A' <= c && c <= 'Z':
				return 'A' + (c-'A'+13)%26
			}
			return c
		}),
		loop("e[i] >= 'a' && e[i] <= 'z' ? 'a' + (e[i] - 'a' + 13) % 26 : e[i] >= 'A' && e[i] <= 'Z' ? 'A' + (e[i] - 'A' + 13) % 26 : e[i]"), false,
	},
	{"hexadecimal", func(s string) []byte { return []byte(hex.EncodeToString([]byte(s))) },
		"for (int i = 0; i < n / 2; i++) { u8 a = e[2*i], b = e[2*i+1]; a = a > '9' ? a - 'a' + 10 : a - '0'; b = b > '9' ? b - 'a' + 10 : b - '0'; out[i] = a << 4 | b; } out[n / 2] = 0;", true},
	{"base64", func(s string) []byte { return []byte(base64.StdEncoding.EncodeToString([]byte(s))) }, `
		unsigned v = 0, have = 0; int o = 0;
		for (int i = 0; i < n && e[i] != '='; i++) {
			u8 c = e[i];
			unsigned d = c >= 'a' ? c - 'a' + 26 : c >= 'A' ? c - 'A' : c >= '0' ? c - '0' + 52 : c == '+' ? 62 : 63;
			v = v << 6 | d; have += 6;
			if (have >= 8) { have -= 8; out[o++] = v >> have; }
		}
		out[o] = 0;`, true},
	{"chained", func(s string) []byte {
		out, last := []byte(s), byte(0x9d)
		for i := range out {
			out[i] ^= last
			last = out[i]
		}
		return out
	}, "u8 last = 0x9d; for (int i = 0; i < n; i++) { out[i] = e[i] ^ last; last = e[i]; } out[n] = 0;", false},
	{"congruential", func(s string) []byte {
		x := uint32(12345)
		return each(func(_ int, c byte) byte { x = x*1103515245 + 12345; return c ^ byte(x>>16) })(s)
	}, "unsigned x = 12345; for (int i = 0; i < n; i++) { x = x * 1103515245u + 12345u; out[i] = e[i] ^ (u8)(x >> 16); } out[n] = 0;", false},
	{"rc4", rc4, `
		u8 s[256]; int j = 0;
		for (int i = 0; i < 256; i++) s[i] = i;
		for (int i = 0; i < 256; i++) { j = (j + s[i] + "secret"[i % 6]) & 255; u8 t = s[i]; s[i] = s[j]; s[j] = t; }
		int a = 0; j = 0;
		for (int i = 0; i < n; i++) { a = (a + 1) & 255; j = (j + s[a]) & 255; u8 t = s[a]; s[a] = s[j]; s[j] = t; out[i] = e[i] ^ s[(s[a] + s[j]) & 255]; }
		out[n] = 0;`, false},
	{"helper", each(func(i int, c byte) byte { return c ^ byte(0xc1-2*i) }), "helper(out, e, n, 0xc1);", false},
}

// stores are how a program holds the encoded bytes.
var stores = []string{"static const", "static", ""}

var words = []string{"connect", "getaddrinfo", "CreateRemoteThread", "/etc/shadow", "https://registry.example/stage", "VirtualAllocEx"}

// strangers are words of the same kinds that nobody looks for.
var strangers = []string{"collect", "getwindinfo", "CreateLocalPicture", "/opt/tables", "gopher://registry.example/view", "NormalAllocEx"}

// A plant is one function of the generated source that hides one word.
type plant struct {
	method string
	store  string
	word   string
}

// source returns C with a function p0, p1 … for each plant.
func source(words []string) (string, []plant) {
	var b strings.Builder
	b.WriteString(`
#ifdef _WIN32
#define FROM __declspec(dllimport)
#define OUT __declspec(dllexport)
#else
#define FROM extern
#define OUT __attribute__((visibility("default")))
#endif
typedef unsigned char u8;
FROM void *dlsym(void *, const char *);
FROM void *memcpy(void *, const void *, __SIZE_TYPE__);
FROM void *memset(void *, int, __SIZE_TYPE__);
__attribute__((noinline)) static void helper(u8 *out, const u8 *e, int n, u8 k) { for (int i = 0; i < n; i++, k -= 2) out[i] = e[i] ^ k; out[n] = 0; }
`)
	var plants []plant
	for mi, m := range methods {
		for si, store := range stores {
			w := words[(mi*len(stores)+si+mi/2)%len(words)]
			text := w
			if m.ended && !strings.Contains(m.name, "base64") && m.name != "hexadecimal" {
				text += "\x00"
			}
			enc := m.encode(text)
			var list []string
			for _, c := range enc {
				list = append(list, fmt.Sprint(c))
			}
			array := fmt.Sprintf("%s u8 e%d[] = {%s};\n", store, len(plants), strings.Join(list, ","))
			outside, inside := array, ""
			if store == "" {
				outside, inside = "", array
			}
			fmt.Fprintf(&b, "%sOUT void *p%d(void *h) { %s const u8 *e = e%d; enum { n = %d }; u8 out[80]; %s return dlsym(h, (char *)out); }\n",
				outside, len(plants), inside, len(plants), len(enc), m.decode)
			plants = append(plants, plant{m.name, cmp.Or(store, "local"), w})
		}
	}
	for i, w := range words { // put together byte by byte, as it is and encoded
		var set strings.Builder
		for k, c := range []byte(w + "\x00") {
			fmt.Fprintf(&set, "e[%d] = %d; ", k, c^byte(i&1*0x4f))
		}
		decode := ""
		if i&1 == 1 {
			decode = fmt.Sprintf("for (int i = 0; i < %d; i++) e[i] ^= 0x4f;", len(w)+1)
		}
		fmt.Fprintf(&b, "OUT void *p%d(void *h) { volatile u8 e[80]; %s %s return dlsym(h, (char *)e); }\n", len(plants), set.String(), decode)
		plants = append(plants, plant{[]string{"stack", "stack under xor"}[i&1], "local", w})
	}
	return b.String(), plants
}

// A target is a machine and system to compile for.
type target struct {
	name, triple string
	flags        []string
	link         []string
}

var shared = []string{"ld.lld-16", "-shared", "-z", "undefs"}

var targets = []target{
	{"x86_64 ELF", "x86_64-linux-gnu", []string{"-fPIC"}, shared},
	{"aarch64 ELF", "aarch64-linux-gnu", []string{"-fPIC"}, shared},
	{"x86_64 PE", "x86_64-pc-windows-msvc", nil, []string{"lld-link-16", "/dll", "/noentry", "/machine:x64"}},
	{"x86 ELF", "i686-linux-gnu", []string{"-fPIC"}, shared},
}

func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s, which is not installed", name)
	}
	return path
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(tool(t, name), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func compile(t testing.TB, m target, text, optimize string) *image.Image {
	t.Helper()
	dir := t.TempDir()
	src, obj, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.o"), filepath.Join(dir, "a.out")
	write(t, src, text)
	args := append([]string{"-target", m.triple, optimize, "-ffreestanding", "-fno-stack-protector", "-w", "-c", "-o", obj, src}, m.flags...)
	run(t, "clang-16", args...)
	if strings.HasSuffix(m.name, "PE") {
		lib := filepath.Join(dir, "other")
		write(t, lib+".def", "LIBRARY other.dll\nEXPORTS\ndlsym\nmemcpy\nmemset\n")
		run(t, "llvm-dlltool-16", "-m", "i386:x86-64", "-d", lib+".def", "-l", lib+".lib")
		run(t, m.link[0], append(m.link[1:], "/out:"+out, obj, lib+".lib")...)
	} else {
		run(t, m.link[0], append(m.link[1:], "-o", out, obj)...)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var im *image.Image
	if elf.Is(data) {
		im, err = elf.Parse(data)
	} else {
		im, err = pe.Parse(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A sighting is a word and a place in code that has to do with it.
type sighting struct {
	word string
	fn   int
	how  string
}

// sightings returns what a finder sees in a binary.
func sightings(f *hidden.Finder, im *image.Image, words []string) []sighting {
	c := code.Read(im)
	var out []sighting
	for i := range im.Sections {
		sec := &im.Sections[i]
		if sec.Code || sec.Access == 0 || sec.FileSize == 0 {
			continue
		}
		for _, find := range f.Scan(im.Bytes(sec)) {
			addr := sec.Addr + uint64(find.Offset)
			fn := -1
			if refs := c.DataRefs(addr-min(addr, 16), addr+1); refs.Len() > 0 {
				fn = c.Func(refs.At(refs.Len() - 1).Addr)
			}
			out = append(out, sighting{words[find.Word], fn, find.How})
		}
	}
	for _, text := range f.Code(c, func(uint64) bool { return true }, nil) {
		out = append(out, sighting{words[text.Word], c.Func(text.Addr), text.How})
	}
	return out
}

// TestPlanted compiles functions that hide a word each, in many ways, and looks
// for the words in them.
func TestPlanted(t *testing.T) {
	f := hidden.New(words)
	for _, m := range targets {
		for _, optimize := range []string{"-O0", "-O1", "-O2"} {
			t.Run(m.name+" "+optimize, func(t *testing.T) {
				text, plants := source(words)
				im := compile(t, m, text, optimize)
				c := code.Read(im)
				seen := sightings(f, im, words)
				found, plain := 0, 0
				for i, p := range plants {
					fn := exported(t, c, im, fmt.Sprintf("p%d", i))
					switch {
					case slices.ContainsFunc(seen, func(s sighting) bool { return s.word == p.word && s.fn == fn }):
						found++
					case optimize == "-O2" && strings.Contains(string(im.Data), p.word):
						plain++ // the compiler decoded it: nothing is hidden
					default:
						t.Logf("missed %q: %s, %s (p%d)", p.word, p.method, p.store, i)
					}
				}
				if plain > len(plants)/2 {
					t.Errorf("%d of %d are not hidden", plain, len(plants))
				}
				t.Logf("found %d of %d, and %d are not hidden", found, len(plants), plain)
				if recall := float64(found) / float64(len(plants)-plain); recall < 0.95 {
					t.Errorf("found %d of %d", found, len(plants)-plain)
				}
				for _, s := range seen {
					if s.fn < 0 {
						continue
					}
					i := slices.IndexFunc(plants, func(p plant) bool { return p.word == s.word })
					if i < 0 {
						t.Errorf("%q, which nobody planted: %s", s.word, s.how)
					}
				}
			})
		}
	}
}

// TestStrangers looks in the same programs with other words.
func TestStrangers(t *testing.T) {
	f := hidden.New(words)
	for _, m := range targets {
		text, _ := source(strangers)
		if seen := sightings(f, compile(t, m, text, "-O2"), words); len(seen) > 0 {
			t.Errorf("%s: %v", m.name, seen)
		}
	}
}

func exported(t testing.TB, c *code.Code, im *image.Image, name string) int {
	t.Helper()
	for _, e := range im.Exports {
		if e.Name == name {
			return c.Func(e.Addr)
		}
	}
	t.Fatalf("no %s", name)
	return -1
}
