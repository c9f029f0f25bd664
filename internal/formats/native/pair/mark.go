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

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
)

// A Mark is what is kept of a function to find it in another version.
type Mark struct {
	Name  string // from a symbol; empty if there is none
	Addr  uint64
	Size  uint64
	Body  uint64  // of its instructions, less what a linker fills in; 0 if it is too short to tell
	Says  uint64  // of the imports that it calls and the texts that it names, in any order; 0 if there are none
	Calls []int32 // indexes of the functions that it calls or names, in order, each once
	Known bool    // it belongs to a library that many programs carry
}

// Limits: of one function, and of all.
const (
	maxCalls  = 256
	maxText   = 64 // bytes of a text that count
	maxMarked = 200_000
)

// Marks returns a mark for each function of c. libraries has what known.Label
// says of them.
func Marks(c *code.Code, libraries []known.Mark) []Mark {
	n := min(len(c.Functions), maxMarked)
	out := make([]Mark, n)
	extents := known.Extents(c.Image, c.Functions)
	slots := known.SlotNames(c.Image)
	for i := range n {
		f := &c.Functions[i]
		out[i] = Mark{Name: f.Name, Addr: f.Addr, Size: f.Size, Known: i < len(libraries) && libraries[i].Library != ""}
		if i < len(extents) {
			out[i].Size = max(f.Size, uint64(len(extents[i].Code)))
			key, _ := known.KeyOf(c.Image.Arch, f.Addr, extents[i].Code, slots)
			out[i].Body = uint64(key)
		}
		out[i].Calls, out[i].Says = refs(c, i, n)
	}
	return out
}

// refs returns the functions that fn calls, and the hash of what else it names.
func refs(c *code.Code, fn, n int) (calls []int32, says uint64) {
	for _, r := range c.From(fn) {
		switch {
		case r.Import >= 0:
			says += hash("import", c.Image.Imports[r.Import].Name)
		case r.Kind == code.Data:
			if t := text(c, r.Target); t != "" {
				says += hash("text", t)
			}
		case len(calls) < maxCalls:
			if to := c.Func(r.Target); to >= 0 && to < n && to != fn && !slices.Contains(calls, int32(to)) {
				calls = append(calls, int32(to))
			}
		}
	}
	return calls, says
}

// text returns the printable text at addr, if there are at least four letters.
func text(c *code.Code, addr uint64) string {
	b := c.Image.At(addr)
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

func hash(kind, text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(kind))
	h.Write([]byte(text))
	return binary.BigEndian.Uint64(h.Sum(nil))
}
