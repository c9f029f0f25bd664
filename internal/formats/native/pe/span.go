package pe

import (
	"cmp"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A span is a range of addresses, without its end.
type span struct{ start, end uint64 }

// codeSpans returns where a binary's instructions may be.
func codeSpans(sections []image.Section) []span {
	var list []span
	for i := range sections {
		if s := &sections[i]; s.Code && s.Size > 0 && s.Addr+s.Size > s.Addr {
			list = append(list, span{s.Addr, s.Addr + s.Size})
		}
	}
	return merge(list)
}

// merge sorts spans and joins those that meet.
func merge(list []span) []span {
	slices.SortFunc(list, func(a, b span) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end)) })
	out := list[:0]
	for _, s := range list {
		if n := len(out); n > 0 && s.start <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, s.end)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// holds says whether an address lies in one of the spans, which are merged.
func holds(list []span, addr uint64) bool {
	i, _ := slices.BinarySearchFunc(list, addr, func(s span, addr uint64) int {
		if s.end <= addr {
			return -1
		}
		return 1
	})
	return i < len(list) && list[i].start <= addr
}

// overlap returns how many addresses lie in both a and b, which are merged.
func overlap(a, b []span) uint64 {
	var n uint64
	for len(a) > 0 && len(b) > 0 {
		if start, end := max(a[0].start, b[0].start), min(a[0].end, b[0].end); start < end {
			n += end - start
		}
		if a[0].end < b[0].end {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return n
}

// length returns how many addresses merged spans hold.
func length(list []span) uint64 {
	var n uint64
	for _, s := range list {
		n += s.end - s.start
	}
	return n
}
