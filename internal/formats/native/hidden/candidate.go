package hidden

import (
	"encoding/binary"
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Limits of the search for functions that are worth to be carried out.
const (
	maxCode    = 12 << 20 // bytes of code that are looked at
	maxLength  = 16 << 10 // of a function
	maxLoop    = 1 << 10  // bytes of a loop that decodes
	fewEnough  = 400      // functions of a binary in which text may be encoded text too
	maxCallers = 12       // of a function that decodes
	maxRefs    = 64       // of a function to data, that are looked at
	maxCallees = 24       // of a function
	maxNear    = 600      // functions
)

// candidates returns the functions to carry out. One that decodes has to get
// at what it decodes: it, or a function that calls it, names data that may be
// encoded or has such constants.
func (r *runner) candidates(wanted func(addr uint64) bool, uses []uint64) []int {
	list := r.nearby(wanted, uses)
	r.glance = glance{grams: &r.f.grams, m: r.mem.m}
	r.shown = make([]evidence, len(r.c.Functions))
	r.left = maxCode
	var out, builders []int
	for _, fn := range list {
		e := r.evidence(fn)
		switch {
		case len(out) == maxRuns:
			return out
		case e&(constants|encoded) != 0 && r.decoding(fn, 2):
			out = append(out, fn)
		case e&resemble != 0:
			builders = append(builders, fn)
		}
	}
	out = append(out, builders...)
	return out[:min(len(out), maxRuns)]
}

// nearby returns the functions that hold the given places, then those that call
// them, and those that call these; without places all functions.
func (r *runner) nearby(wanted func(addr uint64) bool, uses []uint64) []int {
	var out []int
	if uses == nil {
		for fn := range r.c.Functions {
			if wanted(r.c.Functions[fn].Addr) {
				out = append(out, fn)
			}
		}
		return out
	}
	seen := map[int]bool{}
	add := func(fn int) {
		if fn >= 0 && !seen[fn] && len(out) < maxNear {
			seen[fn] = true
			out = append(out, fn)
		}
	}
	for _, at := range uses {
		if wanted(at) {
			add(r.c.Func(at))
		}
	}
	from := 0
	for range 2 {
		to := len(out)
		for _, fn := range out[from:to] {
			for _, by := range r.callers(fn, wanted) {
				add(by)
			}
		}
		from = to
	}
	return out
}

// evidence returns what a function shows.
func (r *runner) evidence(fn int) evidence {
	if r.shown[fn] == 0 {
		if r.left <= 0 {
			return 0
		}
		b := r.body(fn)
		r.left -= len(b)
		e := r.glance.look(b, r.c.Functions[fn].Addr)
		if r.namesEncoded(fn) {
			e |= encoded
		}
		r.shown[fn] = e | looked
	}
	return r.shown[fn]
}

// decoding reports whether a function decodes, or one that it calls, so deep.
func (r *runner) decoding(fn, deep int) bool {
	if r.evidence(fn)&decodes != 0 {
		return true
	}
	if deep == 0 {
		return false
	}
	n := 0
	for _, ref := range r.c.From(fn) {
		if ref.Kind != code.Call && ref.Kind != code.Jump || ref.Import >= 0 {
			continue
		}
		if to := r.c.Func(ref.Target); to >= 0 && to != fn && r.decoding(to, deep-1) {
			return true
		}
		if n++; n == maxCallees {
			break
		}
	}
	return false
}

// callers returns the functions that call or name one, as far as they are wanted.
func (r *runner) callers(fn int, wanted func(addr uint64) bool) []int {
	var out []int
	for _, ref := range r.c.Callers(fn).All() {
		if by := r.c.Func(ref.Addr); by >= 0 && by != fn && wanted(ref.Addr) && !slices.Contains(out, by) {
			out = append(out, by)
		}
		if len(out) == maxCallers {
			break
		}
	}
	return out
}

// namesEncoded reports whether a function refers to data that may be encoded.
func (r *runner) namesEncoded(fn int) bool {
	strict := len(r.c.Functions) > fewEnough
	refs := r.c.From(fn)
	for _, ref := range refs[:min(len(refs), maxRefs)] {
		if ref.Kind == code.Data && ref.Import < 0 && (mayBeEncoded(r.mem.m, ref.Target, strict) || mayBeEncoded(r.mem.m, ref.Target-8, strict)) {
			return true
		}
	}
	return false
}

// mayBeEncoded reports whether the bytes at an address, or where a pointer there
// leads, are of many values and no small numbers; if strict, nor plain text.
func mayBeEncoded(m *image.Image, addr uint64, strict bool) bool {
	p := m.Pointers
	if i := sort.Search(len(p), func(i int) bool { return p[i].At >= addr }); i < len(p) && p[i].At == addr {
		addr = p[i].To
	}
	b := m.At(addr)
	if len(b) < MinWord {
		return false
	}
	b = b[:min(len(b), 12)]
	if strict && plainText(b) {
		return false
	}
	b = b[:min(len(b), 8)]
	zeros := 0
	for _, c := range b[:MinWord] {
		if c == 0 {
			zeros++
		}
	}
	if zeros > 1 || distinct(string(b)) < 4 {
		return false
	}
	// Distances of jump tables.
	return len(b) < 8 || binary.LittleEndian.Uint16(b[2:]) != 0xffff || binary.LittleEndian.Uint16(b[6:]) != 0xffff
}

// plainText reports whether data looks like the beginning of text that is not
// encoded: most of it small letters, or all of it in capitals.
func plainText(b []byte) bool {
	small, large, n := 0, 0, 0
	for ; n < len(b) && b[n] != 0; n++ {
		switch c := b[n]; {
		case 'a' <= c && c <= 'z', c == ' ':
			small++
		case 'A' <= c && c <= 'Z', c == '_':
			large++
		case !printable(c):
			return false
		}
	}
	return n >= 4 && (5*small >= 3*n || large == n)
}

// body returns the bytes of a function.
func (r *runner) body(fn int) []byte {
	f := &r.c.Functions[fn]
	b := r.mem.m.At(f.Addr)
	n := uint64(len(b))
	if f.Size > 0 {
		n = min(n, f.Size)
	}
	if fn+1 < len(r.c.Functions) {
		n = min(n, r.c.Functions[fn+1].Addr-f.Addr)
	}
	return b[:min(n, maxLength)]
}

// texty reports whether a constant may be text: all of its bytes are printable,
// or under one key.
func texty(b []byte) bool { return !slices.Contains(b, 0) && distinct(string(b)) >= 4 }
