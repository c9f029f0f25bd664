package pair

import "slices"

// Functions pairs the functions of two versions: for each of a the index of its
// counterpart in b, or -1. No function of b is used twice.
func Functions(a, b []Mark) []int32 {
	m := &matching{a: a, b: b, of: slices.Repeat([]int32{-1}, len(a)), back: slices.Repeat([]int32{-1}, len(b))}
	m.unique(func(f *Mark) key { return key{name: f.Name} })
	m.unique(func(f *Mark) key { return key{body: f.Body, says: f.Says} })
	m.unique(func(f *Mark) key { return key{body: f.Body} })
	m.unique(func(f *Mark) key { return key{says: f.Says} })
	for range rounds {
		if !m.along() && !m.between() {
			break
		}
	}
	return m.of
}

// rounds bounds how far pairs spread along calls.
const rounds = 12

type key struct {
	name       string
	body, says uint64
}

type matching struct {
	a, b []Mark
	of   []int32 // of a, in b
	back []int32 // of b, in a
}

func (m *matching) pair(i, j int) {
	m.of[i], m.back[j] = int32(j), int32(i)
}

// unique pairs what only one function of either side has.
func (m *matching) unique(of func(*Mark) key) {
	left, right := single(m.a, m.of, of), single(m.b, m.back, of)
	for i := range m.a { // in order: no result hangs on the order of a map
		k := of(&m.a[i])
		if at, ok := left[k]; !ok || at != i {
			continue
		}
		if j, ok := right[k]; ok && j >= 0 {
			m.pair(i, j)
		}
	}
}

// single returns the functions without a counterpart by their key, -1 for a key
// that several have.
func single(list []Mark, taken []int32, of func(*Mark) key) map[key]int {
	out := map[key]int{}
	for i := range list {
		k := of(&list[i])
		if taken[i] >= 0 || k == (key{}) {
			continue
		}
		if _, twice := out[k]; twice {
			out[k] = -1
		} else {
			out[k] = i
		}
	}
	return out
}

// along pairs what paired functions call: in order where both call as many that
// are left, and by body, texts and size else.
func (m *matching) along() bool {
	any := false
	for i := range m.a {
		j := m.of[i]
		if j < 0 {
			continue
		}
		left, right := m.free(m.a[i].Calls, m.of), m.free(m.b[j].Calls, m.back)
		any = m.align(left, right) || any
	}
	return any
}

// between pairs functions that lie between two pairs, in the order of their
// addresses: compilers and linkers keep the order of the source.
func (m *matching) between() bool {
	any := false
	last := -1
	for i := range m.a {
		if m.of[i] < 0 {
			continue
		}
		if last >= 0 && i-last > 1 && m.of[i] > m.of[last] {
			var left, right []int32
			for k := last + 1; k < i; k++ {
				left = append(left, int32(k))
			}
			for k := m.of[last] + 1; k < m.of[i]; k++ {
				if m.back[k] < 0 {
					right = append(right, k)
				}
			}
			any = m.align(left, right) || any
		}
		last = i
	}
	return any
}

func (m *matching) free(list, taken []int32) []int32 {
	var out []int32
	for _, f := range list {
		if taken[f] < 0 {
			out = append(out, f)
		}
	}
	return out
}

// align pairs two short lists of functions in order, passing over those on
// either side that go with none: the longest common subsequence, by what is
// alike.
func (m *matching) align(left, right []int32) bool {
	const longest = 200
	if len(left) == 0 || len(right) == 0 || len(left) > longest || len(right) > longest {
		return false
	}
	n, k := len(left), len(right)
	best := make([][]int32, n+1)
	for i := range best {
		best[i] = make([]int32, k+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := k - 1; j >= 0; j-- {
			best[i][j] = max(best[i+1][j], best[i][j+1])
			if s := m.alike(left[i], right[j]); s > 0 {
				best[i][j] = max(best[i][j], best[i+1][j+1]+s)
			}
		}
	}
	any := false
	for i, j := 0, 0; i < n && j < k; {
		s := m.alike(left[i], right[j])
		switch {
		case s > 0 && best[i][j] == best[i+1][j+1]+s:
			m.pair(int(left[i]), int(right[j]))
			any = true
			i, j = i+1, j+1
		case best[i][j] == best[i+1][j]:
			i++
		default:
			j++
		}
	}
	return any
}

// alike says how much two functions have in common: nothing, or 1 to 8.
func (m *matching) alike(i, j int32) int32 {
	f, g := &m.a[i], &m.b[j]
	if f.Name != "" && g.Name != "" && f.Name != g.Name {
		return 0
	}
	s := int32(0)
	if f.Body != 0 && f.Body == g.Body {
		s += 4
	}
	switch {
	case f.Says != 0 && f.Says == g.Says:
		s += 3
	case f.Says != 0 && g.Says != 0 && s == 0:
		s--
	}
	if close(f.Size, g.Size) {
		s++
	}
	if len(f.Calls) == len(g.Calls) {
		s++
	}
	return max(s-1, 0)
}

// close reports whether two sizes differ by no more than a third, which another
// version of a compiler makes of the same source.
func close(a, b uint64) bool {
	lo, hi := min(a, b), max(a, b)
	return hi-lo <= 16 || hi*2 <= lo*3
}
