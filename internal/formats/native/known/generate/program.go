package main

import (
	"bytes"
	"log"
	"os"
	"path/filepath"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
)

// A sighting is where a function was seen.
type sighting struct {
	publishers    int
	last          int // number of the last publisher
	rust, windows bool
	size          int
}

// few publishers may share any library; more than that, mostly runtimes.
const few = 2

// programs adds the functions that several publishers share. Those that are
// only in programs of Rust are taken for its library's, and others only in
// programs for Windows for Microsoft's.
func (c *collection) programs(root string, publishers int) error {
	folders, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	c.sources("Programs, of which those functions count that %d folders share:", publishers)
	seen := map[image.Arch]map[known.Key]*sighting{}
	for i, folder := range folders {
		paths, err := files(filepath.Join(root, folder.Name()))
		if err != nil {
			return err
		}
		var all bytes.Buffer
		read, functions := 0, 0
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil || !native.Identify(data[:min(len(data), 1<<16)]).Native() {
				continue
			}
			found, _ := native.Parse(data)
			for _, b := range found {
				functions += sight(seen, b, i)
			}
			read++
			all.Write(digest(data))
		}
		if functions > 0 {
			c.source(folder.Name(), "programs", all.Bytes(), functions, read)
		}
	}
	for arch, keys := range seen {
		for k, s := range keys {
			if s.publishers < publishers {
				continue
			}
			l := known.Shared
			switch {
			case s.publishers <= few: // it may be any library
			case s.rust:
				l = known.RustStd
			case s.windows:
				l = known.VisualC
			}
			if _, ok := c.keys[arch][k]; !ok {
				c.add(arch, k, entry{library: l, size: s.size})
			}
		}
		log.Printf("%s: %d functions of programs", arch, len(keys))
	}
	return nil
}

// sight records the functions of a program of the publisher of that number.
func sight(seen map[image.Arch]map[known.Key]*sighting, b *native.Binary, publisher int) (functions int) {
	if b.Language == "Go" {
		return 0
	}
	keys := seen[b.Arch]
	if keys == nil {
		keys = map[known.Key]*sighting{}
		seen[b.Arch] = keys
	}
	slots := known.SlotNames(b.Image)
	for _, e := range known.Extents(b.Image, b.Functions.List) {
		k, size := known.KeyOf(b.Arch, e.Addr, e.Code, slots)
		if size == 0 {
			continue
		}
		functions++
		s := keys[k]
		if s == nil {
			s = &sighting{last: -1, rust: true, windows: true, size: size}
			keys[k] = s
		}
		s.rust = s.rust && b.RustInfo != nil
		s.windows = s.windows && b.Format == image.PE
		if s.last != publisher {
			s.last = publisher
			s.publishers++
		}
	}
	return functions
}
