package yara

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// chainGap is the widest jump that is a part of a pattern. Wider ones cut a
// hexadecimal string into parts, which are looked for on their own.
const chainGap = 200

// A hexString is a hexadecimal string: parts with wide jumps between them.
type hexString struct {
	parts []*pattern
	gaps  []gap // gaps[i] before parts[i+1]
}

// A gap is how many bytes may lie between two parts; no limit if max is
// negative.
type gap struct{ min, max int }

type hexReader struct {
	src       string
	at, depth int
}

// parseHex reads a hexadecimal string (Writing YARA rules, "Hexadecimal
// strings").
func parseHex(src string) (*hexString, error) {
	r := &hexReader{src: src}
	out := &hexString{}
	part := &pattern{kind: patCat}
	for r.at < len(r.src) {
		if r.src[r.at] != '[' {
			one, err := r.item()
			if err != nil {
				return nil, err
			}
			part.kids = append(part.kids, one)
			continue
		}
		g, err := r.jump()
		switch {
		case err != nil:
			return nil, err
		case len(part.kids) == 0 && len(out.parts) == 0 || r.at == len(r.src):
			return nil, errors.New("a jump stands at the beginning or the end")
		case len(part.kids) == 0:
			return nil, errors.New("a jump follows a jump")
		case g.max >= 0 && g.max <= chainGap && g.min <= chainGap:
			part.kids = append(part.kids, g.pattern())
		default:
			out.parts, out.gaps = append(out.parts, part), append(out.gaps, g)
			part = &pattern{kind: patCat}
		}
	}
	if len(part.kids) == 0 {
		return nil, errors.New("it is empty")
	}
	out.parts = append(out.parts, part)
	return out, nil
}

func (g gap) pattern() *pattern {
	return &pattern{kind: patRepeat, kids: []*pattern{{kind: patByte, set: anyByte}}, min: g.min, max: g.max}
}

// item reads a byte, its negation, or alternatives in brackets.
func (r *hexReader) item() (*pattern, error) {
	if r.src[r.at] == '(' {
		return r.alternatives()
	}
	negated := r.src[r.at] == '~'
	if negated {
		r.at++
	}
	if r.at+2 > len(r.src) {
		return nil, errors.New("a byte has only one digit")
	}
	high, ok := nibble(r.src[r.at])
	low, ok2 := nibble(r.src[r.at+1])
	if !ok || !ok2 {
		return nil, fmt.Errorf("unexpected %q", r.src[r.at:r.at+2])
	}
	r.at += 2
	var set byteSet
	for c := range 256 {
		if (high < 0 || c>>4 == high) && (low < 0 || c&15 == low) {
			set.add(byte(c))
		}
	}
	if negated {
		if set = set.not(); set == (byteSet{}) {
			return nil, errors.New("~?? is no byte at all")
		}
	}
	return &pattern{kind: patByte, set: set}, nil
}

// nibble reads a digit; a question mark is -1.
func nibble(c byte) (int, bool) {
	if c == '?' {
		return -1, true
	}
	n, err := strconv.ParseUint(string(rune(c)), 16, 8)
	return int(n), err == nil
}

func (r *hexReader) alternatives() (*pattern, error) {
	if r.depth++; r.depth > maxDepth {
		return nil, fmt.Errorf("alternatives are nested deeper than %d", maxDepth)
	}
	defer func() { r.depth-- }()
	r.at++
	alt := &pattern{kind: patAlt, kids: []*pattern{{kind: patCat}}}
	for r.at < len(r.src) {
		cat := alt.kids[len(alt.kids)-1]
		switch r.src[r.at] {
		case ')', '|':
			if len(cat.kids) == 0 {
				return nil, errors.New("an alternative is empty")
			}
			r.at++
			if r.src[r.at-1] == ')' {
				return alt, nil
			}
			alt.kids = append(alt.kids, &pattern{kind: patCat})
		case '[':
			g, err := r.jump()
			if err != nil {
				return nil, err
			}
			if g.max < 0 || g.max > chainGap {
				return nil, fmt.Errorf("a jump in alternatives is wider than %d", chainGap)
			}
			cat.kids = append(cat.kids, g.pattern())
		default:
			one, err := r.item()
			if err != nil {
				return nil, err
			}
			cat.kids = append(cat.kids, one)
		}
	}
	return nil, errors.New("alternatives do not end")
}

// jump reads [n], [n-m], [n-] or [-].
func (r *hexReader) jump() (g gap, err error) {
	body, _, ok := strings.Cut(r.src[r.at+1:], "]")
	if !ok {
		return g, errors.New("a jump does not end")
	}
	r.at += len(body) + 2
	low, high, pair := strings.Cut(body, "-")
	if !pair {
		high = low
		if low == "" {
			return g, errors.New("a jump is empty")
		}
	}
	g.max = -1
	if low != "" {
		g.min, err = strconv.Atoi(low)
	}
	if high != "" && err == nil {
		g.max, err = strconv.Atoi(high)
	}
	if err != nil || g.max >= 0 && g.min > g.max || g.min > 1<<30 || g.max > 1<<30 {
		return g, fmt.Errorf("the jump [%s] is not possible", body)
	}
	return g, nil
}
