// Package ar reads the members of Unix archives, the format of static
// libraries (.a, .lib) and Debian packages, in the flavours of GNU, BSD and
// COFF.
//
// It refuses to read symbol indexes, which are a hint for linkers, and to open
// the files that a thin archive only names.
package ar

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

const (
	magic      = "!<arch>\n"
	thinMagic  = "!<thin>\n"
	headerSize = 60 // bytes: name 16, date 12, uid 6, gid 6, mode 8, size 10, end mark 2

	maxMembers = 1 << 20
	maxName    = 1 << 12 // bytes
	maxNotes   = 20
)

// A Member is one file of an archive. Its name is as the archive states it: it
// may hold slashes or dots and names nothing on the host.
type Member struct {
	Name   string
	Offset int64  // of Data in the archive
	Data   []byte // shares memory with the archive
}

// Is says whether head, the first bytes of a file, starts an archive.
func Is(head []byte) bool {
	return bytes.HasPrefix(head, []byte(magic)) || bytes.HasPrefix(head, []byte(thinMagic))
}

// Members returns the members of an archive in the order of the file, without
// symbol indexes and tables of names, and notes on what could not be read. A
// member cut off by the end of the file has the bytes that are there.
//
// The format is that of ar(5) in FreeBSD and of "System V ABI, Edition 4.1",
// chapter 7, with the special members of "PE Format", Archive (Library) File
// Format.
func Members(data []byte) ([]Member, []string) {
	r := &reader{data: data}
	if !Is(data) {
		r.note("no archive magic")
		return nil, r.notes
	}
	r.thin = bytes.HasPrefix(data, []byte(thinMagic))
	if r.thin {
		r.note("thin archive: its members are separate files that it names")
	}
	for r.off = len(magic); r.off < len(data) && len(r.members) < maxMembers; {
		if !r.member() {
			break
		}
	}
	if len(r.members) == maxMembers && r.off < len(data) {
		r.note("more than %d members; the rest is not read", maxMembers)
	}
	return r.members, r.notes
}

type reader struct {
	data    []byte
	off     int
	thin    bool
	names   string // GNU and COFF table of long names, the member "//"
	members []Member
	notes   []string
}

func (r *reader) note(format string, args ...any) {
	if len(r.notes) < maxNotes {
		r.notes = append(r.notes, fmt.Sprintf(format, args...))
	}
}

// member reads the member at r.off, moves behind it, and says whether there
// can be another one.
func (r *reader) member() bool {
	start := r.off
	if len(r.data)-start < headerSize {
		if len(bytes.Trim(r.data[start:], "\n\x00")) > 0 {
			r.note("%d bytes at offset %d are too few for a member header", len(r.data)-start, start)
		}
		return false
	}
	header := r.data[start : start+headerSize]
	if string(header[58:60]) != "`\n" {
		r.note("no member header at offset %d", start)
		return false
	}
	size, err := strconv.ParseUint(strings.TrimRight(string(header[48:58]), " "), 10, 63)
	if err != nil {
		r.note("member at offset %d: size %q is not a number", start, header[48:58])
		return false
	}
	field := strings.TrimRight(string(header[:16]), " ")
	body := start + headerSize
	if r.thin && !special(field) {
		r.off = body
		r.add(r.longName(field), body, nil)
		return true
	}
	content := r.data[body:]
	if size > uint64(len(content)) {
		r.note("member at offset %d: %d of %d bytes are there", start, len(content), size)
	} else {
		content = content[:size:size]
	}
	r.off = body + len(content) + len(content)&1

	switch {
	case field == "//":
		r.names = string(content) // once, so that names share it
	case special(field):
	case strings.HasPrefix(field, "#1/"):
		r.bsdMember(field, body, content)
	default:
		r.add(r.longName(field), body, content)
	}
	return true
}

// special says whether a name field stands for a table rather than a file:
// indexes of symbols ("/" twice in COFF, "/SYM64/", ARM64EC's "/<ECSYMBOLS>/",
// XFG's "/<XFGHASHMAP>/") and names ("//").
func special(field string) bool {
	switch field {
	case "/", "//", "/SYM64/", "/<ECSYMBOLS>/", "/<XFGHASHMAP>/":
		return true
	}
	return isIndex(field)
}

func isIndex(name string) bool {
	return name == "__.SYMDEF" || name == "__.SYMDEF SORTED" || name == "__.SYMDEF_64" || name == "__.SYMDEF_64 SORTED"
}

// bsdMember adds a member whose name, of the length in its field, stands in
// front of its bytes.
func (r *reader) bsdMember(field string, body int, content []byte) {
	n, err := strconv.ParseUint(field[3:], 10, 31)
	if err != nil || n > maxName || n > uint64(len(content)) {
		r.note("member at offset %d: name of length %q", body-headerSize, field[3:])
		r.add(field, body, content)
		return
	}
	name := strings.TrimRight(string(content[:n]), "\x00")
	if !isIndex(name) {
		r.add(name, body+int(n), content[n:])
	}
}

// longName resolves a name field: "/123" is an offset in the table of names,
// in which GNU ends names with "/\n" and COFF with a zero; "name/" is GNU's way
// to allow blanks at the end.
func (r *reader) longName(field string) string {
	if rest, ok := strings.CutPrefix(field, "/"); ok {
		// A thin archive of archives writes "/offset:origin".
		rest, _, _ = strings.Cut(rest, ":")
		off, err := strconv.ParseUint(rest, 10, 31)
		if err != nil || off >= uint64(len(r.names)) {
			r.note("name %q is not in the table of names", field)
			return field
		}
		name := r.names[off:]
		name = name[:min(len(name), maxName)]
		if end := strings.IndexAny(name, "\n\x00"); end >= 0 {
			name = name[:end]
		}
		return strings.TrimSuffix(name, "/")
	}
	return strings.TrimSuffix(field, "/")
}

func (r *reader) add(name string, off int, content []byte) {
	r.members = append(r.members, Member{Name: name, Offset: int64(off), Data: content})
}
