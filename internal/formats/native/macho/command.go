package macho

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Load commands.
const (
	lcSegment        = 0x1
	lcSymtab         = 0x2
	lcUnixThread     = 0x5
	lcDysymtab       = 0xb
	lcLoadDylib      = 0xc
	lcIDDylib        = 0xd
	lcLoadDylinker   = 0xe
	lcIDDylinker     = 0xf
	lcRoutines       = 0x11
	lcLoadWeakDylib  = 0x18 | lcReqDyld
	lcSegment64      = 0x19
	lcRoutines64     = 0x1a
	lcUUID           = 0x1b
	lcRpath          = 0x1c | lcReqDyld
	lcCodeSignature  = 0x1d
	lcSplitInfo      = 0x1e
	lcReexportDylib  = 0x1f | lcReqDyld
	lcLazyLoadDylib  = 0x20
	lcEncryption     = 0x21
	lcDyldInfo       = 0x22
	lcDyldInfoOnly   = 0x22 | lcReqDyld
	lcUpwardDylib    = 0x23 | lcReqDyld
	lcVersionMacOS   = 0x24
	lcVersionIOS     = 0x25
	lcFunctionStarts = 0x26
	lcMain           = 0x28 | lcReqDyld
	lcDataInCode     = 0x29
	lcSourceVersion  = 0x2a
	lcCodeSignDRs    = 0x2b
	lcEncryption64   = 0x2c
	lcOptimization   = 0x2e
	lcVersionTVOS    = 0x2f
	lcVersionWatchOS = 0x30
	lcNote           = 0x31
	lcBuildVersion   = 0x32
	lcExportsTrie    = 0x33 | lcReqDyld
	lcChainedFixups  = 0x34 | lcReqDyld
	lcFilesetEntry   = 0x35 | lcReqDyld
	lcAtomInfo       = 0x36

	lcReqDyld = 0x8000_0000 // the loader must understand it
)

const (
	maxCommands = 1 << 16
	maxString   = 1 << 12 // bytes of a path in a load command
	maxTools    = 100     // that built a file
)

// A file is a thin Mach-O file while it is read.
type file struct {
	*image.Image
	data             []byte
	big, wide        bool
	cpu, kind, flags uint32

	segments []image.Segment // in the order of load commands, which fixups count by
	sections []section       // parallel to Image.Sections, which symbols count by
	dylibs   []string        // in the order of load commands, which ordinals count by
	extent   uint64          // end of the bytes that load commands speak of
	cut      bool            // a note says already that the file is cut off

	symtab, strtab       []byte
	symbols              []symbol // without those for debugging
	names                *names   // of the string table
	indirect             []byte   // indirect symbol table: 32-bit indexes of symbols
	bind, weakBind, lazy []byte   // opcodes of LC_DYLD_INFO
	rebase               []byte
	routines             []uint64 // initialisers that load commands name
	mapped               extents
	trie                 []byte // of exported names
	hasTrie              bool
	chains               []byte // LC_DYLD_CHAINED_FIXUPS
	functionStarts       []byte
	entryOffset          uint64 // LC_MAIN
	hasMain              bool
	filesets             int // entries of LC_FILESET_ENTRY
}

// parseThin reads one Mach-O file that starts at offset in the file around it.
func parseThin(data []byte, offset int64) (*image.Image, error) {
	big, wide, ok := thinMagic(data)
	if !ok {
		return nil, fmt.Errorf("no Mach-O magic")
	}
	c := cursor.New(data, big)
	c.Skip(4)
	cpu, sub, kind := c.U32(), c.U32(), c.U32()
	count, size, flags := c.U32(), c.U32(), c.U32()
	if wide {
		c.U32() // reserved
	}
	if c.Err() != nil {
		return nil, fmt.Errorf("header: %w", c.Err())
	}
	f := &file{
		Image: &image.Image{
			Format: image.MachO, Arch: archName(cpu), Bits: 32, BigEndian: big,
			Kind: kinds[kind], Offset: offset, Data: data,
		},
		data: data, big: big, wide: wide, cpu: cpu, kind: kind, flags: flags,
	}
	if wide {
		f.Bits = 64
	}
	switch {
	case cpu == cpuARM|cpu64 && sub&subtypeMask == subARM64E:
		f.Notef("arm64e: code pointers are signed (pointer authentication)")
	case cpu == cpuARM|cpu64x32:
		f.Notef("arm64_32: 64-bit instructions with 32-bit pointers")
	}
	if f.Kind == "" {
		f.Kind = image.Object
		f.Notef("file type %d is not known", kind)
	}
	f.extent = uint64(c.Offset())
	f.commands(c, count, size)
	f.base()
	f.describe()
	f.readSymbols()
	if f.kind == typeDsym {
		f.Notef("debug symbols of another file, without its code")
	} else {
		f.readExports()
		f.readImports()
		f.readInitializers()
		f.readFunctions()
	}
	f.Finish()
	return f.Image, nil
}

// commands reads the load commands, of which the header states the number and
// the size in bytes.
func (f *file) commands(c *cursor.Cursor, count, size uint32) {
	start := uint64(c.Offset())
	table, whole := cursor.Slice(f.data, start, uint64(size))
	if !whole {
		f.truncated("load commands", start, uint64(size))
	}
	f.extent = start + uint64(len(table))
	c = cursor.New(table, f.big)
	for i := range count {
		if i == maxCommands {
			f.Notef("load commands: more than %d; the rest is not read", maxCommands)
			return
		}
		at := c.Offset()
		cmd, n := c.U32(), uint64(c.U32())
		if c.Err() != nil || n < 8 || n-8 > uint64(c.Len()) {
			f.Notef("load commands: %d of %d can be read", i, count)
			return
		}
		f.command(cmd, table[at:at+int(n)])
		c.Skip(n - 8)
	}
}

// command reads one load command, given with its head of 8 bytes.
func (f *file) command(cmd uint32, b []byte) {
	c := cursor.New(b, f.big)
	c.Skip(8)
	switch cmd {
	case lcSegment, lcSegment64:
		f.segment(c, cmd == lcSegment64)
	case lcSymtab:
		f.symbolTable(c)
	case lcDysymtab:
		c.Skip(12 * 4) // to indirectsymoff
		f.indirect = f.table("indirect symbols", c.U32(), uint64(c.U32())*4)
	case lcLoadDylib, lcLoadWeakDylib, lcReexportDylib, lcUpwardDylib, lcLazyLoadDylib:
		name := f.path(b, c.U32())
		f.dylibs = append(f.dylibs, name)
		f.Libraries = append(f.Libraries, name)
	case lcIDDylib, lcIDDylinker:
		f.Name = f.path(b, c.U32())
	case lcLoadDylinker:
		f.Interp = f.path(b, c.U32())
	case lcRpath:
		f.RunPaths = append(f.RunPaths, f.path(b, c.U32()))
	case lcUUID:
		f.BuildID = hex.EncodeToString(c.Bytes(16))
	case lcBuildVersion:
		f.buildVersion(c)
	case lcVersionMacOS:
		f.platform("darwin")
	case lcVersionIOS, lcVersionTVOS, lcVersionWatchOS:
		f.mobile(cmd)
	case lcSourceVersion:
		if v := c.U64(); v != 0 && len(f.Compilers) < maxTools {
			f.Compilers = append(f.Compilers, "source version "+sourceVersion(v))
		}
	case lcMain:
		f.entryOffset, f.hasMain = c.U64(), true
	case lcUnixThread:
		f.thread(c)
	case lcRoutines, lcRoutines64:
		f.routines = append(f.routines, c.Word(cmd == lcRoutines64))
	case lcDyldInfo, lcDyldInfoOnly:
		f.dyldInfo(c)
	case lcChainedFixups:
		f.chains = f.linkedit("chained fixups", c)
	case lcExportsTrie:
		f.trie, f.hasTrie = f.linkedit("exports trie", c), true
	case lcFunctionStarts:
		f.functionStarts = f.linkedit("function starts", c)
	case lcCodeSignature:
		f.Signed = hasSignature(f.linkedit("code signature", c))
	case lcEncryption, lcEncryption64:
		off, size, id := c.U32(), c.U32(), c.U32()
		if id != 0 {
			f.Notef("%d bytes at offset %#x are encrypted (system %d) and cannot be read", size, off, id)
		}
	case lcSplitInfo, lcDataInCode, lcCodeSignDRs, lcOptimization, lcAtomInfo:
		f.linkedit("link-edit data", c)
	case lcNote:
		c.Skip(16) // data_owner
		off, size := c.U64(), c.U64()
		f.reach("note", off, size)
	case lcFilesetEntry:
		f.filesets++
	}
	if c.Err() != nil {
		f.Notef("load command %#x: %v", cmd, c.Err())
	}
}

// path returns the string of a union lc_str: at an offset in its command, to
// the first zero or the end.
func (f *file) path(command []byte, off uint32) string {
	if uint64(off) >= uint64(len(command)) || off < 8 {
		f.Notef("a load command has its string outside of it")
		return ""
	}
	s, _, _ := strings.Cut(string(command[off:min(int(off)+maxString, len(command))]), "\x00")
	return s
}

// table returns bytes of the file that a load command points at.
func (f *file) table(what string, off uint32, size uint64) []byte {
	if size == 0 {
		return nil
	}
	f.reach(what, uint64(off), size)
	b, _ := cursor.Slice(f.data, uint64(off), size)
	return b
}

// reach notes that the file speaks of these bytes, and if they are missing.
func (f *file) reach(what string, off, size uint64) {
	if size == 0 {
		return
	}
	if end := off + size; end < off || end > uint64(len(f.data)) {
		f.truncated(what, off, size)
		f.extent = uint64(len(f.data))
	} else {
		f.extent = max(f.extent, end)
	}
}

// truncated notes once that bytes are missing; a file that is cut off would
// else get a note for all that stood behind the cut.
func (f *file) truncated(what string, off, size uint64) {
	if !f.cut {
		f.cut = true
		f.Notef("%s: %d bytes at offset %#x are not all in the file of %d bytes", what, size, off, len(f.data))
	}
}

// linkedit reads the rest of struct linkedit_data_command.
func (f *file) linkedit(what string, c *cursor.Cursor) []byte {
	off, size := c.U32(), c.U32()
	return f.table(what, off, uint64(size))
}

// dyldInfo reads the rest of struct dyld_info_command.
func (f *file) dyldInfo(c *cursor.Cursor) {
	f.rebase = f.linkedit("rebase opcodes", c)
	f.bind = f.linkedit("bind opcodes", c)
	f.weakBind = f.linkedit("weak bind opcodes", c)
	f.lazy = f.linkedit("lazy bind opcodes", c)
	f.trie, f.hasTrie = f.linkedit("exports trie", c), true
}

func (f *file) platform(os string) {
	// A zippered library names its second platform in a second command.
	if f.OS == "" {
		f.OS = os
	}
}

// mobile sets the platform of the version commands from before simulators had
// a number of their own: on a PC's processor, it is one.
func (f *file) mobile(cmd uint32) {
	os := map[uint32]string{lcVersionIOS: "ios", lcVersionTVOS: "tvos", lcVersionWatchOS: "watchos"}[cmd]
	if f.Arch == image.X86 || f.Arch == image.X86_64 {
		os += "-simulator"
	}
	f.platform(os)
}

// buildVersion reads the rest of struct build_version_command: the platform,
// its oldest version, the SDK, and the tools that built the file.
func (f *file) buildVersion(c *cursor.Cursor) {
	p := c.U32()
	c.Skip(8) // minos, sdk
	os := platforms[p]
	if os == "" {
		os = fmt.Sprintf("macho-platform-%d", p)
	}
	f.platform(os)
	for range c.U32() {
		tool, v := c.U32(), c.U32()
		if c.Err() != nil || len(f.Compilers) == maxTools {
			return
		}
		name := tools[tool]
		if name == "" {
			name = fmt.Sprintf("tool %d", tool)
		}
		f.Compilers = append(f.Compilers, name+" "+version(v))
	}
}

// sourceVersion prints a version packed as a24.b10.c10.d10.e10, without zeros
// at its end.
func sourceVersion(v uint64) string {
	s := fmt.Sprintf("%d.%d.%d.%d.%d", v>>40, v>>30&0x3ff, v>>20&0x3ff, v>>10&0x3ff, v&0x3ff)
	for strings.HasSuffix(s, ".0") && strings.Count(s, ".") > 1 {
		s = strings.TrimSuffix(s, ".0")
	}
	return s
}

// thread reads the rest of struct thread_command: register sets, each behind
// its flavor and its size in words of 32 bits.
func (f *file) thread(c *cursor.Cursor) {
	for c.Len() >= 8 && c.Err() == nil {
		flavor, count := c.U32(), uint64(c.U32())
		state := cursor.New(c.Bytes(count*4), f.big)
		if pc, ok := programCounters[[2]uint32{f.cpu, flavor}]; ok && c.Err() == nil {
			f.Entry = state.Skip(pc.offset).Word(pc.wide)
		}
	}
}

// hasSignature says whether a code signature holds anything: a superblob of
// at least one blob, as in Apple's xnu, <bsd/sys/codesign.h>, CS_SuperBlob.
func hasSignature(b []byte) bool {
	return len(b) >= 12 && binary.BigEndian.Uint32(b) == 0xfade0cc0 && binary.BigEndian.Uint32(b[8:]) > 0
}

// describe fills what follows from the load commands as a whole.
func (f *file) describe() {
	if f.hasMain {
		f.Entry = f.Base + f.entryOffset
	}
	if f.filesets > 0 {
		f.Notef("fileset: its %d entries are not read one by one", f.filesets)
	}
	switch {
	case f.Kind == image.Object || f.Kind == image.Core:
	case f.kind == typeExecute && f.Interp == "" && len(f.dylibs) == 0:
		f.Linkage = image.Static
		if f.flags&flagPIE != 0 {
			f.Linkage = image.StaticPIE
		}
	default:
		f.Linkage = image.Dynamic
	}
	for _, s := range f.Sections {
		if strings.Contains(s.Name, ",__swift5_") {
			f.Compilers = append(f.Compilers, "swift")
			break
		}
	}
	if size := uint64(len(f.data)); f.extent < size {
		f.Overlay = image.Range{Offset: f.extent, Size: size - f.extent}
	}
}
