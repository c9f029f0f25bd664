package ar_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/ar"
)

// entry writes one member as it stands in an archive.
func entry(name, content string) string {
	s := fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", name, 0, 0, 0, 0o644, len(content), content)
	if len(content)%2 == 1 {
		s += "\n"
	}
	return s
}

func TestMembers(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     []string // "name=content@offset"
		notes    int
	}{
		{name: "empty", in: "!<arch>\n"},
		{name: "GNU short names", in: "!<arch>\n" + entry("a.o/", "one") + entry("b.o/", "four"), want: []string{"a.o=one@68", "b.o=four@132"}},
		{
			name: "GNU long names and index",
			in:   "!<arch>\n" + entry("/", "\x00\x00\x00\x00") + entry("//", "a long name of a file.o/\nsecond.o/\n") + entry("/0", "x!") + entry("/25", "y!"),
			want: []string{"a long name of a file.o=x!@228", "second.o=y!@290"},
		},
		{
			name: "COFF names end with zero",
			in:   "!<arch>\n" + entry("/", "1234") + entry("/", "5678") + entry("//", "first.obj\x00second.obj\x00") + entry("/10", "z"),
			want: []string{"second.obj=z@278"},
		},
		{
			name: "BSD names",
			in:   "!<arch>\n" + entry("__.SYMDEF SORTED", "idx!") + entry("#1/20", "__.SYMDEF SORTED\x00\x00\x00\x00data") + entry("#1/8", "name.o\x00\x00body"),
			want: []string{"name.o=body@224"},
		},
		{
			name: "thin", notes: 1,
			in:   "!<thin>\n" + entry("//", "dir/one.o/\ntwo.o/\n") + entry("/0", "") + entry("/11", "") + entry("/0:88", ""),
			want: []string{"dir/one.o=@146", "two.o=@206", "dir/one.o=@266"},
		},
		{name: "cut off", in: ("!<arch>\n" + entry("a.o/", "hello"))[:8+60+3], want: []string{"a.o=hel@68"}, notes: 1},
		{name: "end mark missing", in: "!<arch>\n" + strings.Replace(entry("a.o/", "hi"), "`", "'", 1), notes: 1},
		{name: "size is no number", in: "!<arch>\n" + strings.Replace(entry("a.o/", "hi"), "2         `", "-2        `", 1), notes: 1},
		{name: "size of 64 bits", in: "!<arch>\n" + strings.Replace(entry("a.o/", "hi"), "2         `", "9999999999`", 1), want: []string{"a.o=hi@68"}, notes: 1},
		{name: "name outside of the table", in: "!<arch>\n" + entry("/7", "hi"), want: []string{"/7=hi@68"}, notes: 1},
		{name: "BSD name longer than the member", in: "!<arch>\n" + entry("#1/7", "hi"), want: []string{"#1/7=hi@68"}, notes: 1},
		{name: "rest too short", in: "!<arch>\n" + entry("a/", "hi") + "rest", want: []string{"a=hi@68"}, notes: 1},
		{name: "padding at the end", in: "!<arch>\n" + entry("a/", "hi") + "\n\n", want: []string{"a=hi@68"}},
		{name: "not an archive", in: "!<ar", notes: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			members, notes := ar.Members([]byte(test.in))
			var got []string
			for _, m := range members {
				got = append(got, fmt.Sprintf("%s=%s@%d", m.Name, m.Data, m.Offset))
			}
			if !slices.Equal(got, test.want) || len(notes) != test.notes {
				t.Errorf("got %q, notes %q; want %q and %d notes", got, notes, test.want, test.notes)
			}
		})
	}
}

func TestIs(t *testing.T) {
	for in, want := range map[string]bool{"!<arch>\n": true, "!<thin>\nx": true, "!<arch>": false, "": false, "\x7fELF....": false} {
		if got := ar.Is([]byte(in)); got != want {
			t.Errorf("Is(%q) = %v, want %v", in, got, want)
		}
	}
}

// TestAgainstLLVM writes archives of every flavour with llvm-ar and reads them back.
func TestAgainstLLVM(t *testing.T) {
	tool, err := exec.LookPath("llvm-ar-16")
	if err != nil {
		t.Skip("needs llvm-ar-16")
	}
	dir := t.TempDir()
	names := []string{"a.txt", "a name of more than sixteen characters.txt", "exactly_16_chars", "odd"}
	content := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 3*i+1) }
	var paths []string
	for i, name := range names {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content(i), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	for _, format := range []string{"gnu", "bsd", "darwin"} {
		t.Run(format, func(t *testing.T) {
			archive := filepath.Join(dir, format+".a")
			args := append([]string{"rcS", "--format=" + format, archive}, paths...)
			if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
				t.Fatalf("llvm-ar: %v\n%s", err, out)
			}
			data, err := os.ReadFile(archive)
			if err != nil {
				t.Fatal(err)
			}
			members, notes := ar.Members(data)
			if len(members) != len(names) || len(notes) > 0 {
				t.Fatalf("%d members, notes %q; want %d and none", len(members), notes, len(names))
			}
			for i, m := range members {
				// Darwin's flavour pads members to 8 bytes with newlines.
				if got := bytes.TrimRight(m.Data, "\n"); m.Name != names[i] || !bytes.Equal(got, content(i)) {
					t.Errorf("member %d: %q with %q, want %q with %q", i, m.Name, got, names[i], content(i))
				}
				if !bytes.HasPrefix(data[m.Offset:], m.Data) {
					t.Errorf("member %d: offset %d does not lead to its bytes", i, m.Offset)
				}
			}
		})
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte("!<arch>\n" + entry("/", "\x00\x00\x00\x00") + entry("//", "long name of a file.o/\n") + entry("/0", "x") + entry("b.o/", "y")))
	f.Add([]byte("!<arch>\n" + entry("#1/8", "name.o\x00\x00body") + entry("__.SYMDEF", "abcd")))
	f.Add([]byte("!<thin>\n" + entry("//", "dir/one.o/\n") + entry("/0", "") + entry("/0:3", "")))
	f.Fuzz(func(t *testing.T, data []byte) {
		members, _ := ar.Members(data)
		end := int64(0)
		for _, m := range members {
			if m.Offset < end || !bytes.HasPrefix(data[m.Offset:], m.Data) {
				t.Fatalf("member %q at %d, behind %d, with %d bytes", m.Name, m.Offset, end, len(m.Data))
			}
			end = m.Offset + int64(len(m.Data))
		}
	})
}

func BenchmarkMembers(b *testing.B) {
	data := []byte("!<arch>\n" + strings.Repeat(entry("object.o/", strings.Repeat("x", 4000)), 1000))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		ar.Members(data)
	}
}
