package rust

import (
	"bytes"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

// Where cargo and rustc put sources, and so what panic messages name
// (The Cargo Book, "Cargo Home"; rustc's remapping of its own sources):
//
//	…/registry/src/<index>-<16 hex>/<crate>-<version>/src/lib.rs
//	…/git/checkouts/<repository>-<16 hex>/<revision>/…/src/lib.rs
//	…/vendor/<crate>-<version>/src/lib.rs
//	/rust/deps/<crate>-<version>/src/lib.rs           dependencies of the standard library
//	/rustc/<40 hex or version>/library/core/src/…     the standard library
//
// Each has a folder named src, with either separator, so one search for that
// finds them all.

// maxPaths bounds the work on a file that is full of such paths.
const maxPaths = 4 << 20

// readPaths collects crates from source paths and reports whether there were
// traces of Rust among them.
func (i *Info) readPaths(data []byte) bool {
	seen := make(map[string]bool)
	for _, c := range i.Crates {
		seen[c.Name+"\x00"+c.Version+"\x00"] = true
	}
	rust := i.readCompilerPaths(data)
	before := len(i.Crates)
	for _, folder := range []string{"/src/", `\src\`} {
		n := 0
		for at := 0; ; n++ {
			next := cursor.Index(data[at:], []byte(folder))
			if next < 0 {
				break
			}
			if n == maxPaths {
				i.notef("more than %d source paths: the others were not read for crates", maxPaths)
				break
			}
			at += next
			if c, ok := crateAt(data, at); ok && !seenBytes(seen, c) {
				i.add(c.crate(), seen)
			}
			at += len(folder) - 1 // the last separator may be the next first one
		}
	}
	return rust || len(i.Crates) > before
}

// A sighting is a crate in the bytes of a path; most were seen before, and
// those should cost no allocation.
type sighting struct {
	name, version, revision []byte
	origin                  string
}

func (s sighting) crate() Crate {
	return Crate{Name: string(s.name), Version: string(s.version), Revision: string(s.revision), Origin: s.origin, Source: PanicPath}
}

func seenBytes(seen map[string]bool, s sighting) bool {
	var buf [256]byte
	key := append(append(append(append(append(buf[:0], s.name...), 0), s.version...), 0), s.revision...)
	return seen[string(key)]
}

// crateAt reads the path around the src folder whose first separator is at.
func crateAt(data []byte, at int) (sighting, bool) {
	sep := data[at]
	head := data[:at+1]
	if bytes.HasSuffix(data[:at], []byte("registry")) {
		// …/registry/src/<index>/<crate>-<version>/
		rest := data[at+len("/src/"):]
		rest = rest[:min(len(rest), 320)]
		n := bytes.IndexByte(rest, sep)
		if n <= 0 {
			return sighting{}, false
		}
		rest = rest[n+1:]
		n = bytes.IndexByte(rest, sep)
		if n <= 0 {
			return sighting{}, false
		}
		return registryCrate(rest[:n])
	}
	component, before, ok := lastComponent(head)
	if !ok {
		return sighting{}, false
	}
	if s, ok := registryCrate(component); ok {
		folder := before[:len(before)-1]
		switch {
		case hasHash(folder), bytes.HasSuffix(folder, []byte("vendor")):
			return s, true
		case bytes.HasSuffix(folder, []byte("/rust/deps")):
			s.origin = "std"
			return s, true
		}
		return sighting{}, false
	}
	return gitCrate(component, head, sep)
}

func registryCrate(component []byte) (sighting, bool) {
	name, version, ok := splitCrate(component)
	return sighting{name: name, version: version, origin: "registry"}, ok
}

// hasHash reports whether a folder's path ends in a hyphen and 16 hex digits,
// as cargo names what it fetched from an index or repository.
func hasHash(folder []byte) bool {
	n := len(folder) - 16
	return n > 1 && folder[n-1] == '-' && hexDigits(folder[n:]) == 16
}

// gitCrate reads …/git/checkouts/<repository>-<hash>/<revision>/…/<crate>/src/.
// A crate in the repository's own folder takes the repository's name.
func gitCrate(component, head []byte, sep byte) (sighting, bool) {
	const longest = 320
	window := head[max(0, len(head)-longest):]
	mark := []byte("git/checkouts/")
	if sep == '\\' {
		mark = []byte(`git\checkouts\`)
	}
	i := bytes.LastIndex(window, mark)
	if i < 0 {
		return sighting{}, false
	}
	rest := window[i+len(mark):]
	n := bytes.IndexByte(rest, sep)
	if n < 0 || !hasHash(rest[:n]) {
		return sighting{}, false
	}
	repository := rest[:n-17]
	rest = rest[n+1:]
	n = bytes.IndexByte(rest, sep)
	if n < 7 || n > 40 || hexDigits(rest[:n]) != n {
		return sighting{}, false
	}
	s := sighting{name: component, revision: rest[:n], origin: "git"}
	if len(rest) == n+1 { // src follows the revision
		s.name = repository
	}
	for _, c := range s.name {
		if c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return sighting{}, false
		}
	}
	return s, len(s.name) <= 64
}

// readCompilerPaths looks for the path that rustc gives the standard library's
// sources, which names the commit or, in distributions' builds, the version.
func (i *Info) readCompilerPaths(data []byte) bool {
	found := false
	for n, at := 0, 0; n < 10000; n++ {
		next := cursor.Index(data[at:], []byte("/rustc"))
		if next < 0 {
			break
		}
		at += next + len("/rustc")
		rest := data[at:min(len(data), at+80)]
		if len(rest) == 0 || rest[0] != '/' && rest[0] != '-' {
			continue
		}
		rest = rest[1:]
		end := bytes.IndexAny(rest, `/\`)
		if end < 0 || !bytes.HasPrefix(rest[end+1:], []byte("library")) && !bytes.HasPrefix(rest[end+1:], []byte("compiler")) && !bytes.HasPrefix(rest[end+1:], []byte("src")) {
			continue
		}
		switch named := rest[:end]; {
		case hexDigits(named) == 40 && len(named) == 40:
			found = true
			if len(i.Commit) < 40 {
				i.Commit = string(named)
			}
		case isVersion(named):
			found = true
			if i.Version == "" {
				i.Version = string(named)
			}
		}
		if found && len(i.Commit) == 40 {
			break
		}
	}
	return found
}
