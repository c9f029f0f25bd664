package native

import (
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/skeleton"
)

// A shown is a candidate for the function that a preview shows.
type shown struct {
	severity finding.Severity
	rank     int
	at       uint64 // of evidence in it
}

// better reports whether s tells more than o.
func (s shown) better(o shown) bool {
	if s.severity != o.severity {
		return s.severity > o.severity
	}
	return s.rank > o.rank
}

// candidate returns what a verdict would show, if it has a place in code.
func (v *verdict) candidate(severity finding.Severity) (shown, bool) {
	for _, e := range v.evidence {
		if !inCode(e) {
			continue
		}
		if at, err := strconv.ParseUint(e.Address, 0, 64); err == nil {
			return shown{severity, rank(v.tier), at}, true
		}
	}
	return shown{}, false
}

// preview writes the call skeleton of the function with the weightiest evidence,
// or of the one where the binary is entered.
func (p *program) preview(best *shown) string {
	if !p.Read {
		return ""
	}
	fn := -1
	if best != nil {
		fn = p.rise(p.Func(best.at))
	}
	if fn < 0 {
		fn = p.busiest()
	}
	if fn < 0 {
		fn = skeleton.Telling(p.Code)
	}
	if fn < 0 {
		return ""
	}
	text := skeleton.Write(p.Code, p.values, fn, skeleton.Options{Name: p.namer()})
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = finding.Redact(lines[i])
	}
	return strings.Join(lines, "\n")
}

// namer returns what gives a function's readable name by its address, or nothing.
// The writer of a skeleton asks for the same few names again and again.
func (p *program) namer() func(addr uint64) string {
	names := map[int]string{}
	return func(addr uint64) string {
		fn := p.Func(addr)
		if fn < 0 || p.Functions[fn].Addr != addr || p.Functions[fn].Name == "" {
			return ""
		}
		name, ok := names[fn]
		if !ok {
			name = p.functionName(fn)
			names[fn] = name
		}
		return name
	}
}

// few is how many calls a function makes that says little by itself.
const few = 2

// rise returns the function that calls fn, as long as those say little and are
// called by one function of the binary's own.
func (p *program) rise(fn int) int {
	const steps = 3
	for range steps {
		if fn < 0 || p.calls(fn) >= few {
			break
		}
		up := -1
		for _, r := range p.Callers(fn).All() {
			by := p.Func(r.Addr)
			if by < 0 || by == fn || !p.isOwn(r.Addr) || r.Kind == code.Data {
				continue
			}
			if up >= 0 && up != by {
				return fn
			}
			up = by
		}
		if up < 0 {
			break
		}
		fn = up
	}
	return fn
}

// calls counts the places where a function calls another.
func (p *program) calls(fn int) (n int) {
	for _, r := range p.From(fn) {
		if r.Kind == code.Call || r.Kind == code.Jump || r.Kind == code.Taken && r.Import >= 0 {
			n++
		}
	}
	return n
}

// busiest returns the function of the binary's own that uses the most imports
// and is reached; the one that a host registers the binary with is as good as
// any that uses thrice as many. It returns -1 if none uses any.
func (p *program) busiest() int {
	const head = 3
	best, most := -1, 0
	for fn := range p.Functions {
		if !p.marks[fn].Own() {
			continue
		}
		used := map[int32]bool{}
		for _, r := range p.From(fn) {
			if r.Import >= 0 {
				used[r.Import] = true
			}
		}
		n := len(used)
		if n*head <= most {
			continue
		}
		root, reached := p.Reached(fn)
		if !reached {
			continue
		}
		if root.Kind == code.Registration && root.Addr == p.Functions[fn].Addr {
			n *= head
		}
		if n > most {
			best, most = fn, n
		}
	}
	return best
}
