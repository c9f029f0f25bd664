// Command generate makes the data of package known from libraries that are
// installed, and from programs of many publishers.
//
//	go run ./internal/formats/native/known/generate -programs DIR
//
// It reads the static libraries at the places where Debian has them, and those
// of Rust's toolchains, and takes the functions of each. For Microsoft's
// runtime, which is not among them, and for other versions than are installed,
// it takes the functions that programs of several publishers share: DIR has a
// folder for each publisher. It runs nothing.
package main

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
)

func main() {
	log.SetFlags(0)
	out := flag.String("out", "internal/formats/native/known/data", "folder to write to")
	programs := flag.String("programs", "", "folder with a folder of programs for each publisher")
	publishers := flag.Int("publishers", 2, "how many publishers have to share a function")
	roots := flag.String("roots", "/", "folders, separated by commas, that are looked through as if each were the root of the system")
	flag.Parse()
	if err := generate(*out, strings.Split(*roots, ","), *programs, *publishers); err != nil {
		log.Fatal(err)
	}
}

func generate(out string, roots []string, programs string, publishers int) error {
	c := newCollection(roots...)
	c.sources("Static libraries:")
	for _, s := range installed {
		for _, path := range s.paths(roots) {
			if err := c.library(s.library, path); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	c.settle()
	if programs != "" {
		if err := c.programs(programs, publishers); err != nil {
			return err
		}
	}
	for _, arch := range slices.Sorted(maps.Keys(c.keys)) {
		b := known.Encode(c.keys[arch].byLibrary())
		log.Printf("%s: %d functions, %d bytes", arch, len(c.keys[arch]), len(b))
		if err := os.WriteFile(filepath.Join(out, string(arch)+".keys"), b, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(out, "SOURCES.txt"), c.text.Bytes(), 0o644)
}

// A collection is what was found so far.
type collection struct {
	keys  map[image.Arch]table
	text  bytes.Buffer      // of SOURCES.txt
	owner map[string]string // by path: package and version
	roots []string
}

// A table holds the libraries of keys.
type table map[known.Key]entry

type entry struct {
	library known.Library
	size    int  // bytes that the key stands for
	shared  bool // by libraries that have nothing to do with one another
}

func newCollection(roots ...string) *collection {
	c := &collection{keys: map[image.Arch]table{}, owner: packages(), roots: roots}
	c.text.WriteString("What the tables of known functions were made from, by the program in ../generate.\n")
	return c
}

func (c *collection) sources(format string, args ...any) {
	fmt.Fprintf(&c.text, "\n"+format+"\n", args...)
}

// source records what was read: how many files, of which data are the contents
// or the digests.
func (c *collection) source(path, what string, data []byte, functions, files int) {
	fmt.Fprintf(&c.text, "%-11s %6d functions  %4d files  sha256 %x  %s\n", what, functions, files, digest(data), path)
}

func digest(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:8]
}

func (c *collection) add(arch image.Arch, k known.Key, e entry) {
	t := c.keys[arch]
	if t == nil {
		t = table{}
		c.keys[arch] = t
	}
	old, ok := t[k]
	switch {
	case !ok:
		t[k] = e
	case !related(old.library, e.library):
		old.shared = true
		t[k] = old
	}
}

// families are libraries that are built from some of the same code.
var families = [][]known.Library{
	{known.Libgcc, known.CompilerRT, known.RustStd, known.Libstdcxx, known.Glibc, known.Musl, known.MinGW},
	{known.VisualC, known.MinGW},
}

func related(a, b known.Library) bool {
	return a == b || slices.ContainsFunc(families, func(f []known.Library) bool { return slices.Contains(f, a) && slices.Contains(f, b) })
}

// settle drops short functions that unrelated libraries have too: whoever
// writes such a function gets the same.
func (c *collection) settle() {
	const telling = 64 // bytes of a body
	for arch, t := range c.keys {
		dropped := 0
		for k, e := range t {
			if e.shared && e.size < telling {
				delete(t, k)
				dropped++
			}
		}
		log.Printf("%s: %d functions, %d dropped that unrelated libraries share", arch, len(t), dropped)
	}
}

func (t table) byLibrary() map[known.Library][]known.Key {
	out := map[known.Library][]known.Key{}
	for k, e := range t {
		out[e.library] = append(out[e.library], k)
	}
	return out
}

// packages returns which package of Debian a file is from, and its version.
func packages() map[string]string {
	const root = "/var/lib/dpkg"
	versions := map[string]string{}
	status, _ := os.ReadFile(root + "/status")
	name := ""
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "Package: "); ok {
			name = strings.TrimSpace(v)
		} else if v, ok := strings.CutPrefix(line, "Version: "); ok {
			versions[name] = strings.TrimSpace(v)
		}
	}
	out := map[string]string{}
	lists, _ := filepath.Glob(root + "/info/*.list")
	for _, list := range lists {
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(list), ".list"), ":")
		text, _ := os.ReadFile(list)
		for path := range strings.Lines(string(text)) {
			if path = strings.TrimSpace(path); strings.HasSuffix(path, ".a") || strings.HasSuffix(path, ".rlib") || strings.HasSuffix(path, ".o") {
				out[path] = name + " " + versions[name]
			}
		}
	}
	return out
}

// files yields the regular files below a folder.
func files(root string) (out []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			out = append(out, path)
		}
		return err
	})
	return out, err
}
