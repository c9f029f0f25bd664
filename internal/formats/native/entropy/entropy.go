// Package entropy measures how evenly the byte values of a binary's parts are
// spread: text is near 5 bits per byte, machine code near 6, compressed or
// encrypted bytes near 8.
//
// It measures and does not judge: signatures, dictionaries and compressed
// assets are as high as packed code.
package entropy

import (
	"cmp"
	"math"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Of returns the Shannon entropy of data in bits per byte, 0 to 8.
func Of(data []byte) float64 {
	var c counts
	c.add(data)
	return c.entropy()
}

// A Measure holds the entropy of an image and of its sections.
type Measure struct {
	Whole    float64   // of all bytes
	Sections []float64 // by index in image.Sections; 0 for what has no bytes in the file, -1 if not measured
}

// Image measures an image in one pass over its bytes. Sections that overlap
// others are read again, but all together no more than the file's size once
// more: what a hostile section table asks for beyond that is not measured.
func Image(m *image.Image) Measure {
	out := Measure{Sections: make([]float64, len(m.Sections))}
	order := make([]int, len(m.Sections))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(m.Sections[a].Offset, m.Sections[b].Offset)
	})

	var whole, part counts
	pos := uint64(0) // all before it is in whole
	size := uint64(len(m.Data))
	again := size // bytes that may be read a second time
	for _, i := range order {
		data := m.Bytes(&m.Sections[i])
		if len(data) == 0 {
			continue
		}
		start, end := m.Sections[i].Offset, m.Sections[i].Offset+uint64(len(data))
		if start < pos {
			if overlap := min(pos, end) - start; overlap > again {
				out.Sections[i] = -1
				continue
			} else {
				again -= overlap
			}
		} else {
			gap, _ := cursor.Slice(m.Data, pos, start-pos)
			whole.add(gap)
			pos = start
		}
		part = counts{}
		if end > pos {
			part.add(m.Data[pos:end])
			whole.merge(&part)
		}
		part.add(m.Data[start:min(pos, end)])
		out.Sections[i] = part.entropy()
		pos = max(pos, end)
	}
	whole.add(m.Data[min(pos, size):])
	out.Whole = whole.entropy()
	return out
}

// counts are how often each byte value occurs, spread over four tables so that
// a run of one value does not wait for its own counter.
type counts [4][256]uint64

func (c *counts) add(data []byte) {
	for len(data) >= 8 {
		b := data[:8:8]
		c[0][b[0]]++
		c[1][b[1]]++
		c[2][b[2]]++
		c[3][b[3]]++
		c[0][b[4]]++
		c[1][b[5]]++
		c[2][b[6]]++
		c[3][b[7]]++
		data = data[8:]
	}
	for _, b := range data {
		c[0][b]++
	}
}

func (c *counts) merge(o *counts) {
	for t := range c {
		for b, n := range o[t] {
			c[t][b] += n
		}
	}
}

func (c *counts) entropy() float64 {
	var sum [256]uint64
	total := uint64(0)
	for b := range sum {
		sum[b] = c[0][b] + c[1][b] + c[2][b] + c[3][b]
		total += sum[b]
	}
	if total == 0 {
		return 0
	}
	bits := 0.0
	for _, n := range sum {
		if n > 0 {
			p := float64(n) / float64(total)
			bits -= p * math.Log2(p)
		}
	}
	return max(bits, 0) // not minus zero
}
