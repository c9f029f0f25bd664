package sourcetext_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/formats/sourcetext"
)

func TestRead(t *testing.T) {
	for _, test := range []struct {
		name, file, src string
		want            []string
	}{
		{"plain", "a.c", `puts("hello world");`, []string{"hello world"}},
		{"put together", "a.cc", "f(\"hello \"\n   \"world\");", []string{"hello world"}},
		{"comments", "a.c", `/* "not this one" */ // "nor that one"` + "\n" + `"this one"`, []string{"this one"}},
		{"directives of printf", "a.c", `printf("cannot open %-10s: error %d\n", a, b);`, []string{": error ", "cannot open "}},
		{"percent sign", "a.c", `"fifty %% percent"`, []string{" percent", "fifty "}},
		{"escapes", "a.c", `"tab\there \"quoted\" end"`, []string{"tab\there \"quoted\" end"}},
		{"bytes", "a.c", `"before\x01\x02 later on"`, []string{" later on", "before"}},
		{"includes", "a.h", "#include \"a/long/name.h\"\n#define NAME \"the value\"\n#error \"never kept\"", []string{"the value"}},
		{"characters", "a.c", `if (c == '"') f("inside it");`, []string{"inside it"}},
		{"raw", "a.cpp", `auto s = R"xx(a "raw" text)xx";`, []string{`a "raw" text`}},
		{"wide", "a.cpp", `L"wide text" u8"utf text"`, []string{"wide textutf text"}},
		{"Objective-C", "a.m", `NSLog(@"opened %@ again", x);`, []string{" again", "opened "}},
		{"lifetimes", "a.rs", `fn f<'a>(x: &'a str) { g("a literal") }`, []string{"a literal"}},
		{"raw of Rust", "a.rs", `let s = r#"with "quotes" in"#;`, []string{`with "quotes" in`}},
		{"raw names of Rust", "a.rs", `let r#type = "type text";`, []string{"type text"}},
		{"braces of Rust", "a.rs", `format!("failed to read {path:?}: {}", e)`, []string{"failed to read "}},
		{"nested comments", "a.rs", `/* a /* "b comment" */ "c comment" */ "text after"`, []string{"text after"}},
		{"lines of Zig", "a.zig", "const s =\n    \\\\first line\n    \\\\second line\n;", []string{"first line\nsecond line\n"}},
		{"backquotes of Go", "a.go", "x := `raw text`", []string{"raw text"}},
		{"Cython", "a.pyx", "# \"a comment\"\nx = 'single quoted'\ny = \"\"\"three\nlines\"\"\"", []string{"single quoted", "three\nlines"}},
		{"short and mute", "a.c", `"abc" "," "-----------" "1234567890"`, nil},
		{"unended", "a.c", "\"never ends\nint x; \"next one\"", []string{"never ends", "next one"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := sourcetext.Read(sourcetext.LanguageOf(test.file), []byte(test.src)).Literals
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if f := sourcetext.Read(sourcetext.C, []byte("int resize_window(int w) { return apply_size(w); } // hidden_call()")).Functions; !slices.Equal(f, []string{"apply_size", "resize_window"}) {
		t.Errorf("functions %q", f)
	}
	if l := sourcetext.LanguageOf("readme.md"); l != sourcetext.None {
		t.Errorf("a text is %v", l)
	}
}

func TestFind(t *testing.T) {
	literals := []string{"cannot open the file", "cannot close", "not there", "Ünïcode ok"}
	x := sourcetext.NewIndex(literals)
	var wide []byte
	for _, c := range []byte("cannot close") {
		wide = append(wide, c, 0)
	}
	for _, test := range []struct {
		name string
		data string
		wide bool
		want []bool
	}{
		{"plain", "\x00cannot open the file\x00Ünïcode ok\x00..........", false, []bool{true, false, false, true}},
		{"wide is asked for", "x" + string(wide) + "..........", true, []bool{false, true, false, false}},
		{"wide is not asked for", string(wide) + "..........", false, []bool{false, false, false, false}},
		{"nothing", "", true, []bool{false, false, false, false}},
		{"a part", "cannot open the fil ..........", false, []bool{false, false, false, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := x.Find([]byte(test.data), test.wide); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// Programs have hundreds of messages that begin with the same word.
func TestManyBeginAlike(t *testing.T) {
	var list []string
	for i := range 500 {
		list = append(list, fmt.Sprintf("cannot open %03d", i))
	}
	list = append(list, "cannot", "cannot open 0", "cannot open 0001", "cannot open 250")
	got := sourcetext.NewIndex(list).Find([]byte("\x00cannot open 499\x00cannot open 250\x00cannot close\x00..........."), false)
	want := make([]bool, len(list))
	want[499], want[250], want[500], want[503] = true, true, true, true
	if !slices.Equal(got, want) {
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q: found %v", list[i], got[i])
			}
		}
	}
}

// A text of nothing but braces must not be searched to its end for each.
func TestHostileLiteral(t *testing.T) {
	for _, text := range []string{"{", "%", "{}", "\x01", "}"} {
		began := time.Now()
		sourcetext.Read(sourcetext.Rust, []byte(`"`+strings.Repeat(text, 4<<20)+`"`))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%q: it takes %v", text, took)
		}
	}
}

func TestCompare(t *testing.T) {
	unit := func(words string) sourcetext.Unit { return sourcetext.Unit{Literals: strings.Fields(words)} }
	has := func(words string) func(string) bool {
		list := strings.Fields(words)
		return func(l string) bool { return slices.Contains(list, l) }
	}
	linux, windows := unit("aaaaaa bbbbbb cccccc dddddd"), unit("eeeeee ffffff gggggg hhhhhh")
	m := sourcetext.Compare([]sourcetext.Unit{linux, windows}, has("aaaaaa bbbbbb cccccc"))
	if m.Found != 3 || m.Of != 4 {
		t.Errorf("the files for other systems count: %+v", m)
	}
	if m := sourcetext.Compare([]sourcetext.Unit{linux, windows}, has("aaaaaa eeeeee")); m.Found != 0 || m.Score != 0 {
		t.Errorf("a text here and there counts: %+v", m)
	}
	if m := sourcetext.Compare(nil, has("")); m.Of != 0 || m.Score != 0 {
		t.Errorf("without source: %+v", m)
	}
}

func FuzzRead(f *testing.F) {
	for _, src := range []string{`"a text" 'c' /* x */`, "r##\"x\"##", "R\"(x)\"", "\\\\zig", "\"\"\"py\"\"\"", "\"%-08.3lld%%{}{x:?}\\x41\\u{1F600}\""} {
		for lang := range 6 {
			f.Add(lang, []byte(src))
		}
	}
	f.Fuzz(func(t *testing.T, lang int, src []byte) {
		u := sourcetext.Read(sourcetext.Language(lang), src)
		if !slices.IsSorted(u.Literals) || !slices.IsSorted(u.Functions) {
			t.Error("not sorted")
		}
		for i, found := range sourcetext.NewIndex(u.Literals).Find([]byte(strings.Join(u.Literals, "\x00")+"\x00\x00\x00\x00\x00\x00\x00\x00"), false) {
			if !found {
				t.Errorf("%q is not found in what it stands in", u.Literals[i])
			}
		}
	})
}
