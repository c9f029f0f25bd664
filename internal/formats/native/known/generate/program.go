package main

import (
	"log"
	"os"
	"path/filepath"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
	"github.com/loupe-sec/loupe/internal/formats/native/rust"
)

// A sighting is where a function was seen.
type sighting struct {
	publishers int
	last       int  // number of the last publisher
	rust       bool // only in programs of Rust
	size       int
}

// programs adds the functions that several publishers share. Those that are
// only in programs of Rust are taken for its library's.
func (c *collection) programs(root string, publishers int) error {
	folders, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	c.sources("Programs for Windows, of which functions count that %d folders share:", publishers)
	seen := map[image.Arch]map[known.Key]*sighting{}
	for i, folder := range folders {
		paths, err := files(filepath.Join(root, folder.Name()))
		if err != nil {
			return err
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil || !pe.Is(data) {
				continue
			}
			m, err := pe.Parse(data)
			if err != nil {
				continue
			}
			inRust := rust.Read(m) != nil
			n := 0
			slots := known.SlotNames(m)
			for _, e := range known.Extents(m, m.Functions.List) {
				k, size := known.KeyOf(m.Arch, e.Addr, e.Code, slots)
				if size == 0 {
					continue
				}
				n++
				if seen[m.Arch] == nil {
					seen[m.Arch] = map[known.Key]*sighting{}
				}
				s := seen[m.Arch][k]
				if s == nil {
					s = &sighting{last: -1, rust: true, size: size}
					seen[m.Arch][k] = s
				}
				s.rust = s.rust && inRust
				if s.last != i {
					s.last = i
					s.publishers++
				}
			}
			rel, _ := filepath.Rel(root, path)
			c.source(rel, string(m.Arch), data, n)
		}
	}
	for arch, keys := range seen {
		for k, s := range keys {
			if s.publishers < publishers {
				continue
			}
			l := known.VisualC
			if s.rust {
				l = known.RustStd
			}
			if _, ok := c.keys[arch][k]; !ok {
				c.add(arch, k, entry{library: l, size: s.size})
			}
		}
		log.Printf("%s: %d functions of programs", arch, len(keys))
	}
	return nil
}
