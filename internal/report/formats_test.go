package report_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// write returns what a format makes of r.
func write(t testing.TB, format string, r *report.Report, o report.Options) string {
	t.Helper()
	f, ok := report.Find(format)
	if !ok {
		t.Fatalf("no format %q", format)
	}
	var b bytes.Buffer
	if err := f.Write(&b, r, o); err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	return b.String()
}

func TestFind(t *testing.T) {
	var got []string
	for _, f := range report.Formats {
		got = append(got, f.Name)
		if found, ok := report.Find(f.Name); !ok || found.Ext != f.Ext || f.Doc == "" || f.MediaType == "" || !strings.HasPrefix(f.Ext, ".") {
			t.Errorf("format %q is incomplete or not found", f.Name)
		}
	}
	want := []string{"table", "json", "sarif", "cyclonedx", "spdx", "markdown"}
	if !slices.Equal(got, want) {
		t.Errorf("formats are %q; want %q", got, want)
	}
	if _, ok := report.Find("pdf"); ok {
		t.Error("found a format that does not exist")
	}
}

func TestGolden(t *testing.T) {
	plain := report.Options{}
	for _, test := range []struct {
		file, sample, format string
		options              report.Options
	}{
		{"package.json", "package", "json", plain},
		{"package.sarif", "package", "sarif", plain},
		{"package.cdx.json", "package", "cyclonedx", plain},
		{"package.spdx.json", "package", "spdx", plain},
		{"package.md", "package", "markdown", plain},
		{"package.txt", "package", "table", plain},
		{"package.80.txt", "package", "table", report.Options{Width: 80}},
		{"package.40.txt", "package", "table", report.Options{Width: 40}},
		{"package.color.txt", "package", "table", report.Options{Width: 120, Color: true}},
		{"package.explain.txt", "package", "table", report.Options{Width: 100, Explain: true}},
		{"parts.txt", "parts", "table", report.Options{Width: 100}},
		{"parts.md", "parts", "markdown", plain},
		{"folder.json", "folder", "json", plain},
		{"folder.sarif", "folder", "sarif", plain},
		{"folder.cdx.json", "folder", "cyclonedx", plain},
		{"folder.spdx.json", "folder", "spdx", plain},
		{"folder.md", "folder", "markdown", plain},
		{"folder.txt", "folder", "table", report.Options{Width: 100}},
		{"vendor.txt", "vendor", "table", report.Options{Width: 80}},
		{"vendor.md", "vendor", "markdown", plain},
		{"empty.json", "empty", "json", plain},
		{"empty.txt", "empty", "table", report.Options{Width: 80}},
		{"empty.md", "empty", "markdown", plain},
		{"nothing.txt", "nothing", "table", plain},
		{"hostile.txt", "hostile", "table", report.Options{Width: 120}},
		{"hostile.md", "hostile", "markdown", plain},
	} {
		t.Run(test.file, func(t *testing.T) {
			got := write(t, test.format, samples[test.sample](), test.options)
			file := filepath.Join("testdata", test.file)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("differs from %s (run go test -update and review):\n%s", file, diff)
			}
		})
	}
}

// TestEveryReport holds every format to what it promises of any report.
func TestEveryReport(t *testing.T) {
	for _, sample := range slices.Sorted(maps.Keys(samples)) {
		t.Run(sample, func(t *testing.T) { check(t, samples[sample]) })
	}
	t.Run("nil", func(t *testing.T) { check(t, func() *report.Report { return nil }) })
}

// check writes a report in every format: JSON is valid, the same report gives
// the same bytes, and what people read has no character that steers a terminal
// and no line that is too wide.
func check(t *testing.T, sample func() *report.Report) {
	t.Helper()
	r := sample()
	for _, f := range report.Formats {
		text := write(t, f.Name, r, report.Options{})
		if again := write(t, f.Name, sample(), report.Options{}); again != text {
			t.Errorf("%s: two writings differ", f.Name)
		}
		if !strings.HasSuffix(text, "\n") {
			t.Errorf("%s: no newline at the end", f.Name)
		}
		if strings.Contains(f.MediaType, "json") && !json.Valid([]byte(text)) {
			t.Errorf("%s: not valid JSON", f.Name)
		}
		for _, c := range text {
			if c != '\n' && (unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || c == 0x2028 || c == 0x2029) {
				t.Errorf("%s: holds the character %U", f.Name, c)
				break
			}
		}
	}
	for _, width := range []int{1, 40, 80, 200} {
		text := write(t, "table", r, report.Options{Width: width, Explain: true})
		for line := range strings.Lines(text) {
			if n := shown(line); n > width {
				t.Errorf("a line of %d columns, with a width of %d: %q", n, width, line)
			}
		}
		colored := write(t, "table", r, report.Options{Width: width, Explain: true, Color: true})
		if bare := stripColor(colored); bare != text {
			t.Errorf("width %d: without its colours, the coloured table differs:\n%s", width, cmp.Diff(text, bare))
		}
	}
}

func TestFormatsChangeNothing(t *testing.T) {
	for sample, make := range samples {
		r := make()
		for _, f := range report.Formats {
			write(t, f.Name, r, report.Options{Width: 80, Explain: true})
		}
		sameFloat := cmp.Comparer(func(a, b float64) bool { return a == b || a != a && b != b })
		if diff := cmp.Diff(make(), r, sameFloat); diff != "" {
			t.Errorf("%s: a format changed the report:\n%s", sample, diff)
		}
	}
}

// shown returns the columns that a line takes, by a rule of its own: marks
// none, East Asian letters two, the rest one.
func shown(line string) int {
	n := 0
	for _, r := range strings.TrimSuffix(line, "\n") {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me):
		case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana), r >= 0xac00 && r <= 0xd7a3:
			n += 2
		default:
			n++
		}
	}
	return n
}

// stripColor removes the escape sequences that the table may write.
func stripColor(s string) string {
	for _, code := range []string{"0", "1", "2", "31", "32", "33", "36", "1;31", "1;97;41"} {
		s = strings.ReplaceAll(s, "\x1b["+code+"m", "")
	}
	return s
}

// FuzzFormats writes reports whose every field is made of the fuzzer's bytes.
func FuzzFormats(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{3, 'a', '|', '\x1b', 2, 0xff, '`', 1, 7, 200}, 200))
	f.Add([]byte(strings.Repeat(strings.Join(hostileTexts[:3], "\x02"), 3)))
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, func() *report.Report {
			r := new(report.Report)
			filler{bytes.NewReader(data)}.fill(reflect.ValueOf(r).Elem())
			if len(data)%2 == 0 {
				finding.Arrange(r.Findings)
			}
			return r
		})
	})
}

// A filler sets values from bytes.
type filler struct{ in *bytes.Reader }

func (f filler) next() int {
	c, err := f.in.ReadByte()
	if err != nil {
		return 0
	}
	return int(c)
}

func (f filler) fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if f.next()%4 != 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(int64(f.next())<<22, 0)))
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				f.fill(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return // the sources of rules
		}
		for range f.next() % 4 {
			e := reflect.New(v.Type().Elem()).Elem()
			f.fill(e)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range f.next() % 3 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key)
			f.fill(value)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		n := f.next()
		if n >= 250 {
			v.SetString(strings.Repeat("ab/", 1<<(n-244))) // up to 6 kB
			return
		}
		if n >= 200 {
			v.SetString(hostileTexts[n%len(hostileTexts)])
			return
		}
		b := make([]byte, n%12)
		m, _ := f.in.Read(b)
		v.SetString(string(b[:m]))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(f.next()-100) << (f.next() % 50))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(uint64(f.next()))
	case reflect.Float64:
		v.SetFloat(float64(f.next()) / float64(f.next()-3)) // NaN and infinities among them
	case reflect.Bool:
		v.SetBool(f.next()%2 == 1)
	}
}
