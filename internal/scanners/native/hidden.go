package native

import (
	"maps"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/formats/native/hidden"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// This file looks for what rules ask for where it does not stand in plain: in
// data that is encoded, and in what code decodes or puts together.

// A secret is a word that may stand encoded, and what asks for it.
type secret struct {
	imported bool  // name of a function
	literals []int // of the rules
}

// telling are words that no rule asks for, whose encoding tells something
// nevertheless.
var telling = []string{
	"http://", "https://", "/bin/sh", "/bin/bash", "cmd.exe", "powershell", "LoadLibraryA", "LoadLibraryW", "GetProcAddress", "GetModuleHandleA",
	"kernel32.dll", "ntdll.dll", "ws2_32.dll", "wininet.dll", "winhttp.dll", "advapi32.dll", "user32.dll", "libc.so.6", "User-Agent", "Mozilla/5.0",
	"dlopen", "/etc/passwd", "/proc/self", "Software\\Microsoft\\Windows", "CurrentVersion\\Run", "pthread_create", "mprotect", "VirtualProtect", "VirtualAlloc",
}

// secrets returns the finder of encoded words, and what asks for each word. It
// is made once somebody asks: every start of the program would wait for it.
func (set *ruleset) secrets() (*hidden.Finder, []secret) {
	set.makeSecrets.Do(func() {
		index := map[string]int{}
		var words []string
		word := func(w string) *secret {
			i, ok := index[w]
			if !ok {
				i = len(words)
				index[w] = i
				words = append(words, w)
				set.secretList = append(set.secretList, secret{})
			}
			return &set.secretList[i]
		}
		for _, name := range slices.Sorted(maps.Keys(set.imports.exact)) {
			word(name).imported = true
		}
		worth := set.hideable()
		for i, l := range set.literals {
			if l.text && worth[i] {
				w := word(l.bytes)
				w.literals = append(w.literals, i)
			}
		}
		for _, t := range telling {
			word(t)
		}
		set.secretFinder = hidden.New(words)
		set.secretWords = words
	})
	return set.secretFinder, set.secretList
}

// A disclosed word is one that was found encoded.
type disclosed struct {
	word    int
	text    string // the run around it, decoded
	how     string
	place   uint64   // address of the encoded bytes; 0 if code makes them up
	uses    []uint64 // places in code
	alone   bool
	encoded bool // and not only put together
	hit     hit
}

const (
	mostHidden   = 4 << 20   // bytes of data of one binary that are searched
	mostDeep     = 128 << 10 // those that are searched for all ways to encode
	mostEntropy  = 7.6       // bits per byte, from which on data is compressed or encrypted as a whole
	mostTakeover = 64        // encoded names of one binary that count as imports
)

// hideable returns the literals that somebody may want to hide: those of rules
// about cryptography are constants, which compilers put together in odd ways.
func (set *ruleset) hideable() map[int]bool {
	out := map[int]bool{}
	var gather func(c *condition)
	gather = func(c *condition) {
		for _, l := range c.literals {
			out[l] = true
		}
		for i := range c.children {
			gather(&c.children[i])
		}
	}
	for i := range set.rules {
		if set.rules[i].behavior != inventory.Crypto {
			gather(&set.rules[i].when)
		}
	}
	return out
}

// unhide adds what is encoded to the hits of literals and to the imports.
func (s *subject) unhide() {
	finder, secrets := s.set.secrets()
	s.disclosed = slices.Concat(s.hiddenInData(finder), s.hiddenInCode(finder))
	names := map[string]*imported{}
	for _, d := range s.disclosed {
		for _, l := range secrets[d.word].literals {
			if len(s.hits[l]) < maxHits && (!s.set.literals[l].word || d.alone) {
				s.hits[l] = append(s.hits[l], d.hit)
			}
		}
		if secrets[d.word].imported && d.alone {
			name := s.set.secretWords[d.word]
			one := names[name]
			if one == nil {
				one = &imported{name: name, how: d.how, source: fromHidden, used: true, place: d.place}
				names[name] = one
			}
			one.own = append(one.own, d.uses...)
		}
	}
	if len(names) < 2 && !s.asksByName() || len(names) > mostTakeover {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s.importIndex[name] = append(s.importIndex[name], len(s.imports))
		s.imports = append(s.imports, *names[name])
	}
}

// asksByName reports whether a binary can get at a function by its name.
func (s *subject) asksByName() bool {
	if s.bin.Linkage != image.Dynamic {
		return true
	}
	return slices.ContainsFunc(s.imports, func(i imported) bool {
		_, asks := asking[i.name]
		return asks || i.name == "LdrGetProcedureAddress" || i.name == "LdrGetProcedureAddressForCaller"
	})
}

// hiddenInData searches the sections that hold data of the program.
func (s *subject) hiddenInData(finder *hidden.Finder) []disclosed {
	var out []disclosed
	left, deep := uint64(mostHidden), uint64(mostDeep)
	add := func(from uint64, finds []hidden.Find) {
		for _, f := range finds {
			h := hit{offset: from + uint64(f.Offset), size: uint64(f.Size), text: f.Decoded, how: f.How}
			d := disclosed{word: f.Word, text: f.Decoded, how: f.How, alone: f.Alone, encoded: true, hit: h}
			if slices.ContainsFunc(out, func(o disclosed) bool { return o.word == d.word && o.hit.offset == h.offset }) {
				continue
			}
			if sec := s.sectionAt(h.offset); sec != nil && sec.Addr != 0 {
				d.place = sec.Addr + h.offset - sec.Offset
				d.uses = s.program.usesOf(d.place, true)
				// What stands right beside it was encoded in another way, and is no part of it.
				d.alone = d.alone || s.program.DataRefs(d.place, d.place+1).Len() > 0
			}
			out = append(out, d)
		}
	}
	for _, part := range s.dataParts() {
		part.Size = min(part.Size, left)
		left -= part.Size
		if part.Size <= deep {
			deep -= part.Size
			add(part.Offset, finder.Scan(s.bin.Data[part.Offset:part.Offset+part.Size]))
			continue
		}
		add(part.Offset, finder.Glance(s.bin.Data[part.Offset:part.Offset+part.Size]))
		for _, named := range s.named(part, deep) {
			deep -= named.Size
			add(named.Offset, finder.Scan(s.bin.Data[named.Offset:named.Offset+named.Size]))
		}
	}
	return out
}

// What stands around an address that code names, in bytes.
const (
	aroundBefore = 64
	aroundBehind = 448
)

// named returns what own code names of a part of the file, with what is around
// it, up to most bytes.
func (s *subject) named(part image.Range, most uint64) []image.Range {
	sec := s.sectionAt(part.Offset)
	if sec == nil || sec.Addr == 0 {
		return nil
	}
	var out []image.Range
	last := uint64(0)
	for _, r := range s.program.DataRefs(sec.Addr, sec.Addr+part.Size).All() {
		if r.Target == last && len(out) > 0 || !s.program.isOwn(r.Addr) {
			continue
		}
		last = r.Target
		at := part.Offset + r.Target - sec.Addr
		from, to := max(part.Offset, at-min(at, aroundBefore)), min(at+aroundBehind, part.Offset+part.Size)
		if n := len(out); n > 0 && out[n-1].Offset+out[n-1].Size >= from {
			from = out[n-1].Offset + out[n-1].Size
		}
		if from >= to {
			continue
		}
		if most < to-from {
			break
		}
		most -= to - from
		if n := len(out); n > 0 && out[n-1].Offset+out[n-1].Size == from {
			out[n-1].Size += to - from
		} else {
			out = append(out, image.Range{Offset: from, Size: to - from})
		}
	}
	return out
}

// dataParts returns where a program's own data lies in the file: not its code,
// nor the tables of the loader, nor what is compressed.
func (s *subject) dataParts() []image.Range {
	size := uint64(len(s.bin.Data))
	var out []image.Range
	for i := range s.bin.Sections {
		sec := &s.bin.Sections[i]
		if sec.Code || sec.Access == 0 || sec.FileSize == 0 || sec.Offset >= size || loaders(sec.Name) || s.bin.Entropy(i) >= mostEntropy {
			continue
		}
		out = append(out, image.Range{Offset: sec.Offset, Size: min(sec.FileSize, size-sec.Offset)})
	}
	if len(s.bin.Sections) > 0 {
		return out
	}
	return s.mapped()
}

// loaders reports whether a section is a table that linkers make for loaders.
func loaders(name string) bool {
	if _, section, ok := strings.Cut(name, ","); ok {
		name = section
	}
	return slices.ContainsFunc([]string{
		".eh_frame", ".gcc_except", ".dyn", ".rel", ".gnu.", ".hash", ".plt", ".got", ".init_array", ".fini_array", ".note", ".interp", ".pdata",
		".xdata", ".gopclntab", ".gosymtab", ".typelink", ".itablink", "__unwind_info", "__eh_frame", "__gcc_except", "__got", "__la_symbol", "__stub", "__gopclntab",
		".idata", ".edata", ".debug", "__objc_meth", "__swift5", ".symtab", ".strtab", ".ARM.ex", ".sdata2",
	}, func(p string) bool { return strings.HasPrefix(name, p) })
}

// matchEncoded returns the texts that are encoded, each once.
func (s *subject) matchEncoded(c *condition) []proof {
	seen := map[string]bool{}
	var out []proof
	for i := range s.disclosed {
		d := &s.disclosed[i]
		if !d.encoded || seen[d.text] || !c.names.match(s.set.secretWords[d.word]) || len(out) == maxMatched {
			continue
		}
		seen[d.text] = true
		e := finding.NewEvidence("encoded string", d.text)
		e.From, e.Address = d.how, address(d.place)
		out = append(out, proof{e, d.uses})
	}
	return out
}

// hiddenInCode searches what own code puts together.
func (s *subject) hiddenInCode(finder *hidden.Finder) []disclosed {
	var out []disclosed
	for _, t := range finder.Code(s.program.Code, s.program.isOwn, s.takers()) {
		h := hit{size: uint64(len(s.set.secretWords[t.Word])), text: t.Decoded, how: t.How, uses: []uint64{t.Addr}}
		out = append(out, disclosed{word: t.Word, text: t.Decoded, how: t.How, uses: h.uses, alone: t.Alone, encoded: t.Encoded, hit: h})
	}
	return out
}

// takers returns the places in own code that use a function which rules ask for,
// or which gives others by their name: where decoded texts go.
func (s *subject) takers() []uint64 {
	out := []uint64{}
	for i := range s.imports {
		one := &s.imports[i]
		if len(one.own) == 0 {
			continue
		}
		if _, asks := asking[one.name]; asks || s.set.asksFor(one.name) {
			out = append(out, one.own...)
		}
	}
	return out
}
