package hidden

import (
	"encoding/binary"
	"slices"
	"sort"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
)

// Limits of the search for functions that are worth to be carried out.
const (
	maxCode    = 12 << 20 // bytes of code that are looked at
	maxLength  = 16 << 10 // of a function
	maxLoop    = 400      // bytes of a loop that decodes
	maxCallers = 12       // of a function that decodes
	maxRefs    = 64       // of a function to data, that are looked at
)

// candidates returns the functions to carry out. A function that decodes has to
// get at what it decodes: it, or one that calls it, names data that may be
// encoded or has such constants. Callers come first, as they know what is
// decoded.
func (r *runner) candidates(wanted func(addr uint64) bool) []int {
	g := &glance{grams: &r.f.grams, m: r.mem.m}
	var loops, builders []int
	shown := make([]evidence, len(r.c.Functions))
	left := maxCode
	for fn := range r.c.Functions {
		at := r.c.Functions[fn].Addr
		if left <= 0 {
			break
		}
		if !wanted(at) {
			continue
		}
		b := r.body(fn)
		left -= len(b)
		e := g.look(b, at)
		if shown[fn] = e; e&decodes != 0 {
			loops = append(loops, fn)
		} else if e&resemble != 0 {
			builders = append(builders, fn)
		}
	}
	var callers, own []int
	knows := func(fn int) bool { return shown[fn]&constants != 0 || r.namesEncoded(fn) }
	for _, fn := range loops {
		if knows(fn) {
			own = append(own, fn)
		}
		for _, by := range r.callers(fn, wanted) {
			if knows(by) {
				callers = append(callers, by)
				continue
			}
			for _, above := range r.callers(by, wanted) {
				if knows(above) {
					callers = append(callers, above)
				}
			}
		}
		if len(callers)+len(own) > maxRuns {
			break
		}
	}
	out := slices.Concat(callers, own, builders)
	seen := map[int]bool{}
	out = slices.DeleteFunc(out, func(fn int) bool {
		old := seen[fn]
		seen[fn] = true
		return old
	})
	return out[:min(len(out), maxRuns)]
}

// callers returns the functions that call or name one, as far as they are wanted.
func (r *runner) callers(fn int, wanted func(addr uint64) bool) []int {
	var out []int
	for _, ref := range r.c.Callers(fn) {
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
	refs := r.c.From(fn)
	for _, ref := range refs[:min(len(refs), maxRefs)] {
		if ref.Kind == code.Data && ref.Import < 0 && r.mayBeEncoded(ref.Target) {
			return true
		}
	}
	return false
}

// mayBeEncoded reports whether the bytes at an address, or where a pointer there
// leads, are of many values and neither text nor small numbers.
func (r *runner) mayBeEncoded(addr uint64) bool {
	p := r.mem.m.Pointers
	if i := sort.Search(len(p), func(i int) bool { return p[i].At >= addr }); i < len(p) && p[i].At == addr {
		addr = p[i].To
	}
	b := r.mem.m.At(addr)
	if len(b) < MinWord {
		return false
	}
	b = b[:min(len(b), 12)]
	if plainText(b) {
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
		case 'A' <= c && c <= 'Z', c == '_', '0' <= c && c <= '9':
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
