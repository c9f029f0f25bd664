package rule

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/goccy/go-yaml"
	"golang.org/x/tools/txtar"
)

var document = `id: native/x-y
cwe: [506, 78]
attack: [T1098.004]
fix: Do not run it; look # and see
size: 7.9
when:
  any:
  - text: # why
      has: [authorized_keys, "a\"b", 'it''s',
        <b>, /c.d/] # end
      like: '>>\s*\S*'
  - all:
    - string: [.ssh/x, "$x", (y)]
    - section: {name: ".vmp0", size: 1, deep: {of: [a, 2]}}
  - not:
      fact: huge
deprecated: true
`

// same fails if the library reads something else, where Decode does not leave
// it to the library.
func same(t *testing.T, data []byte) bool {
	t.Helper()
	got, ok := readPlain(data)
	if !ok {
		return false
	}
	var want any
	if err := yaml.UnmarshalWithOptions(data, &want, yaml.Strict()); err != nil {
		t.Fatalf("the library says %v of\n%s", err, data)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("read %#v, the library %#v of\n%s", got, want, data)
	}
	return true
}

func TestDecode(t *testing.T) {
	if !same(t, []byte(document)) {
		t.Error("left to the library")
	}
	var head struct {
		ID     string
		CWE    []int
		Attack []string
		Size   any
	}
	if err := Decode([]byte("id: a\ncwe: [1]\nattack:\n- b\nsize: 1\n"), &head); err != nil || fmt.Sprint(head) != "{a [1] [b] 1}" {
		t.Errorf("%v, %v", head, err)
	}
	for _, bad := range []string{"id: a\nother: b\n", "id: [a]\n", "cwe: [x]\n", "id: a\nid: b\n", "id: a\n b\n- c"} {
		if err := Decode([]byte(bad), &head); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

// TestDecodeRules holds all built-in rules against the library, and wants
// nearly all of them to be of the simple kind.
func TestDecodeRules(t *testing.T) {
	files, err := filepath.Glob("../../rules/*/*.rule")
	if err != nil || len(files) < 100 {
		t.Fatal(len(files), err)
	}
	read, all := 0, 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		ar := txtar.Parse(data)
		head, _, _ := bytes.Cut(bytes.TrimPrefix(ar.Comment, []byte("---\n")), []byte("\n---\n"))
		parts := [][]byte{head}
		for _, f := range ar.Files {
			if f.Name == "match" {
				parts = append(parts, f.Data)
			}
		}
		for _, part := range parts {
			if all++; same(t, part) {
				read++
			} else {
				t.Logf("left to the library: %s", name)
			}
		}
	}
	if read < all*9/10 {
		t.Errorf("only %d of %d are of the simple kind", read, all)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(document))
	for _, s := range []string{"a: b", "a:\n- b\n- c: d\n  e: f\n", "a: [b, {c: d}]", "- - a\n  - b", "a: 'b' # c", "a: b#c", "a: \"\\n\"", "a: 1.50\nb: 007", "a: [b,\n  c]", "a: [https://b.c/d#e, f://]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { same(t, data) })
}
