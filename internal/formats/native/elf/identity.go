package elf

import (
	"bytes"
	"encoding/hex"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const (
	maxNotes     = 4096    // notes of a file
	maxComment   = 1 << 18 // bytes of .comment
	maxCompilers = 100     // lines of it
	maxBuildID   = 64      // bytes

	noteBuildID = 3
	noteABITag  = 1
)

// readNotes reads the notes of segments and sections (gABI, "Note Section").
func (f *file) readNotes() {
	left := maxNotes
	for i := range f.progs {
		if p := &f.progs[i]; p.typ == progNote {
			f.notesIn(f.programBytes(p), p.alignment, &left)
		}
	}
	for i := range f.sects {
		if s := &f.sects[i]; s.typ == sectNote {
			f.notesIn(f.sectionBytes(s), s.align, &left)
		}
	}
}

func (f *file) notesIn(b []byte, alignment uint64, left *int) {
	align := 4
	if alignment == 8 {
		align = 8
	}
	for c := f.cursor(b); c.Len() >= 12 && *left > 0; *left-- {
		nameSize, descSize, typ := c.U32(), c.U32(), c.U32()
		name := c.Bytes(uint64(nameSize))
		desc := c.Align(align).Bytes(uint64(descSize))
		if c.Err() != nil {
			return
		}
		f.note(string(bytes.TrimRight(name[:min(len(name), 32)], "\x00")), typ, desc)
		if c.Align(align).Err() != nil {
			return
		}
	}
}

// note takes what a note says about identity and operating system.
func (f *file) note(owner string, typ uint32, desc []byte) {
	m := f.m
	switch {
	case owner == "GNU" && typ == noteBuildID && m.BuildID == "":
		m.BuildID = hex.EncodeToString(desc[:min(len(desc), maxBuildID)])
	case f.fromNote != "":
	case owner == "GNU" && typ == noteABITag && len(desc) >= 4:
		systems := []string{"linux", "hurd", "solaris", "freebsd", "netbsd"}
		if n := f.u32(desc); n < uint32(len(systems)) {
			f.fromNote = systems[n]
		}
	case owner == "Android" && typ == 1:
		f.fromNote = "android"
	case owner == "LINUX" && f.typ == typeCore:
		f.fromNote = "linux"
	case owner == "FreeBSD", owner == "NetBSD", owner == "OpenBSD", owner == "DragonFly":
		f.fromNote = strings.ToLower(owner)
	}
}

// describe settles what the file is, from everything read before.
func (f *file) describe() {
	m := f.m
	d := &f.dynamic
	m.Entry = f.codeAddr(f.entry)
	if b := f.programBytes(f.program(progInterp)); len(b) > 0 {
		b = b[:min(len(b), maxInterpreter)]
		b, _, _ = bytes.Cut(b, []byte{0})
		m.Interp = string(b)
	}
	// libc.so.6 can be run, and is a library all the same: it has a name.
	if f.typ == typeDyn && (d.values[tagFlags1]&flag1PIE != 0 || m.Interp != "" && m.Name == "") {
		m.Kind = image.Executable
	}
	if f.typ == typeRel && f.sectionNamed(".gnu.linkonce.this_module") != nil {
		m.Kind = image.Driver
	}
	m.OS = f.system()
	switch {
	case f.typ == typeRel || f.typ == typeCore:
	case m.Interp != "" || len(m.Libraries) > 0:
		m.Linkage = image.Dynamic
	case m.Kind == image.Executable && f.typ == typeDyn:
		m.Linkage = image.StaticPIE
	case m.Kind == image.Executable:
		m.Linkage = image.Static
	}
	comment := f.sectionBytes(f.sectionNamed(".comment"))
	for line := range bytes.SplitSeq(comment[:min(len(comment), maxComment)], []byte{0}) {
		text := strings.ToValidUTF8(string(line[:min(len(line), 256)]), "\ufffd")
		if text != "" && !slices.Contains(m.Compilers, text) && len(m.Compilers) < maxCompilers {
			m.Compilers = append(m.Compilers, text)
		}
	}
	// Linux, "Kernel module signing facility"
	m.Signed = bytes.HasSuffix(f.data, []byte("~Module signature appended~\n"))
}

// system names the operating system: as a note says it, as the identification
// does, or as the loader and the C library betray it.
func (f *file) system() string {
	if f.fromNote != "" {
		return f.fromNote
	}
	abis := map[uint8]string{ // gABI, "ELF Identification": EI_OSABI
		1: "hpux", 2: "netbsd", 6: "solaris", 7: "aix", 8: "irix", 9: "freebsd", 10: "tru64",
		12: "openbsd", 13: "openvms", 14: "nsk", 15: "aros", 16: "fenixos", 17: "cloudabi",
	}
	if name := abis[f.osabi]; name != "" {
		return name
	}
	if name := systemOfLoader(f.m.Interp); name != "" {
		return name
	}
	for _, i := range slices.Sorted(maps.Keys(f.needs)) {
		if name := systemOfVersion(f.needs[i]); name != "" {
			return name
		}
	}
	for _, name := range f.m.Libraries {
		switch {
		case name == "libc.so.6", strings.HasPrefix(name, "libc.musl-"), strings.HasPrefix(name, "ld-linux"), strings.HasPrefix(name, "ld-musl"):
			return "linux"
		case name == "liblog.so", name == "libandroid.so":
			return "android"
		}
	}
	// musl under its own name, beside the C++ runtime of GCC
	if slices.Contains(f.m.Libraries, "libc.so") &&
		(slices.Contains(f.m.Libraries, "libgcc_s.so.1") || slices.Contains(f.m.Libraries, "libstdc++.so.6")) {
		return "linux"
	}
	const osabiGNU = 3
	if f.osabi == osabiGNU || f.m.Kind == image.Driver {
		return "linux"
	}
	return ""
}

// systemOfLoader names the system of a program interpreter.
func systemOfLoader(interp string) string {
	base := path.Base(interp)
	switch {
	case interp == "/system/bin/linker", interp == "/system/bin/linker64":
		return "android"
	case strings.HasPrefix(base, "ld-linux"), strings.HasPrefix(base, "ld-musl"), strings.HasPrefix(base, "ld-uClibc"),
		strings.HasPrefix(base, "ld64-uClibc"), strings.HasPrefix(interp, "/lib64/ld64.so."), interp == "/lib/ld64.so.1":
		return "linux"
	case strings.HasSuffix(interp, "/ld-elf.so.1"), strings.HasSuffix(interp, "/ld-elf32.so.1"):
		return "freebsd"
	case strings.HasSuffix(interp, "/ld.elf_so"):
		return "netbsd"
	case interp == "/usr/libexec/ld.so":
		return "openbsd"
	case strings.HasPrefix(interp, "/usr/lib/") && base == "ld.so.1":
		return "solaris"
	}
	return ""
}

// systemOfVersion names the system whose C library has such versions.
func systemOfVersion(n need) string {
	switch {
	case strings.HasPrefix(n.version, "GLIBC_") && n.library == "libc.so.0.3":
		return "hurd"
	case strings.HasPrefix(n.version, "GLIBC_"):
		return "linux"
	case strings.HasPrefix(n.version, "FBSD_"):
		return "freebsd"
	case n.version == "LIBC" && n.library == "libc.so":
		return "android"
	}
	return ""
}
