package carve

import (
	"bytes"
	"encoding/binary"
	"hash/adler32"
	"hash/crc32"
	"math"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

// A Kind is what a payload is, by a header that was checked.
type Kind string

// The kinds.
const (
	ELF      Kind = "ELF"
	PE       Kind = "PE"
	MachO    Kind = "Mach-O"
	FatMachO Kind = "fat Mach-O"
	Wasm     Kind = "Wasm"
	Dex      Kind = "Dalvik bytecode"
	Class    Kind = "Java class"
	Script   Kind = "script" // a text that names its interpreter

	Zip   Kind = "zip"
	Tar   Kind = "tar"
	Ar    Kind = "ar"
	Seven Kind = "7z"
	Cab   Kind = "cab"
	Rar   Kind = "rar"

	Data Kind = "" // anything else that was packed
)

// Program reports whether machines run it.
func (k Kind) Program() bool {
	switch k {
	case ELF, PE, MachO, FatMachO, Wasm, Dex, Class, Script:
		return true
	}
	return false
}

// Archive reports whether it holds files.
func (k Kind) Archive() bool {
	switch k {
	case Zip, Tar, Ar, Seven, Cab, Rar:
		return true
	}
	return false
}

// unlimited is for identify: the bytes are the beginning of something longer.
const unlimited = math.MaxInt64

// identify tells what begins with b, of which there are avail bytes in all,
// and how long it is by its own account; 0 if it does not say. What claims to
// be longer than avail is not what it claims.
func identify(b []byte, avail int64) (Kind, int64) {
	if len(b) < 8 {
		return Data, 0
	}
	for _, known := range []struct {
		kind Kind
		size func(b []byte, avail int64) (int64, bool)
	}{
		{ELF, elfSize}, {PE, peSize}, {MachO, machoSize}, {FatMachO, fatSize}, {Wasm, wasmSize}, {Dex, dexSize},
		{Tar, tarSize}, {Seven, sevenSize}, {Cab, cabSize},
	} {
		if n, ok := known.size(b, avail); ok && n <= avail {
			return known.kind, n
		}
	}
	switch {
	case bytes.HasPrefix(b, []byte("PK\x03\x04")) && len(b) >= 30 && b[4] < 64 && binary.LittleEndian.Uint16(b[8:]) < 100:
		return Zip, 0
	case bytes.HasPrefix(b, []byte("!<arch>\n")) && len(b) >= 68 && string(b[66:68]) == "`\n":
		return Ar, 0
	case bytes.HasPrefix(b, []byte("Rar!\x1a\x07")) && (b[6] == 0 || b[6] == 1 && b[7] == 0):
		return Rar, 0
	case bytes.HasPrefix(b, []byte("\xca\xfe\xba\xbe\x00")) && b[6] == 0 && b[7] >= 45 && b[7] < 100 && len(b) > 10 && b[10] < 19 && b[10] > 0:
		return Class, 0
	case bytes.HasPrefix(b, []byte("#!")) && script(b):
		return Script, 0
	}
	return Data, 0
}

// script reports whether the first line names an interpreter.
func script(b []byte) bool {
	line, _, ok := bytes.Cut(b[:min(len(b), 128)], []byte("\n"))
	return ok && bytes.HasPrefix(bytes.TrimLeft(line[2:], " "), []byte("/")) && utf8.Valid(line)
}

// ends collects the largest end of the parts of a file.
type ends struct {
	end int64
	bad bool
}

func (e *ends) part(off, size uint64) {
	if off > 1<<50 || size > 1<<50 {
		e.bad = true
		return
	}
	if size > 0 {
		e.end = max(e.end, int64(off+size))
	}
}

// looked returns how many bytes of tables identify may have read of what it
// took for a program at first, by its header.
func looked(b []byte) int64 {
	const entry = 64 // of a table, at the most
	if len(b) < 64 {
		return 0
	}
	if bytes.HasPrefix(b, []byte("\x7fELF")) {
		var order binary.ByteOrder = binary.LittleEndian
		if b[5] == 2 {
			order = binary.BigEndian
		}
		ends, size := b[40:], uint16(52) // the fields that the header ends with, of its own size on
		if b[4] == 2 {
			ends, size = b[52:], 64
		}
		if order.Uint16(ends) != size {
			return 0
		}
		return entry * (int64(order.Uint16(ends[4:])) + int64(order.Uint16(ends[8:])))
	}
	var order binary.ByteOrder = binary.BigEndian
	switch binary.BigEndian.Uint32(b) {
	case 0xcefaedfe, 0xcffaedfe:
		order = binary.LittleEndian
	case 0xfeedface, 0xfeedfacf:
	default:
		return 0
	}
	if !machoCPU(order.Uint32(b[4:])) || order.Uint32(b[12:]) > 12 {
		return 0
	}
	return entry * int64(min(order.Uint32(b[16:]), maxCommands))
}

func machoCPU(cpu uint32) bool {
	switch cpu &^ 0x03000000 {
	case 6, 7, 11, 12, 13, 14, 18:
		return true
	}
	return false
}

// maxCommands is how many load commands a Mach-O file may have.
const maxCommands = 10_000

// elfSize reads an ELF header and the tables that lie in b (System V ABI,
// "Object Files").
func elfSize(b []byte, avail int64) (int64, bool) {
	if !bytes.HasPrefix(b, []byte("\x7fELF")) || len(b) < 52 || b[4] < 1 || b[4] > 2 || b[5] < 1 || b[5] > 2 || b[6] != 1 {
		return 0, false
	}
	wide := b[4] == 2
	c := cursor.New(b, b[5] == 2)
	c.Seek(16)
	kind, machine, version := c.U16(), c.U16(), c.U32()
	if kind < 1 || kind > 4 || machine == 0 || machine > 0x200 && machine != 0x9026 || version != 1 {
		return 0, false
	}
	word := func() uint64 {
		if wide {
			return c.U64()
		}
		return uint64(c.U32())
	}
	word() // entry
	phoff, shoff := word(), word()
	c.U32() // flags
	ehsize, phentsize, phnum, shentsize, shnum := c.U16(), c.U16(), c.U16(), c.U16(), c.U16()
	wantEh, wantPh, wantSh := uint16(52), uint16(32), uint16(40)
	if wide {
		wantEh, wantPh, wantSh = 64, 56, 64
	}
	if c.Err() != nil || ehsize != wantEh || phnum > 0 && phentsize != wantPh || shnum > 0 && shentsize != wantSh || phnum == 0 && shnum == 0 {
		return 0, false
	}
	var e ends
	e.part(phoff, uint64(phnum)*uint64(phentsize))
	e.part(shoff, uint64(shnum)*uint64(shentsize))
	for i := range uint64(phnum) {
		c.Seek(phoff + i*uint64(phentsize))
		var off, size uint64
		if kind := c.U32(); wide {
			c.U32()
			off = c.U64()
			c.Skip(16)
			size = c.U64()
		} else {
			_ = kind
			off = uint64(c.U32())
			c.Skip(8)
			size = uint64(c.U32())
		}
		if c.Err() != nil {
			break
		}
		e.part(off, size)
	}
	for i := range uint64(shnum) {
		c = cursor.New(b, b[5] == 2)
		c.Seek(shoff + i*uint64(shentsize) + 4)
		kind := c.U32()
		word() // flags
		word() // address
		off, size := word(), word()
		if c.Err() != nil {
			break
		}
		if kind != 8 && kind != 0 { // SHT_NOBITS, SHT_NULL
			e.part(off, size)
		}
	}
	return e.end, !e.bad && e.end > int64(ehsize) && e.end <= avail
}

// peSize reads the headers and the section table ("PE Format", Microsoft).
func peSize(b []byte, avail int64) (int64, bool) {
	if len(b) < 0x40 || b[0] != 'M' || b[1] != 'Z' {
		return 0, false
	}
	at := uint64(binary.LittleEndian.Uint32(b[0x3c:]))
	if at < 4 || at > 1<<20 {
		return 0, false
	}
	c := cursor.New(b, false)
	c.Seek(at)
	if c.U32() != 0x4550 {
		return 0, false
	}
	machine, sections := c.U16(), c.U16()
	c.Skip(12)
	optional, _ := c.U16(), c.U16()
	begin := uint64(c.Offset())
	magic := c.U16()
	if c.Err() != nil || sections == 0 || sections > 96 || magic != 0x10b && magic != 0x20b || optional < 96 || optional > 1024 || !peMachine(machine) {
		return 0, false
	}
	var e ends
	c.Seek(begin + 60) // SizeOfHeaders
	e.part(0, uint64(c.U32()))
	dirs := begin + 96
	if magic == 0x20b {
		dirs = begin + 112
	}
	c.Seek(dirs - 4)
	if n := c.U32(); n > 4 { // the certificate table is at an offset, not an address
		c.Seek(dirs + 4*8)
		off, size := c.U32(), c.U32()
		if int64(off)+int64(size) <= avail {
			e.part(uint64(off), uint64(size))
		}
	}
	for i := range uint64(sections) {
		c.Seek(begin + uint64(optional) + i*40 + 16)
		size, off := c.U32(), c.U32()
		if c.Err() != nil {
			break
		}
		if off != 0 {
			e.part(uint64(off), uint64(size))
		}
	}
	return e.end, !e.bad && e.end > int64(begin) && e.end <= avail
}

func peMachine(m uint16) bool {
	switch m {
	case 0x14c, 0x8664, 0x1c0, 0x1c2, 0x1c4, 0xaa64, 0xa641, 0xa64e, 0x200, 0x5032, 0x5064, 0x6232, 0x6264, 0xebc, 0x166, 0x1f0:
		return true
	}
	return false
}

// machoSize walks the load commands (<mach-o/loader.h>).
func machoSize(b []byte, avail int64) (int64, bool) {
	if len(b) < 28 {
		return 0, false
	}
	big, wide, begin := false, false, uint64(28)
	switch binary.BigEndian.Uint32(b) {
	case 0xfeedface:
		big = true
	case 0xfeedfacf:
		big, wide = true, true
	case 0xcefaedfe:
	case 0xcffaedfe:
		wide = true
	default:
		return 0, false
	}
	if wide {
		begin = 32
	}
	c := cursor.New(b, big)
	c.Seek(4)
	cpu, _, kind, count, size := c.U32(), c.U32(), c.U32(), c.U32(), c.U32()
	if c.Err() != nil || !machoCPU(cpu) || kind == 0 || kind > 12 || count == 0 || count > maxCommands || size < count*8 || int64(size) > avail {
		return 0, false
	}
	var e ends
	e.part(begin, uint64(size))
	at, end := begin, begin+uint64(size)
	for range count {
		c.Seek(at)
		cmd, n := c.U32(), c.U32()
		if c.Err() != nil {
			return e.end, avail == unlimited && !e.bad // the head ends before the commands do
		}
		if n < 8 || at+uint64(n) > end {
			return 0, false
		}
		switch cmd {
		case 0x1: // LC_SEGMENT
			c.Skip(16 + 8)
			e.part(uint64(c.U32()), uint64(c.U32()))
		case 0x19: // LC_SEGMENT_64
			c.Skip(16 + 16)
			e.part(c.U64(), c.U64())
		case 0x2: // LC_SYMTAB
			off, count := c.U32(), c.U32()
			e.part(uint64(off), uint64(count)*12)
			e.part(uint64(c.U32()), uint64(c.U32()))
		case 0x1d: // LC_CODE_SIGNATURE
			e.part(uint64(c.U32()), uint64(c.U32()))
		}
		at += uint64(n)
	}
	return e.end, !e.bad && e.end <= avail
}

// fatSize reads the table of a universal file (<mach-o/fat.h>).
func fatSize(b []byte, avail int64) (int64, bool) {
	if !bytes.HasPrefix(b, []byte("\xca\xfe\xba\xbe")) || len(b) < 28 {
		return 0, false
	}
	n := binary.BigEndian.Uint32(b[4:])
	if n == 0 || n > 32 || len(b) < int(8+n*20) {
		return 0, false
	}
	var e ends
	for i := range n {
		slice := b[8+i*20:]
		off, size := binary.BigEndian.Uint32(slice[8:]), binary.BigEndian.Uint32(slice[12:])
		if off < 8+n*20 || size < 28 {
			return 0, false
		}
		if int64(off)+4 <= int64(len(b)) {
			if m := binary.BigEndian.Uint32(b[off:]); m != 0xcffaedfe && m != 0xcefaedfe && m != 0xfeedface && m != 0xfeedfacf {
				return 0, false
			}
		}
		e.part(uint64(off), uint64(size))
	}
	return e.end, !e.bad && e.end <= avail
}

// wasmSize walks the sections of a module (WebAssembly Core Specification,
// 5.5): those with a number come in order.
func wasmSize(b []byte, avail int64) (int64, bool) {
	if !bytes.HasPrefix(b, []byte("\x00asm\x01\x00\x00\x00")) {
		if bytes.HasPrefix(b, []byte("\x00asm\x0d\x00\x01\x00")) && avail == unlimited { // a component
			return 0, true
		}
		return 0, false
	}
	c := cursor.New(b, false)
	c.Seek(8)
	end, last, count := int64(8), 0, 0
	for {
		id := c.U8()
		size := c.Uleb()
		begin := uint64(c.Offset())
		if c.Err() != nil || size > 1<<32 {
			return end, count > 0 || avail == unlimited && c.Err() != nil
		}
		if id == 0 {
			if !customSection(c, begin, size) {
				return end, count > 0
			}
		} else {
			order := wasmOrder(id)
			if order <= last {
				return end, count > 0
			}
			last = order
		}
		next := int64(begin) + int64(size)
		if next > avail {
			return end, count > 0
		}
		if end = next; end > int64(len(b)) {
			return end, avail == unlimited
		}
		c.Seek(uint64(end))
		count++
	}
}

// customSection checks the name that such a section begins with.
func customSection(c *cursor.Cursor, begin, size uint64) bool {
	n := c.Uleb()
	if c.Err() != nil || n == 0 || n > 256 || size > 1<<32 || uint64(c.Offset())-begin+n > size {
		return false
	}
	name := c.Bytes(n)
	return c.Err() == nil && utf8.Valid(name) && name[0] > ' '
}

// wasmOrder returns the place of a section among the others; 0 if there is no
// such section.
func wasmOrder(id byte) int {
	order := [...]int{0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 11, 6} // data count before code, tags after memories
	if int(id) >= len(order) {
		return 0
	}
	return order[id]
}

// dexSize checks the header of Dalvik bytecode, and its sum if all is there
// ("Dalvik executable format").
func dexSize(b []byte, avail int64) (int64, bool) {
	if !bytes.HasPrefix(b, []byte("dex\n0")) || len(b) < 0x70 || b[7] != 0 {
		return 0, false
	}
	size := int64(binary.LittleEndian.Uint32(b[0x20:]))
	if binary.LittleEndian.Uint32(b[0x24:]) < 0x70 || size < 0x70 || size > avail {
		return 0, false
	}
	if size <= int64(len(b)) && adler32.Checksum(b[12:size]) != binary.LittleEndian.Uint32(b[8:]) {
		return 0, false
	}
	return size, true
}

const tarBlock = 512

// tarSize walks the headers of a tar file (POSIX.1-2017, pax, "ustar
// Interchange Format").
func tarSize(b []byte, avail int64) (int64, bool) {
	at := int64(0)
	for at+tarBlock <= int64(len(b)) {
		h := b[at : at+tarBlock]
		size, ok := tarMember(h)
		if !ok {
			if at == 0 {
				return 0, false
			}
			if zero(h) { // two of them end it
				at += tarBlock
				if at+tarBlock <= int64(len(b)) && zero(b[at:at+tarBlock]) {
					at += tarBlock
				}
			}
			return at, true
		}
		first := at == 0
		if at += tarBlock + (size+tarBlock-1)/tarBlock*tarBlock; at > avail {
			return avail, !first // one that is cut off, so that nobody walks it again from each member
		}
	}
	return at, at > 0
}

// tarMember returns the size of the member that a header announces.
func tarMember(h []byte) (int64, bool) {
	if string(h[257:262]) != "ustar" {
		return 0, false
	}
	octal := func(b []byte) int64 {
		n := int64(0)
		for _, c := range bytes.Trim(b, " \x00") {
			if c < '0' || c > '7' {
				return -1
			}
			n = n<<3 | int64(c-'0')
		}
		return n
	}
	sum := int64(8 * ' ')
	for i, c := range h {
		if i < 148 || i >= 156 {
			sum += int64(c)
		}
	}
	size := octal(h[124:136])
	if sum != octal(h[148:156]) || size < 0 {
		return 0, false
	}
	switch h[156] {
	case '1', '2', '3', '4', '5', '6': // links, devices, folders
		size = 0
	}
	return size, true
}

// sevenSize checks the start header of a 7z file (7zFormat.txt).
func sevenSize(b []byte, avail int64) (int64, bool) {
	if !bytes.HasPrefix(b, []byte("7z\xbc\xaf\x27\x1c")) || len(b) < 32 || crc32.ChecksumIEEE(b[12:32]) != binary.LittleEndian.Uint32(b[8:]) {
		return 0, false
	}
	off, size := binary.LittleEndian.Uint64(b[12:]), binary.LittleEndian.Uint64(b[20:])
	if off > 1<<50 || size > 1<<50 {
		return 0, false
	}
	n := 32 + int64(off+size)
	return n, n <= avail
}

// cabSize reads the header of a cabinet ("Microsoft Cabinet Format", CFHEADER).
func cabSize(b []byte, avail int64) (int64, bool) {
	if !bytes.HasPrefix(b, []byte("MSCF\x00\x00\x00\x00")) || len(b) < 36 || b[24] != 3 || b[25] != 1 {
		return 0, false
	}
	n := int64(binary.LittleEndian.Uint32(b[8:]))
	return n, n >= 36 && n <= avail
}

// zipAt returns where the zip file begins whose end record (APPNOTE.TXT 4.3.16)
// is at b[end:], and where it ends. spent is how much of its directory was read.
func zipAt(b []byte, end int) (from, to int, spent int64, ok bool) {
	if end+22 > len(b) {
		return 0, 0, 0, false
	}
	r := b[end:]
	count := int(binary.LittleEndian.Uint16(r[10:]))
	size, off := int(binary.LittleEndian.Uint32(r[12:])), int(binary.LittleEndian.Uint32(r[16:]))
	to = end + 22 + int(binary.LittleEndian.Uint16(r[20:]))
	dir := end - size
	if count == 0 || size > end || to > len(b) || !bytes.HasPrefix(b[dir:], []byte("PK\x01\x02")) {
		return 0, 0, 0, false
	}
	first := math.MaxInt
	at := dir
	for range count { // offsets may count from the beginning of the whole file
		if at+46 > end || string(b[at:at+4]) != "PK\x01\x02" {
			return 0, 0, int64(at - dir), false
		}
		h := b[at:]
		first = min(first, int(binary.LittleEndian.Uint32(h[42:])))
		at += 46 + int(binary.LittleEndian.Uint16(h[28:])) + int(binary.LittleEndian.Uint16(h[30:])) + int(binary.LittleEndian.Uint16(h[32:]))
	}
	from = dir - off + first
	if from < 0 || from >= dir || !bytes.HasPrefix(b[from:], []byte("PK\x03\x04")) {
		return 0, 0, int64(at - dir), false
	}
	return from, to, int64(at - dir), true
}

func zero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
