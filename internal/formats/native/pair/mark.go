// Package pair finds for the functions of one binary those of another version of
// it: by name, by body, by what they call and say, and by who calls them, in
// the way of Flake ("Structural Comparison of Executable Objects", DIMVA 2004)
// and Dullien and Rolles ("Graph-based comparison of executable objects",
// SSTIC 2005), who pair what is unique first and go on along calls.
package pair

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
)

// Limits: of one function, and of all.
const (
	maxCalls  = 256
	maxText   = 64 // bytes of a text that count
	maxMarked = 200_000
)

// Marks returns a mark for each function of c. libraries has what known.Label
// says of them.
func Marks(c *code.Code, libraries []known.Mark) *inventory.Marks {
	n := min(len(c.Functions), maxMarked)
	out := &inventory.Marks{Functions: make([]inventory.Mark, n), Imports: c.Image.ImportNames()}
	index := make(map[string]int32, len(out.Imports))
	for i, name := range out.Imports {
		index[name] = int32(i)
	}
	extents := known.Extents(c.Image, c.Functions[:n])
	slots := known.SlotNames(c.Image)
	for i := range n {
		f := &c.Functions[i]
		m := &out.Functions[i]
		*m = inventory.Mark{Name: f.Name, Addr: f.Addr, Size: f.Size, Known: i < len(libraries) && !libraries[i].Own()}
		shape := known.ShapeOf(c.Image.Arch, f.Addr, trimmed(c.Image.Arch, extents[i]), slots)
		m.Body, m.Size, m.Short = uint64(shape.Key), uint64(shape.Size), shape.Short
		refer(c, i, n, m, index)
	}
	return out
}

// trimmed returns the code of a function without the zeros behind it, with
// which linkers fill gaps where no instruction is made of them.
func trimmed(arch image.Arch, e known.Extent) []byte {
	b := e.Code
	if e.Sized || arch != image.AArch64 {
		return b
	}
	for len(b) >= 4 && binary.LittleEndian.Uint32(b[len(b)-4:]) == 0 {
		b = b[:len(b)-4]
	}
	return b
}

// refer fills in what function fn refers to.
func refer(c *code.Code, fn, n int, m *inventory.Mark, index map[string]int32) {
	for _, r := range c.From(fn) {
		switch {
		case r.Import >= 0:
			if i, ok := index[c.Image.Imports[r.Import].Name]; ok && len(m.Imports) < maxCalls {
				m.Imports = append(m.Imports, i)
			}
		case r.Kind == code.Data:
			if t := text(c.Image, r.Target); t != "" && len(m.Texts) < maxCalls {
				m.Texts = append(m.Texts, hash(t))
			}
		case len(m.Calls) < maxCalls:
			if to := c.Func(r.Target); to >= 0 && to < n && to != fn && !slices.Contains(m.Calls, int32(to)) {
				m.Calls = append(m.Calls, int32(to))
			}
		}
	}
	slices.Sort(m.Imports)
	m.Imports = slices.Clip(slices.Compact(m.Imports))
	slices.Sort(m.Texts)
	m.Texts = slices.Clip(slices.Compact(m.Texts))
}

// text returns the printable text at addr, if there are at least four letters.
func text(m *image.Image, addr uint64) string {
	b := m.At(addr)
	b = b[:min(len(b), maxText)]
	end := slices.IndexFunc(b, func(c byte) bool { return c < 0x20 && c != '\t' && c != '\n' || c > 0x7e })
	if end < 0 {
		end = len(b)
	}
	if end < 4 {
		return ""
	}
	return string(b[:end])
}

func hash(text string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(text))
	return h.Sum32()
}

// perBuild is what changes from build to build in the names of functions: the
// hash in Rust's legacy names, and the suffixes of functions that a compiler
// specializes or moves.
var perBuild = pattern.New(`17h[0-9a-f]{16}E$|(\.(llvm|lto_priv|isra|constprop)\.\d+)+$`)

// plain returns a function's name without what changes from build to build.
func plain(name string) string {
	if !strings.ContainsAny(name, ".E") {
		return name
	}
	return perBuild.ReplaceAllString(name, "")
}
