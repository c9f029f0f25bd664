package diff

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/report"
)

// A pairing is a binary of one side and its counterpart; one of them is nil if
// there is none.
type pairing struct {
	from, to *inventory.Binary
	by       report.PairedBy
	alike    float64 // of those paired by similarity
}

// pair finds for each binary its counterpart: the surest ways first, each
// binary once.
func (n neutral) pair(from, to []*inventory.Binary) []pairing {
	m := &matcher{neutral: n, a: arranged(from), b: arranged(to)}
	type kind struct{ format, arch, system string }
	of := func(b *inventory.Binary) kind { return kind{b.Format, b.Arch, system(b)} }

	match(m, report.ByPath, func(b *inventory.Binary) any { return [2]string{b.Path, b.Slice} })
	match(m, report.ByContent, func(b *inventory.Binary) any {
		if b.SHA256 == "" {
			return nil
		}
		return b.SHA256
	})
	outer := map[string]bool{}
	for _, b := range slices.Concat(from, to) {
		if b != nil {
			outer[b.Path] = true
		}
	}
	for _, way := range []struct {
		by  report.PairedBy
		key func(b *inventory.Binary) string
	}{
		{report.ByVersion, func(b *inventory.Binary) string { return n.versionless(b.Path) }},
		{report.ByVersion, func(b *inventory.Binary) string { return n.loose(b.Path) }},
		{report.ByPlatform, func(b *inventory.Binary) string { _, rest, _ := strings.Cut(n.loose(b.Path), "/"); return rest }},
		{report.ByPlatform, func(b *inventory.Binary) string { return n.loose(path.Base(b.Path)) }},
	} {
		type key struct {
			kind
			path string
		}
		match(m, way.by, func(b *inventory.Binary) any {
			if i := strings.LastIndex(b.Path, "!/"); i > 0 && way.by == report.ByPlatform && outer[b.Path[:i]] {
				return nil // what is packed in a binary goes with that
			}
			if p := way.key(b); p != "" {
				return key{of(b), p}
			}
			return nil
		})
	}
	m.inner()
	m.alone(func(b *inventory.Binary) any {
		if dir := path.Dir(b.Path); dir != "." {
			return [2]any{of(b), n.loose(dir)}
		}
		return nil
	})
	m.similar(func(b *inventory.Binary) any { return of(b) })
	m.inner()
	return m.result()
}

// system names the operating system of a binary, and tells its C library: there
// is a build for each.
func system(b *inventory.Binary) string {
	if b.OS == "linux" && (strings.Contains(b.Path, "musl") || slices.ContainsFunc(b.Libraries, func(l string) bool { return strings.Contains(l, "musl") })) {
		return "linux-musl"
	}
	return b.OS
}

// arranged returns binaries in the order of their paths, those that are nil
// left out.
func arranged(list []*inventory.Binary) []*inventory.Binary {
	list = slices.DeleteFunc(slices.Clone(list), func(b *inventory.Binary) bool { return b == nil })
	slices.SortStableFunc(list, func(a, b *inventory.Binary) int {
		return cmp.Or(natural(a.Path, b.Path), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Slice, b.Slice), cmp.Compare(a.SHA256, b.SHA256))
	})
	return list
}

// natural orders texts with their numbers as numbers: abi93 before abi108.
func natural(a, b string) int {
	x, y := a, b
	for len(x) > 0 && len(y) > 0 {
		i, j := number(x), number(y)
		if i > 0 && j > 0 {
			p, q := strings.TrimLeft(x[:i], "0"), strings.TrimLeft(y[:j], "0")
			if c := cmp.Or(cmp.Compare(len(p), len(q)), cmp.Compare(p, q)); c != 0 {
				return c
			}
			x, y = x[i:], y[j:]
			continue
		}
		if x[0] != y[0] {
			return cmp.Compare(x[0], y[0])
		}
		x, y = x[1:], y[1:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(a, b))
}

// number returns how many digits a text begins with.
func number(s string) int {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return i
}

// A matcher holds the binaries of both sides, and what was found so far.
type matcher struct {
	neutral
	a, b []*inventory.Binary // without counterpart so far
	out  []pairing
}

// match pairs binaries with the same key. Where a key has several, the last go
// together: a list of builds for Node's or Python's versions grows at its end
// and loses at its beginning.
func match(m *matcher, by report.PairedBy, of func(*inventory.Binary) any) {
	group := func(list []*inventory.Binary) map[any][]*inventory.Binary {
		out := map[any][]*inventory.Binary{}
		for _, b := range list {
			if k := of(b); k != nil {
				out[k] = append(out[k], b)
			}
		}
		return out
	}
	left, right := group(m.a), group(m.b)
	done := map[*inventory.Binary]bool{}
	for _, b := range m.a {
		k := of(b)
		if k == nil || left[k][0] != b {
			continue
		}
		x, y := left[k], right[k]
		n := min(len(x), len(y))
		for i := range n {
			p, q := x[len(x)-n+i], y[len(y)-n+i]
			m.out = append(m.out, pairing{from: p, to: q, by: by})
			done[p], done[q] = true, true
		}
	}
	m.drop(done)
}

// alone pairs binaries that are the only ones of their key on both sides: the
// one for a platform in its folder, under another name.
func (m *matcher) alone(of func(*inventory.Binary) any) {
	count := map[any][2]int{}
	for side, list := range [][]*inventory.Binary{m.a, m.b} {
		for _, b := range list {
			if k := of(b); k != nil {
				n := count[k]
				n[side]++
				count[k] = n
			}
		}
	}
	match(m, report.ByPlatform, func(b *inventory.Binary) any {
		if k := of(b); k != nil && count[k] == [2]int{1, 1} {
			return k
		}
		return nil
	})
}

func (m *matcher) drop(done map[*inventory.Binary]bool) {
	if len(done) == 0 {
		return
	}
	m.a = slices.DeleteFunc(m.a, func(b *inventory.Binary) bool { return done[b] })
	m.b = slices.DeleteFunc(m.b, func(b *inventory.Binary) bool { return done[b] })
}

// inner pairs what lies in the same place inside of binaries that are paired:
// "x.node!/section:.data".
func (m *matcher) inner() {
	outer := [2]map[string]int{{}, {}}
	for i, p := range m.out {
		outer[0][p.from.Path], outer[1][p.to.Path] = i+1, i+1
	}
	type key struct {
		pair int
		rest string
		arch string
	}
	side := map[*inventory.Binary]int{}
	for _, b := range m.b {
		side[b] = 1
	}
	match(m, report.ByOuter, func(b *inventory.Binary) any {
		at := strings.LastIndex(b.Path, "!/")
		if at < 0 {
			return nil
		}
		if i := outer[side[b]][b.Path[:at]]; i > 0 {
			return key{i, m.loose(b.Path[at:]), b.Format + b.Arch}
		}
		return nil
	})
}

// Limits of the search for similar binaries: each is held against each of its
// kind.
const (
	maxSimilar = 200 // of a kind, on either side
	leastAlike = 0.35
)

// similar pairs binaries of the same kind that name and hold much of the same,
// the most alike first.
func (m *matcher) similar(kind func(*inventory.Binary) any) {
	groups := map[any][2][]*inventory.Binary{}
	for side, list := range [][]*inventory.Binary{m.a, m.b} {
		for _, b := range list {
			g := groups[kind(b)]
			g[side] = append(g[side], b)
			groups[kind(b)] = g
		}
	}
	var found []pairing
	for _, g := range groups {
		if len(g[0]) > maxSimilar || len(g[1]) > maxSimilar {
			continue
		}
		prints := map[*inventory.Binary]fingerprint{}
		for _, b := range slices.Concat(g[0], g[1]) {
			prints[b] = newFingerprint(b)
		}
		for _, a := range g[0] {
			for _, b := range g[1] {
				if s := prints[a].alike(prints[b]); s >= leastAlike {
					found = append(found, pairing{a, b, report.BySimilarity, s})
				}
			}
		}
	}
	slices.SortFunc(found, func(x, y pairing) int { // the same order from either side
		return cmp.Or(cmp.Compare(y.alike, x.alike),
			cmp.Compare(min(x.from.Path, x.to.Path), min(y.from.Path, y.to.Path)), cmp.Compare(max(x.from.Path, x.to.Path), max(y.from.Path, y.to.Path)),
			cmp.Compare(x.from.Arch, y.from.Arch), cmp.Compare(min(x.from.SHA256, x.to.SHA256), min(y.from.SHA256, y.to.SHA256)), cmp.Compare(max(x.from.SHA256, x.to.SHA256), max(y.from.SHA256, y.to.SHA256)))
	})
	done := map[*inventory.Binary]bool{}
	for _, p := range found {
		if !done[p.from] && !done[p.to] {
			m.out = append(m.out, p)
			done[p.from], done[p.to] = true, true
		}
	}
	m.drop(done)
}

// A fingerprint is what binaries are held against each other by.
type fingerprint struct{ imports, exports, texts, bodies sketch }

// A sketch stands for a set: the lowest of its hashes, sorted (Broder, "On the
// resemblance and containment of documents", SEQUENCES 1997). However large the
// sets, comparing two costs the same.
type sketch []uint64

// sketchSize is how many hashes are kept: with 256, the share that two sets
// have in common is off by 3 of 100 or so.
const sketchSize = 256

func newSketch(hashes []uint64) sketch {
	slices.Sort(hashes)
	hashes = slices.Compact(hashes)
	return sketch(hashes[:min(len(hashes), sketchSize)])
}

// common returns the share of two sets that is in both, and false if both are
// empty.
func (a sketch) common(b sketch) (float64, bool) {
	both, all := 0, 0
	i, j := 0, 0
	for all < sketchSize && (i < len(a) || j < len(b)) {
		all++
		switch {
		case j == len(b) || i < len(a) && a[i] < b[j]:
			i++
		case i == len(a) || b[j] < a[i]:
			j++
		default:
			both, i, j = both+1, i+1, j+1
		}
	}
	if all == 0 {
		return 0, false
	}
	return float64(both) / float64(all), true
}

func newFingerprint(b *inventory.Binary) fingerprint {
	var texts, bodies []uint64
	for _, s := range b.Strings {
		texts = append(texts, hash(s.Value))
	}
	if b.Marks != nil {
		for i := range b.Marks.Functions {
			if m := &b.Marks.Functions[i]; m.Body != 0 && !m.Short && !m.Known {
				bodies = append(bodies, stir(m.Body))
			}
		}
	}
	return fingerprint{newSketch(hashes(b.Imports)), newSketch(hashes(b.Exports)), newSketch(texts), newSketch(bodies)}
}

func hashes(list []string) []uint64 {
	out := make([]uint64, len(list))
	for i, s := range list {
		out[i] = hash(s)
	}
	return out
}

// hash is FNV-1a, stirred so that its lowest values are a fair sample.
func hash(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return stir(h)
}

// stir is the finalizer of SplitMix64.
func stir(v uint64) uint64 {
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}

// alike returns how much two binaries share, from 0 to 1: the mean over what
// either has of the share that both have. What every binary of its kind imports
// says least, what it does most.
func (f fingerprint) alike(g fingerprint) float64 {
	sum, weights := 0.0, 0.0
	for _, part := range []struct {
		a, b   sketch
		weight float64
	}{{f.imports, g.imports, 1}, {f.exports, g.exports, 1}, {f.texts, g.texts, 1.5}, {f.bodies, g.bodies, 2}} {
		if share, ok := part.a.common(part.b); ok {
			sum += part.weight * share
			weights += part.weight
		}
	}
	if weights == 0 {
		return 0
	}
	return sum / weights
}

// result returns all pairs and what is left alone, by path.
func (m *matcher) result() []pairing {
	out := m.out
	for _, b := range m.a {
		out = append(out, pairing{from: b})
	}
	for _, b := range m.b {
		out = append(out, pairing{to: b})
	}
	slices.SortStableFunc(out, func(x, y pairing) int {
		a, b := x.paths(), y.paths()
		p, q := x.any(), y.any()
		return cmp.Or(natural(a[0], b[0]), natural(a[1], b[1]), cmp.Compare(p.Arch, q.Arch), cmp.Compare(p.Slice, q.Slice), cmp.Compare(x.digest(), y.digest()))
	})
	return out
}

// paths returns the paths of both, the lesser first.
func (p pairing) paths() [2]string {
	switch {
	case p.from == nil:
		return [2]string{p.to.Path, p.to.Path}
	case p.to == nil:
		return [2]string{p.from.Path, p.from.Path}
	}
	return [2]string{min(p.from.Path, p.to.Path), max(p.from.Path, p.to.Path)}
}

// digest is the same from either side.
func (p pairing) digest() string {
	if p.from == nil || p.to == nil {
		return p.any().SHA256
	}
	return min(p.from.SHA256, p.to.SHA256)
}

// any is one of both, the first if there is one.
func (p pairing) any() *inventory.Binary { return cmp.Or(p.from, p.to) }
