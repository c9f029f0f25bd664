// Package native opens binaries of every format that machines run, and puts
// together what is known of each: its parts, its functions, its language and
// makers, and what its texts tell.
//
// It reads bytes and judges nothing: what a binary may do to somebody is for
// others to say. It never runs anything.
package native

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/parallel"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/entropy"
	"github.com/loupe-sec/loupe/internal/formats/native/golang"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/macho"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
	"github.com/loupe-sec/loupe/internal/formats/native/rust"
	"github.com/loupe-sec/loupe/internal/formats/native/text"
	"github.com/loupe-sec/loupe/internal/formats/native/toolchain"
	"github.com/loupe-sec/loupe/internal/formats/native/wasm"
)

// Limits on one file.
const (
	maxImages = 512 // slices of fat files, objects of static libraries
	maxTexts  = 200 // telling texts of a binary
	maxNotes  = 50  // about the file as a whole

	large = 4 << 20 // bytes of an image that is worth two processors
)

// A Binary is an image with everything that is derived from it.
type Binary struct {
	*image.Image
	Member string // name in a static library; not of a file on the host

	Language  string   // the main one: "Go", "Rust", "C++", "C", "C/C++" …; empty if nothing tells
	Languages []string // all that left something, the main one first
	Toolchain []string // "GCC 12.2.0", "MSVC 14.29.30154 (Visual Studio 2019)", "rustc 1.95.0 (59807616e)", "go1.22.3"

	GoInfo        *golang.Info // nil if no part of it is in Go
	RustInfo      *rust.Info   // nil if no part of it is in Rust
	Crates        []rust.Crate // of RustInfo
	UserFunctions int          // of Functions, those outside of Go's own library; 0 for other languages

	Strings  []text.Ranked // the most telling of its texts, at most 200
	Measured entropy.Measure
	Flags    []Flag // what a person should see at once

	finished bool
}

// Entropy returns that of a section, by its index, in bits per byte.
func (b *Binary) Entropy(section int) float64 {
	if section < 0 || section >= len(b.Measured.Sections) {
		return 0
	}
	return max(b.Measured.Sections[section], 0)
}

// Parse opens a file and returns all images in it: one for most files, one for
// each slice of a fat Mach-O file, one for each object of a static library. The
// notes are about the file as a whole; each image has its own.
func Parse(data []byte) ([]*Binary, []string) { return Open(data).Binaries() }

// images parses the file and, for a static library, names the member that each
// image comes from.
func images(data []byte) (images []*image.Image, members, notes []string) {
	switch kind := Identify(head(data)); {
	case kind == Archive:
		return archive(data)
	case kind == Unknown:
		return nil, nil, []string{"not a binary of a known format"}
	case !kind.Native():
		return nil, nil, []string{fmt.Sprintf("not looked at: %s is not read", kind)}
	default:
		images, err := parse(kind, data)
		if err != nil {
			notes = append(notes, err.Error())
		}
		if n := len(images); n > maxImages {
			notes = append(notes, fmt.Sprintf("not looked at: %d of %d images", n-maxImages, n))
			images = images[:maxImages]
		}
		return images, nil, notes
	}
}

// head returns as much of a file as tells its kind.
func head(data []byte) []byte { return data[:min(len(data), 64<<10)] }

// parse calls the parser of a kind. A panic in it is an error like any other:
// the rest of a package must be looked at all the same.
func parse(kind Kind, data []byte) (images []*image.Image, err error) {
	err = guard(string(kind), func() error {
		var m *image.Image
		var err error
		switch kind {
		case ELF:
			m, err = elf.Parse(data)
		case PE:
			m, err = pe.Parse(data)
		case COFF:
			m, err = pe.ParseObject(data)
		case Wasm:
			m, err = wasm.Parse(data)
		case MachO, FatMachO:
			images, err = macho.Parse(data)
		}
		if m != nil {
			images = []*image.Image{m}
		}
		return err
	})
	return images, err
}

// guard turns a panic into an error.
func guard(what string, do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not looked at: reading %s failed: %v", what, r)
		}
	}()
	return do()
}

// clean makes a name from a file fit for a line of a report.
func clean(name string) string {
	const longest = 255
	name = strings.ToValidUTF8(name[:min(len(name), longest)], "\ufffd")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '\ufffd'
		}
		return r
	}, name)
}

// derive fills in what the image says of its origin, and what follows from that.
func (b *Binary) derive() {
	m := b.Image
	asGo, asRust := func() { b.GoInfo = golang.Read(m) }, func() { b.RustInfo = rust.Read(m) }
	if len(m.Data) < large {
		asGo()
		asRust()
	} else {
		parallel.Do(asGo, asRust)
	}
	made := toolchain.Read(m, b.GoInfo, b.RustInfo)
	b.Language, b.Languages, b.Toolchain = made.Language, made.Languages, made.Tools
	if b.GoInfo != nil {
		b.goFunctions()
		for _, n := range b.GoInfo.Notes {
			m.Notef("%s", n)
		}
	}
	if b.RustInfo != nil {
		b.Crates = b.RustInfo.Crates
		for _, n := range b.RustInfo.Notes {
			m.Notef("%s", n)
		}
	}
}

// Finish measures a binary of Begun and extracts its texts, for which all of its
// bytes are read. Until then it has no entropy, texts and flags.
// A second call does nothing.
func (b *Binary) Finish() {
	if b.finished {
		return
	}
	b.finished = true
	if err := guard("what is in it", func() error { b.finish(); return nil }); err != nil {
		b.Notef("%v", err)
	}
}

func (b *Binary) finish() {
	m := b.Image
	b.Measured = entropy.Image(m)
	texts := text.Extract(m)
	texts.Glued = b.GoInfo != nil || b.RustInfo != nil
	if texts.Cut {
		m.Notef("not looked at: some of the texts, of which there are too many")
	}
	b.Strings = text.Telling(texts, maxTexts)
	b.Flags = flags(b)
}

// goFunctions replaces the functions that the format tells of by those of Go's
// own table, which has all of them with their names.
func (b *Binary) goFunctions() {
	if len(b.GoInfo.Functions) == 0 {
		return
	}
	b.UserFunctions = b.GoInfo.UserFunctions()
	list := make([]image.Function, 0, len(b.GoInfo.Functions))
	size := uint64(0)
	for _, f := range b.GoInfo.Functions {
		if f.Addr != 0 {
			list = append(list, image.Function{Addr: f.Addr, Size: f.Size, Name: f.Name})
			size += f.Size
		}
	}
	slices.SortStableFunc(list, func(a, b image.Function) int { return cmp.Compare(a.Addr, b.Addr) })
	list = slices.CompactFunc(list, func(a, b image.Function) bool { return a.Addr == b.Addr })
	coverage := b.Functions.Coverage
	if code := codeSize(b.Image); code > 0 {
		coverage = max(coverage, min(float64(size)/float64(code), 1))
	}
	b.Functions = image.Functions{List: list, Count: len(b.GoInfo.Functions), Method: "pclntab", Coverage: coverage}
	// What the parser missed is there now.
	b.Notes = slices.DeleteFunc(b.Notes, func(n string) bool { return strings.HasPrefix(n, "no table of functions") })
}

// codeSize is the size of all code sections, or of the executable segments of
// a file without sections.
func codeSize(m *image.Image) uint64 {
	n := uint64(0)
	for _, s := range m.Sections {
		if s.Code {
			n += s.FileSize
		}
	}
	if n == 0 {
		for _, s := range m.Segments {
			if s.Access&image.Execute != 0 {
				n += s.FileSize
			}
		}
	}
	return n
}
