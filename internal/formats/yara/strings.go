package yara

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// A str is a string of a rule, ready to be looked for.
type str struct {
	name    string // without a number if it is anonymous
	private bool
	slots   []int // where its matches are collected: one for each part
	gaps    []gap // between the parts
}

// A slot collects the matches of a string, or of a part of one.
type slot struct {
	fullword bool
	longest  bool // of several matches at one place the longest counts, else the shortest
	fixed    bool // only the match at one offset counts
	offset   int64
}

// A unit is one form of a string that is looked for: as it is, wide, with one
// key of xor, with one alignment of Base64. It has either one of the three
// sequences or two programs.
type unit struct {
	slot int
	wide bool

	exact []byte
	fold  []byte // in small letters: case does not count
	sets  []byteSet

	fwd, bwd *automaton
	runs     []run // around each atom

	atoms []atom
}

// A run is the bytes around an atom of a program. Where they are not there, the
// program need not run.
type run struct {
	sets  []byteSet
	first int // where the atom begins
}

// fits reports whether the run stands around the atom at a position.
func (r *run) fits(data []byte, pos int) bool {
	pos -= r.first
	if pos < 0 || len(data)-pos < len(r.sets) {
		return false
	}
	for i := range r.sets {
		if !r.sets[i].has(data[pos+i]) {
			return false
		}
	}
	return true
}

// A draft collects what the strings of one rule need, so that a rule that is
// refused leaves nothing behind. Its slots count from zero.
type draft struct {
	strings []str
	slots   []slot
	units   []unit
}

// maxStrings bounds the strings of a rule, as YARA does by default.
const maxStrings = 10_000

func (d *draft) add(s *stringSource) error {
	m, err := modifiersOf(s)
	if err != nil {
		return err
	}
	out := str{name: s.name, private: m.private}
	if s.name[1:] != "" && s.name[1] == ' ' {
		out.name = "$"
	}
	switch s.value.kind {
	case tokText:
		out.slots = []int{d.slot(slot{fullword: m.fullword})}
		err = d.text(s.value.text, m)
	case tokRegex:
		err = d.regex(&out, s, m)
	case tokHex:
		err = d.hex(&out, s)
	}
	d.strings = append(d.strings, out)
	return err
}

// fix says that of the string that was added last only one offset is asked.
// Then it is not looked for elsewhere, nor shown: so does YARA.
func (d *draft) fix(offset int64) {
	if s := d.strings[len(d.strings)-1]; len(s.slots) == 1 {
		d.slots[s.slots[0]].fixed, d.slots[s.slots[0]].offset = true, offset
	}
}

func (d *draft) slot(s slot) int {
	d.slots = append(d.slots, s)
	return len(d.slots) - 1
}

// modifiers are the words after a string.
type modifiers struct {
	nocase, wide, ascii, fullword, private bool
	xor, base64, base64wide                *modifier
}

// allowed are the modifiers of each kind of string.
var allowed = map[tokenKind][]string{
	tokText:  modifierNames,
	tokRegex: {"nocase", "wide", "ascii", "fullword", "private"},
	tokHex:   {"private"},
}

func modifiersOf(s *stringSource) (m modifiers, err error) {
	seen := map[string]bool{}
	for i := range s.mods {
		name := s.mods[i].name
		if !slices.Contains(allowed[s.value.kind], name) {
			return m, fmt.Errorf("%s does not go with %v", name, s.value)
		}
		if seen[name] {
			return m, fmt.Errorf("%s is there twice", name)
		}
		seen[name] = true
		switch name {
		case "xor":
			m.xor = &s.mods[i]
		case "base64":
			m.base64 = &s.mods[i]
		case "base64wide":
			m.base64wide = &s.mods[i]
		}
	}
	m.nocase, m.wide, m.ascii, m.fullword, m.private = seen["nocase"], seen["wide"], seen["ascii"], seen["fullword"], seen["private"]
	encoded := m.base64 != nil || m.base64wide != nil
	switch {
	case m.xor != nil && m.nocase, m.xor != nil && encoded:
		return m, errors.New("xor goes with neither nocase nor base64")
	case encoded && (m.nocase || m.fullword):
		return m, errors.New("base64 goes with neither nocase nor fullword")
	case m.xor != nil && m.xor.from > m.xor.to:
		return m, errors.New("the range of xor runs backwards")
	}
	m.ascii = m.ascii || !m.wide
	return m, nil
}

func (d *draft) text(text string, m modifiers) error {
	if text == "" {
		return errors.New("it is empty")
	}
	for _, wide := range []bool{false, true} {
		if wide && !m.wide || !wide && !m.ascii {
			continue
		}
		form := []byte(text)
		if wide {
			form = widen(form)
		}
		switch {
		case m.base64 != nil || m.base64wide != nil:
			if err := d.encoded(form, m); err != nil {
				return err
			}
		case m.xor != nil:
			for key := m.xor.from; key <= m.xor.to; key++ {
				hidden := make([]byte, len(form))
				for i, c := range form {
					hidden[i] = c ^ byte(key)
				}
				if err := d.literal(hidden, wide, false); err != nil {
					return err
				}
			}
		default:
			if err := d.literal(form, wide, m.nocase); err != nil {
				return err
			}
		}
	}
	return nil
}

// widen writes each byte with a zero after it.
func widen(text []byte) []byte {
	out := make([]byte, 0, 2*len(text))
	for _, c := range text {
		out = append(out, c, 0)
	}
	return out
}

// encoded adds what is the same in every Base64 text that holds form: one text
// for each of the three ways in which it can lie among groups of three bytes,
// without the characters that depend on its neighbours.
func (d *draft) encoded(form []byte, m modifiers) error {
	if len(form) < 3 {
		return errors.New("base64 wants at least three characters")
	}
	for _, mod := range []*modifier{m.base64, m.base64wide} {
		if mod == nil {
			continue
		}
		enc := base64.StdEncoding
		if mod.args {
			if !alphabet(mod.alphabet) {
				return errors.New("the alphabet of base64 does not have 64 different characters")
			}
			enc = base64.NewEncoding(mod.alphabet)
		}
		for lead := range 3 {
			text := enc.WithPadding(base64.NoPadding).EncodeToString(append(make([]byte, lead), form...))
			from, to := 0, len(text)
			if lead > 0 {
				from = lead + 1
			}
			if (lead+len(form))%3 > 0 {
				to--
			}
			part := []byte(text[from:to])
			if mod == m.base64wide {
				part = widen(part)
			}
			if err := d.literal(part, false, false); err != nil {
				return err
			}
		}
	}
	return nil
}

func alphabet(text string) bool {
	seen := map[byte]bool{}
	for _, c := range []byte(text) {
		if c == '\n' || c == '\r' || c == '=' {
			return false // which the encoding of package base64 refuses
		}
		seen[c] = true
	}
	return len(text) == 64 && len(seen) == 64
}

// literal adds bytes that belong to the slot that was made last.
func (d *draft) literal(text []byte, wide, nocase bool) error {
	p := &pattern{kind: patCat}
	for _, c := range text {
		set := setOf(c)
		if nocase {
			set = set.fold()
		}
		p.kids = append(p.kids, &pattern{kind: patByte, set: set})
	}
	return d.pattern(p, wide)
}

func (d *draft) regex(out *str, s *stringSource, m modifiers) error {
	p, greedy, err := parseRegex(s.value.text, s.value.mods, m.nocase)
	if err != nil {
		return err
	}
	out.slots = []int{d.slot(slot{fullword: m.fullword, longest: greedy})}
	for _, wide := range []bool{false, true} {
		if wide && !m.wide || !wide && !m.ascii {
			continue
		}
		form, err := p.plain(wide)
		if err == nil {
			err = d.pattern(form, wide)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *draft) hex(out *str, s *stringSource) error {
	h, err := parseHex(s.value.text)
	if err != nil {
		return err
	}
	out.gaps = h.gaps
	for _, part := range h.parts {
		out.slots = append(out.slots, d.slot(slot{}))
		form, err := part.plain(false)
		if err == nil {
			err = d.pattern(form, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pattern adds a plain pattern that belongs to the slot that was made last.
func (d *draft) pattern(p *pattern, wide bool) error {
	if p.empty() {
		return errors.New("it can match no bytes at all")
	}
	u := unit{slot: len(d.slots) - 1, wide: wide}
	var err error
	if u.atoms, err = atoms(p); err != nil {
		return err
	}
	if sets, ok := p.sequence(); ok {
		u.sequence(sets)
	} else {
		u.fwd, u.bwd = assemble(p, false), assemble(p, true)
	}
	if u.fwd == nil {
		u.number(p)
	}
	d.units = append(d.units, u)
	return nil
}

// number gives the leaves of a sequence their places in min: atoms of
// sequences need no more.
func (u *unit) number(p *pattern) {
	n := 0
	for _, leaf := range flatten(nil, p) {
		if leaf.kind == patByte {
			leaf.min = n
			n++
		}
	}
}

// sequence keeps sets in the form that compares fastest.
func (u *unit) sequence(sets []byteSet) {
	var exact, fold []byte
	for _, s := range sets {
		var first byte
		for c := range s.all {
			first = c
			break
		}
		if s.size() == 1 {
			exact = append(exact, first)
		}
		if s == setOf(first).fold() {
			fold = append(fold, lower[first])
		}
	}
	switch len(sets) {
	case len(exact):
		u.exact = exact
	case len(fold):
		u.fold = fold
	default:
		u.sets = sets
	}
}

// lower maps letters to their small form.
var lower = lowers()

func lowers() (out [256]byte) {
	for i := range out {
		out[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			out[i] += 'a' - 'A'
		}
	}
	return out
}
