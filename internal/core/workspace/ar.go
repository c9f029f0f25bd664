package workspace

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// This reads ar files, whose one description is the header <ar.h> of the
// systems: Debian packages (deb(5)) and static libraries, with the long names
// of both System V/GNU and BSD.

const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
)

func readAr(b *builder, src handle) error {
	var longNames []byte
	for off, n := int64(len(arMagic)), 0; off < src.size; n++ {
		if n%1024 == 0 {
			if err := b.proceed(); err != nil {
				return err
			}
		}
		var h [arHeaderSize]byte
		if got, err := src.ReadAt(h[:min(arHeaderSize, src.size-off)], off); got < arHeaderSize {
			if err == nil || errors.Is(err, io.EOF) {
				err = errEnds
			}
			return err
		}
		size, err := strconv.ParseUint(strings.TrimRight(string(h[48:58]), " "), 10, 62)
		if err != nil || string(h[58:]) != "`\n" {
			return fmt.Errorf("what should be a header at offset %d is not", off)
		}
		off += arHeaderSize
		end := off + int64(size)
		there := min(int64(size), src.size-off)
		name := strings.TrimRight(string(h[:16]), " ")
		if n == 0 && name == "debian-binary" || name == "debian-binary/" {
			b.name = "deb"
		}
		switch {
		case name == "/" || name == "/SYM64/" || name == "__.SYMDEF" || name == "__.SYMDEF SORTED":
			name = "" // tables of symbols
		case name == "//":
			longNames, name = make([]byte, min(there, maxExtension)), ""
			if _, err := src.ReadAt(longNames, off); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		case strings.HasPrefix(name, "#1/"):
			var long []byte
			if long, err = bsdName(src, off, there, name[3:]); err != nil {
				return err
			}
			off, there = off+int64(len(long)), there-int64(len(long))
			size -= uint64(len(long))
			if name = cString(long); strings.HasPrefix(name, "__.SYMDEF") {
				name = ""
			}
		case len(name) > 1 && name[0] == '/':
			name = gnuName(longNames, name[1:])
		default:
			name = strings.TrimSuffix(name, "/")
		}
		if name = windowsBase(name); name != "" {
			if err := arMember(b, name, h[40:48], off, there, int64(size)); err != nil {
				return err
			}
		}
		off = end + end&1
	}
	return nil
}

func arMember(b *builder, name string, mode []byte, off, there, size int64) error {
	if there < size {
		b.note(name, "cut off after %d of %d bytes: the archive ends", there, size)
	}
	keep, limit := b.takeBytes(name, there)
	if limit != nil && keep == 0 {
		return limit
	}
	bits, _ := strconv.ParseInt(strings.TrimRight(string(mode), " "), 8, 64)
	err := b.file(member{name: name, mode: unixMode(bits), size: keep, content: section{b.archive.base, off, keep}})
	if err != nil {
		return err
	}
	return limit
}

// windowsBase returns the last part of a path of Windows, which its compilers
// give as the names of members; other names stay as they are.
func windowsBase(name string) string {
	drive := len(name) >= 2 && name[1] == ':' && isLetter(name[0])
	if !drive && !strings.Contains(name, `\`) {
		return name
	}
	base := name
	if drive {
		base = name[2:]
	}
	base = base[strings.LastIndexAny(base, `\/`)+1:]
	if base == "" || base == "." || base == ".." {
		return name
	}
	return base
}

// bsdName reads a name that stands before the content.
func bsdName(src handle, off, there int64, digits string) ([]byte, error) {
	n, err := strconv.ParseUint(digits, 10, 62)
	if err != nil || int64(n) > there || n > maxExtension {
		return nil, fmt.Errorf("the name before offset %d has no valid length", off)
	}
	name := make([]byte, n)
	if _, err := src.ReadAt(name, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return name, nil
}

// gnuName looks up a name in the member that holds the long ones, each ended
// by "/\n".
func gnuName(table []byte, digits string) string {
	at, err := strconv.ParseUint(digits, 10, 62)
	if err != nil || at >= uint64(len(table)) {
		return "/" + digits
	}
	name, _, _ := bytes.Cut(table[at:min(uint64(len(table)), at+2*uint64(Defaults.NameBytes))], []byte("\n"))
	return strings.TrimSuffix(cString(name), "/")
}
