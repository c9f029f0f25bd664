package text

// An automaton finds all of many words in one pass over the bytes, whatever
// their case (Aho and Corasick, "Efficient string matching", 1975), as a dense
// table: one look-up for the class of a byte, one for the next state.
type automaton struct {
	class  [256]uint8
	width  int      // number of classes
	next   []uint16 // state*width + class; the top bit says that words end there
	ending [][]uint16
}

const ends = 1 << 15

func fold(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// build makes the automaton of words, which are fewer than 32,768 characters
// in all.
func build(words []string) *automaton {
	a := &automaton{width: 1}
	for _, w := range words {
		for i := range len(w) {
			if c := fold(w[i]); a.class[c] == 0 {
				a.class[c] = uint8(a.width)
				a.width++
			}
		}
	}
	for c := byte('A'); c <= 'Z'; c++ {
		a.class[c] = a.class[fold(c)]
	}

	// A tree of the words first, in which 0 stands for no edge. It is made level
	// by level, so that the states near the root, where most of the time is spent,
	// lie close together.
	most := 1 // states
	for _, w := range words {
		most += len(w)
	}
	a.next, a.ending = make([]uint16, 0, most*a.width), make([][]uint16, 0, most)
	add := func() uint16 {
		a.next = a.next[:len(a.next)+a.width]
		a.ending = append(a.ending, nil)
		return uint16(len(a.ending) - 1)
	}
	add()
	at := make([]uint16, len(words))
	for depth, more := 0, true; more; depth++ {
		more = false
		for n, w := range words {
			if depth >= len(w) {
				continue
			}
			more = true
			edge := int(at[n])*a.width + int(a.class[fold(w[depth])])
			if a.next[edge] == 0 {
				to := add()
				a.next[edge] = to
			}
			at[n] = a.next[edge]
		}
	}
	for n, state := range at {
		a.ending[state] = append(a.ending[state], uint16(n))
	}

	// Then every missing edge leads to where the longest suffix leads.
	suffix := make([]uint16, len(a.ending))
	queue := make([]uint16, 0, len(a.ending))
	for _, to := range a.next[:a.width] {
		if to != 0 {
			queue = append(queue, to)
		}
	}
	for len(queue) > 0 {
		state := queue[0]
		queue = queue[1:]
		a.ending[state] = append(a.ending[state], a.ending[suffix[state]]...)
		for c := range a.width {
			edge := int(state)*a.width + c
			other := a.next[int(suffix[state])*a.width+c]
			if to := a.next[edge]; to != 0 {
				suffix[to] = other
				queue = append(queue, to)
			} else {
				a.next[edge] = other
			}
		}
	}
	for i, to := range a.next {
		if len(a.ending[to]) > 0 {
			a.next[i] |= ends
		}
	}
	return a
}

// find calls found for every word in b, with its number and the offset behind
// its last character.
func (a *automaton) find(b []byte, found func(word, end int)) {
	next, width := a.next, a.width
	state := 0
	for i := 0; i < len(b); i++ {
		to := next[state*width+int(a.class[b[i]])]
		state = int(to &^ ends)
		if to&ends != 0 {
			for _, w := range a.ending[state] {
				found(int(w), i+1)
			}
		}
	}
}
