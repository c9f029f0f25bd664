package code

import (
	"cmp"
	"slices"
)

// sortBy sorts a list by a number that each of its elements has; those with the
// same one stay in their order. It counts rather than compares: 11 bits at a
// time, the lowest first, without those in which the numbers do not differ.
func sortBy[T any](list []T, key func(*T) uint64) {
	const (
		digit = 11
		few   = 64 // elements, up to which comparing costs less
	)
	if len(list) <= few {
		slices.SortStableFunc(list, func(a, b T) int { return cmp.Compare(key(&a), key(&b)) })
		return
	}
	var differ uint64
	sorted := true
	last := key(&list[0])
	for i := range list {
		k := key(&list[i])
		differ |= k ^ last
		sorted = sorted && k >= last
		last = k
	}
	if sorted {
		return
	}
	from, to := list, make([]T, len(list))
	var places [1 << digit]int32
	for shift := 0; differ>>shift != 0; shift += digit {
		if differ>>shift&(1<<digit-1) == 0 {
			continue
		}
		clear(places[:])
		for i := range from {
			places[key(&from[i])>>shift&(1<<digit-1)]++
		}
		n := int32(0)
		for i, count := range places {
			places[i] = n
			n += count
		}
		for i := range from {
			place := &places[key(&from[i])>>shift&(1<<digit-1)]
			to[*place] = from[i]
			*place++
		}
		from, to = to, from
	}
	if &from[0] != &list[0] {
		copy(list, from)
	}
}

// addrOf is what references are sorted by as a rule.
func addrOf(r *Ref) uint64 { return r.Addr }
