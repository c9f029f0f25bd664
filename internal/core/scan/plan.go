package scan

import (
	"fmt"
	"slices"
)

// Plan orders the scanners that can run into stages. A scanner whose needs
// nobody gives, or that wants files where there are none, is left out; the
// second result names those.
func Plan(scanners []*Scanner, files bool, given []Fact) (stages [][]*Scanner, left []*Scanner, err error) {
	live := feedable(scanners, files, given)
	for _, s := range scanners {
		if !slices.Contains(live, s) {
			left = append(left, s)
		}
	}
	for len(live) > 0 {
		var stage, rest []*Scanner
		for _, s := range live {
			if slices.ContainsFunc(s.Needs, func(f Fact) bool { return givenBy(live, s, f) }) {
				rest = append(rest, s)
			} else {
				stage = append(stage, s)
			}
		}
		if len(stage) == 0 {
			return nil, nil, fmt.Errorf("scan: the scanners %v wait for each other", live)
		}
		stages, live = append(stages, stage), rest
	}
	return stages, left, nil
}

// feedable drops scanners that cannot be fed until nothing changes.
func feedable(scanners []*Scanner, files bool, given []Fact) []*Scanner {
	live := slices.Clone(scanners)
	for {
		next := slices.DeleteFunc(slices.Clone(live), func(s *Scanner) bool {
			return s.File != nil && !files || slices.ContainsFunc(s.Needs, func(f Fact) bool {
				return !slices.Contains(given, f) && !givenBy(live, s, f)
			})
		})
		if len(next) == len(live) {
			return live
		}
		live = next
	}
}

// givenBy reports whether a scanner of the list other than s gives f.
func givenBy(list []*Scanner, s *Scanner, f Fact) bool {
	return slices.ContainsFunc(list, func(o *Scanner) bool { return o != s && slices.Contains(o.Gives, f) })
}
