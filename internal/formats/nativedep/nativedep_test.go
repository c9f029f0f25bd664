package nativedep_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/formats/nativedep"
)

var update = flag.Bool("update", false, "rewrite what the samples expect")

// TestRead reads the samples in testdata: each a lock file and what is said of it.
func TestRead(t *testing.T) {
	samples, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(samples) == 0 {
		t.Fatal(samples, err)
	}
	for _, name := range samples {
		t.Run(filepath.Base(name), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			lock, err := nativedep.Read(a.Files[0].Name, a.Files[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			got := print(lock)
			if *update {
				a.Files[1].Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(a.Files[1].Data), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// print writes a lock in a line for each package and note.
func print(lock *nativedep.Lock) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d\n", len(lock.Packages), lock.Total)
	for _, p := range lock.Packages {
		build := ""
		if p.Build {
			build = " (build)"
		}
		fmt.Fprintf(&b, "%d %s%s: %s\n", p.Line, p.Target.Short(), build, p.Why)
	}
	for _, n := range lock.Notes {
		fmt.Fprintf(&b, "note: %s\n", n.Text)
	}
	return b.String()
}

func TestNative(t *testing.T) {
	files := map[string][]byte{"README.md": []byte("bcrypt==1.0")}
	for _, name := range []string{"npm-3", "pnpm-9", "uv"} {
		a, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		files["some/folder/"+a.Files[0].Name] = a.Files[0].Data
	}
	var got []string
	for _, target := range nativedep.Native(files) {
		got = append(got, target.Short())
	}
	want := []string{ // esbuild counts once, whatever platforms it has packages for
		"npm:bcrypt@5.1.1", "npm:bcrypt@6.0.0", "npm:core-js@3.40.0", "npm:esbuild@0.25.5", "npm:fsevents@2.3.3",
		"npm:react-dom@18.3.1", "npm:usb@2.14.0", "npm:wrapper@1.0.0", "pypi:bcrypt@4.3.0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestKnown(t *testing.T) {
	for name, want := range map[string]bool{
		"package-lock.json": true, "web/package-lock.json": true, `web\yarn.lock`: true, "requirements-dev.txt": true, "dev-requirements.txt": true,
		"pylock.ci.toml": true, "package.json": false, "my-package-lock.json": false, "notes.txt": false, "Cargo.lock": false, "": false,
	} {
		if got := nativedep.Known(name); got != want {
			t.Errorf("Known(%q) = %v; want %v", name, got, want)
		}
	}
	for _, name := range nativedep.Names() {
		if !nativedep.Known(name) {
			t.Errorf("%s is named and not known", name)
		}
	}
}

// TestReadBroken keeps what stands before the place where a file breaks off.
func TestReadBroken(t *testing.T) {
	for _, test := range []struct {
		name, data, want string
		kind             fault.Kind
	}{
		{"package-lock.json", `{"lockfileVersion": 3, "packages": {"node_modules/bcrypt": {"version": "6.0.0", "hasInstallScript": true}, "node_mod`, "npm:bcrypt@6.0.0", fault.Corrupt},
		{"package-lock.json", "\ufeff" + `{"packages": {"node_modules/bcrypt": {"version": "6.0.0", "hasInstallScript": true}}}`, "npm:bcrypt@6.0.0", fault.Internal},
		{"package-lock.json", "", "", fault.Corrupt},
		{"pnpm-lock.yaml", "<html>", "", fault.Corrupt},
		{"yarn.lock", "bcrypt", "", fault.Corrupt},
		{"uv.lock", "nothing", "", fault.Corrupt},
		{"requirements.txt", "b\x00c\x00r\x00", "", fault.Corrupt},
		{"Gemfile.lock", "", "", fault.Invalid},
		{"package-lock.json", strings.Repeat(" ", nativedep.MaxSize+1), "", fault.Exhausted},
	} {
		lock, err := nativedep.Read(test.name, []byte(test.data))
		got := ""
		for _, p := range lock.Packages {
			got += p.Target.Short()
		}
		if kind, _ := fault.Of(err); got != test.want || kind != test.kind {
			t.Errorf("%s %.40q: %q, %v; want %q, %v", test.name, test.data, got, err, test.want, test.kind)
		}
	}
}

// TestReadTime gives each reader what makes readers of its format slow.
func TestReadTime(t *testing.T) {
	const size = 1 << 18
	deep := strings.Repeat(`{"dependencies":{"a":`, size/22)
	for _, test := range []struct{ name, head, data string }{
		{"pnpm-lock.yaml", "lockfileVersion: '9.0'\n", strings.Repeat("- ", size/2)},
		{"pnpm-lock.yaml", "lockfileVersion: '9.0'\npackages:\n", strings.Repeat(" ", size)},
		{"pnpm-lock.yaml", "lockfileVersion: '9.0'\npackages:\n", strings.Repeat("{[", size/2)},
		{"pnpm-lock.yaml", "lockfileVersion: '9.0'\npackages:\n", stairs(size)},
		{"pnpm-lock.yaml", "lockfileVersion: '9.0'\npackages:\n", strings.Repeat(" a@1.0.0:\n  cpu: x\n", size/20)},
		{"yarn.lock", "# yarn lockfile v1\n", strings.Repeat(`"`, size)},
		{"yarn.lock", "__metadata:\n", strings.Repeat(`"a@npm:1, `, size/10)},
		{"uv.lock", "version = 1\n", strings.Repeat("[", size)},
		{"uv.lock", "version = 1\n", strings.Repeat("a = \"\"\"\n", size/8)},
		{"uv.lock", "version = 1\n", strings.Repeat("a = '\n", size/6)},
		{"uv.lock", "version = 1\n", strings.Repeat("[[package]]\nname='a'\n", size/21)},
		{"requirements.txt", "", strings.Repeat("\\\n", size/2)},
		{"requirements.txt", "", strings.Repeat("a==1\n", size/5)},
		{"package-lock.json", deep, ""},
		{"package-lock.json", `{"dependencies":{"a":` + deep, ""},
		{"package-lock.json", `{"packages":{"x":`, strings.Repeat("[", size)},
		{"Pipfile.lock", `{"default":`, strings.Repeat(`{"a":`, size/5)},
	} {
		start := time.Now()
		_, _ = nativedep.Read(test.name, []byte(test.head+test.data)) // whether it can be read is not the question
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s %.30q… took %v", test.name, test.head+test.data, took)
		}
	}
}

// stairs goes in by one blank a line.
func stairs(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func FuzzRead(f *testing.F) {
	samples, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range samples {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Name, a.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		lock, err := nativedep.Read(name, data)
		if !nativedep.Known(name) && err == nil {
			t.Error("a file of no known name was read")
		}
		lines := bytes.Count(data, []byte("\n")) + 1
		before := 0
		for _, p := range lock.Packages {
			if p.Line < max(before, 1) || p.Line > lines {
				t.Errorf("%s stands on line %d of %d, behind one on %d", p.Target, p.Line, lines, before)
			}
			before = p.Line
			if p.Why == "" || p.Target.Version == "" {
				t.Errorf("%+v is not whole", p)
			}
		}
		if len(lock.Packages) > lock.Total {
			t.Errorf("%d of %d packages", len(lock.Packages), lock.Total)
		}
	})
}
