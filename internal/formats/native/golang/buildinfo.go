package golang

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

var (
	// buildMagic opens the build information, at a multiple of 16 bytes.
	buildMagic = []byte("\xff Go buildinf:")
	// The go command puts module information between these two marks, so that
	// it can be found without the header.
	moduleStart = []byte("\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6")
	moduleEnd   = []byte("\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2")
)

const (
	maxBuildInfo = 16 << 20 // bytes; the largest programs have some hundred KB
	maxModules   = 20000
	maxNotes     = 20
)

// readBuild fills in what the build information says and reports whether there
// is any. The layout is that of package debug/buildinfo: 14 bytes of magic,
// pointer size, flags, then either pointers to two strings (before Go 1.18) or
// the strings themselves, each with its length in front.
func (i *Info) readBuild(m *image.Image) bool {
	version, text, found := findBuildInfo(m)
	if found {
		i.Version = version
	}
	text, ok := cutMarks(text)
	if !ok {
		text, ok = findMarks(m)
	}
	if ok {
		i.readModules(text)
	}
	return found || ok
}

func findBuildInfo(m *image.Image) (version string, text []byte, found bool) {
	for _, name := range []string{".go.buildinfo", "__DATA,__go_buildinfo"} {
		if s := m.Section(name); s != nil {
			if version, text, found = searchBuildInfo(m, m.Bytes(s)); found {
				return version, text, true
			}
		}
	}
	if m.Format == image.Wasm {
		return searchBuildInfo(m, section(m, "data"))
	}
	for region := range dataRegions(m) {
		if version, text, found = searchBuildInfo(m, region); found {
			return version, text, true
		}
	}
	return "", nil, false
}

// searchBuildInfo looks for the header in region. It is aligned to 16 bytes in
// memory; regions of the file need not be, so that is not asked for.
func searchBuildInfo(m *image.Image, region []byte) (version string, text []byte, found bool) {
	for range maxAttempts {
		n := indexBy(region, buildMagic, 2)
		if n < 0 {
			return "", nil, false
		}
		region = region[n:]
		if version, text, ok := decodeBuildInfo(m, region); ok {
			return version, text, true
		}
		region = region[len(buildMagic):]
	}
	return "", nil, false
}

// indexBy returns where a mark first stands in data, or -1. It looks for the
// mark from its nth byte on: one that is rarer in code than the first, so that
// few places have to be looked at.
func indexBy(data, mark []byte, n int) int {
	for at := n; at <= len(data); {
		i := cursor.Index(data[at:], mark[n:])
		if i < 0 {
			break
		}
		if at += i; bytes.HasPrefix(data[at-n:], mark[:n]) {
			return at - n
		}
		at++
	}
	return -1
}

func decodeBuildInfo(m *image.Image, b []byte) (version string, text []byte, ok bool) {
	const (
		header    = 32
		bigEndian = 1
		inline    = 2
	)
	if len(b) < header {
		return "", nil, false
	}
	pointer, flags := b[14], b[15]
	if flags&inline != 0 {
		v, rest := prefixed(b[header:])
		text, _ = prefixed(rest)
		version = string(v)
		return version, text, plausible(version)
	}
	if pointer != 4 && pointer != 8 {
		return "", nil, false
	}
	c := cursor.New(b, flags&bigEndian != 0).Seek(16)
	at, modules := c.Word(pointer == 8), c.Word(pointer == 8)
	version = string(goString(m, at, pointer == 8, flags&bigEndian != 0, 256))
	text = goString(m, modules, pointer == 8, flags&bigEndian != 0, maxBuildInfo)
	return version, text, plausible(version)
}

// plausible tells a version from the magic's occurrence in a program that
// reads build information itself.
func plausible(version string) bool {
	return len(version) >= 2 && len(version) <= 256 && printable([]byte(version)) &&
		(strings.HasPrefix(version, "go") || strings.HasPrefix(version, "devel"))
}

// prefixed cuts a string with a varint length off the front of b.
func prefixed(b []byte) (s, rest []byte) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > maxBuildInfo {
		return nil, nil
	}
	s, ok := cursor.Slice(b, uint64(size), n)
	if !ok {
		return nil, nil
	}
	return s, b[size+len(s):]
}

// goString reads the string whose header (pointer, length) is at addr.
func goString(m *image.Image, addr uint64, wide, big bool, limit uint64) []byte {
	c := cursor.New(m.At(addr), big)
	at, n := c.Word(wide), c.Word(wide)
	if c.Err() != nil || n > limit {
		return nil
	}
	s, ok := cursor.Slice(m.At(at), 0, n)
	if !ok {
		return nil
	}
	return s
}

// cutMarks takes the marks off module information that is whole.
func cutMarks(text []byte) ([]byte, bool) {
	if len(text) >= 33 && text[len(text)-17] == '\n' {
		return text[16 : len(text)-16], true
	}
	return nil, false
}

// findMarks looks for module information by its marks alone: some build
// systems link without the header that the go command asks for.
func findMarks(m *image.Image) ([]byte, bool) {
	for region := range dataRegions(m) {
		for range maxAttempts {
			n := indexBy(region, moduleStart, 4)
			if n < 0 {
				break
			}
			region = region[n+len(moduleStart):]
			end := cursor.Index(region[:min(len(region), maxBuildInfo)], moduleEnd)
			if end < 0 {
				break
			}
			if end > 0 && region[end-1] == '\n' {
				return region[:end], true
			}
		}
	}
	return nil, false
}

// readModules reads the lines of module information, as package runtime/debug
// prints them: a word, a tab, fields between tabs.
func (i *Info) readModules(text []byte) {
	var last *Module
	bad := 0
	for line := range bytes.Lines(text) {
		kind, rest, _ := strings.Cut(strings.TrimRight(string(line[:min(len(line), 1<<16)]), "\n"), "\t")
		switch kind {
		case "path":
			i.Path = rest
		case "mod":
			i.Main = module(rest)
			last = &i.Main
		case "dep":
			if len(i.Deps) >= maxModules {
				i.notef("more than %d modules: the others are left out", maxModules)
				return
			}
			i.Deps = append(i.Deps, module(rest))
			last = &i.Deps[len(i.Deps)-1]
		case "=>":
			if last == nil {
				bad++
				continue
			}
			by := module(rest)
			last.Replace = &by
		case "build":
			s, ok := setting(rest)
			if !ok || len(i.Settings) >= maxModules {
				bad++
				continue
			}
			i.Settings = append(i.Settings, s)
		case "":
		default:
			bad++
		}
	}
	if bad > 0 {
		i.notef("%d lines of the Go build information could not be read", bad)
	}
}

func module(fields string) Module {
	path, rest, _ := strings.Cut(fields, "\t")
	version, sum, _ := strings.Cut(rest, "\t")
	return Module{Path: path, Version: version, Sum: strings.TrimSuffix(sum, "\t")}
}

// setting reads key=value, either of which may be quoted.
func setting(s string) (Setting, bool) {
	key, value, ok := strings.Cut(s, "=")
	if strings.HasPrefix(s, `"`) || strings.HasPrefix(s, "`") {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return Setting{}, false
		}
		key, _ = strconv.Unquote(quoted)
		value, ok = strings.CutPrefix(s[len(quoted):], "=")
	}
	if !ok || key == "" {
		return Setting{}, false
	}
	if strings.HasPrefix(value, `"`) || strings.HasPrefix(value, "`") {
		unquoted, err := strconv.Unquote(value)
		if err != nil {
			return Setting{}, false
		}
		value = unquoted
	}
	return Setting{key, value}, true
}

// notef records what could not be read, once.
func (i *Info) notef(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if len(i.Notes) < maxNotes && !slices.Contains(i.Notes, note) {
		i.Notes = append(i.Notes, note)
	}
}
