package pe

// An instruction is what the search for functions needs to know of one.
type instruction struct {
	size int // in bytes; 0 if it is not one
	flow flow
	to   int    // of a direct call, jump or branch: where to, from its end
	addr uint32 // an operand that may be an absolute address, 0 if there is none
}

// A flow is what an instruction does to the flow of control.
type flow uint8

const (
	next    flow = iota // goes on
	call                // direct
	jump                // direct
	branch              // direct and conditional
	leave               // returns, or jumps where only the program knows
	through             // jumps to a register or through a table: the last absolute address may tell where
	slot                // jumps through a pointer at a fixed address
	padding             // does nothing, as compilers fill gaps
)

// What follows an opcode, as bits.
const (
	modrm  = 1 << iota
	imm8   // one byte
	imm16  // two bytes
	immz   // four bytes, or two after an operand-size prefix
	bad    // not an instruction in either mode
	narrow // only in 32-bit mode
)

// operands says what follows each one-byte opcode ("Intel 64 and IA-32
// Architectures Software Developer's Manual", volume 2, appendix A).
var operands = func() (t [256]uint8) {
	set := func(from, to int, v uint8) {
		for op := from; op <= to; op++ {
			t[op] = v
		}
	}
	for op := 0; op < 0x40; op += 8 { // arithmetic
		set(op, op+3, modrm)
		t[op+4], t[op+5] = imm8, immz
		t[op+6], t[op+7] = narrow, narrow
	}
	t[0x62], t[0x63] = modrm|narrow, modrm
	t[0x68], t[0x69], t[0x6a], t[0x6b] = immz, modrm|immz, imm8, modrm|imm8
	set(0x60, 0x61, narrow)
	set(0x70, 0x7f, imm8)
	t[0x80], t[0x81], t[0x82], t[0x83] = modrm|imm8, modrm|immz, modrm|imm8|narrow, modrm|imm8
	set(0x84, 0x8f, modrm)
	t[0x9a] = immz | imm16 | narrow
	t[0xa8], t[0xa9] = imm8, immz
	set(0xb0, 0xb7, imm8)
	set(0xb8, 0xbf, immz)
	t[0xc0], t[0xc1], t[0xc2] = modrm|imm8, modrm|imm8, imm16
	set(0xc4, 0xc5, modrm|narrow)
	t[0xc6], t[0xc7], t[0xc8] = modrm|imm8, modrm|immz, imm16|imm8
	t[0xca], t[0xcd] = imm16, imm8
	set(0xd0, 0xd3, modrm)
	t[0xd4], t[0xd5], t[0xd6] = imm8|narrow, imm8|narrow, bad
	set(0xd8, 0xdf, modrm)
	set(0xe0, 0xe7, imm8)
	t[0xe8], t[0xe9], t[0xea], t[0xeb] = immz, immz, immz|imm16|narrow, imm8
	set(0xf6, 0xf7, modrm)
	set(0xfe, 0xff, modrm)
	return t
}()

// operands0F says the same of the opcodes after 0F.
var operands0F = func() (t [256]uint8) {
	for op := range t {
		t[op] = modrm
	}
	for _, op := range []int{
		0x05, 0x06, 0x07, 0x08, 0x09, 0x0b, 0x0e, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37,
		0x77, 0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xaa, 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf,
	} {
		t[op] = 0
	}
	for _, op := range []int{0x04, 0x0a, 0x0c, 0x24, 0x25, 0x26, 0x27, 0x36, 0x39, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f} {
		t[op] = bad
	}
	for op := 0x80; op < 0x90; op++ {
		t[op] = immz
	}
	for _, op := range []int{0x0f, 0x70, 0x71, 0x72, 0x73, 0xa4, 0xac, 0xba, 0xc2, 0xc4, 0xc5, 0xc6} {
		t[op] = modrm | imm8
	}
	return t
}()

// decode reads the instruction at the start of b; wide selects 64-bit mode. It
// measures every instruction, but names only what matters here.
func decode(b []byte, wide bool) instruction {
	if !wide {
		if ins, ok := plain(b); ok {
			return ins
		}
	}
	const longest = 15
	b = b[:min(len(b), longest)]
	d := decoder{b: b, wide: wide}
	if !d.prefixes() || !d.opcode() || !d.operands() || d.at > len(b) {
		return instruction{}
	}
	ins := instruction{size: d.at, flow: d.flow()}
	switch ins.flow {
	case call, jump, branch:
		if d.two || d.op == 0xe8 || d.op == 0xe9 {
			ins.to = int(int32(le32(b[d.at-4:])))
		} else {
			ins.to = int(int8(b[d.at-1]))
		}
	}
	if d.imm > 0 {
		ins.addr = le32(b[d.imm:])
	}
	return ins
}

// plainFlows says of the opcodes that plain reads what they do; the others are
// through here.
var plainFlows = func() (t [256]flow) {
	for op, what := range operands {
		if what&(bad|imm16) != 0 {
			t[op] = through
		}
	}
	for _, op := range []int{
		0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x62, 0x64, 0x65, 0x66, 0x67, 0x8d, 0x90, 0xa0, 0xa1, 0xa2, 0xa3,
		0xc4, 0xc5, 0xf0, 0xf2, 0xf3, 0xf6, 0xf7, 0xfe, 0xff,
	} {
		t[op] = through
	}
	for op := 0x70; op < 0x80; op++ {
		t[op] = branch
	}
	for _, op := range []int{0xe0, 0xe1, 0xe2, 0xe3} {
		t[op] = branch
	}
	for _, op := range []int{0xc3, 0xcb, 0xcf, 0xf4} {
		t[op] = leave
	}
	t[0xe8], t[0xe9], t[0xeb] = call, jump, jump
	return t
}()

// plain reads an instruction of 32-bit mode like most: without prefixes, and
// with an opcode of one byte that does the same whatever its operands are. Not
// ok means that it is another.
func plain(b []byte) (ins instruction, ok bool) {
	const longest = 11
	if len(b) < longest {
		return ins, false
	}
	b = b[:longest]
	op := b[0]
	ins.flow = plainFlows[op]
	if ins.flow == through {
		return ins, false
	}
	what := operands[op]
	at, operand := 1, 0
	if what&modrm != 0 {
		m := b[1]
		if m == 0xf6 || m == 0xc9 || m == 0xdb { // may be padding
			return ins, false
		}
		at = 2
		mod, base := m>>6, m&7
		if mod != 3 {
			if base == 4 {
				base = b[2] & 7
				at = 3
			}
			switch {
			case mod == 1:
				at++
			case mod == 2, base == 5:
				operand = at
				at += 4
			}
		}
	}
	if what&imm8 != 0 {
		at++
		ins.to = int(int8(b[at-1]))
	} else if what&immz != 0 {
		if op&0xf8 == 0xb8 || op == 0x68 || op == 0xc7 || op == 0x05 || op == 0x81 {
			operand = at
		}
		at += 4
		ins.to = int(int32(le32(b[at-4:])))
	}
	if ins.flow == next {
		ins.to = 0
	}
	if operand > 0 {
		ins.addr = le32(b[operand:])
	}
	ins.size = at
	return ins, true
}

// A decoder is the state of one decode. Its position may lie behind the bytes
// that there are; whoever reads there checks.
type decoder struct {
	b                      []byte
	wide                   bool
	at                     int
	short, long, address16 bool // operand and address sizes
	two                    bool // the opcode is the one after 0F
	vector                 bool // VEX or EVEX
	op                     byte
	start                  int // of the opcode
	what                   uint8
	modrm, imm             int // offsets; 0 if there is none
}

// prefixes skips what may stand before an opcode, and says whether one follows.
func (d *decoder) prefixes() bool {
	for ; d.at < len(d.b); d.at++ {
		switch d.b[d.at] {
		case 0x66:
			d.short = true
		case 0x67:
			d.address16 = !d.wide
		case 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf0, 0xf2, 0xf3:
		default:
			if d.wide && d.b[d.at]&0xf0 == 0x40 {
				d.long = d.b[d.at]&8 != 0
				d.at++
			}
			return d.at < len(d.b)
		}
	}
	return false
}

// opcode reads the opcode in all its encodings, and says whether there is one.
func (d *decoder) opcode() bool {
	d.start, d.op = d.at, d.b[d.at]
	d.at++
	switch {
	case d.op == 0x0f:
		if d.at >= len(d.b) {
			return false
		}
		d.two, d.op = true, d.b[d.at]
		d.at++
		d.what = operands0F[d.op]
		switch d.op {
		case 0x38:
			d.at++
			d.what = modrm
		case 0x3a:
			d.at++
			d.what = modrm | imm8
		}
	case (d.op == 0xc4 || d.op == 0xc5 || d.op == 0x62) && d.at < len(d.b) && (d.wide || d.b[d.at] >= 0xc0):
		return d.vectorOpcode()
	default:
		d.what = operands[d.op]
		if d.what&narrow != 0 && d.wide {
			return false
		}
	}
	return d.what&bad == 0
}

// vectorOpcode reads what follows a VEX or EVEX prefix. In 32-bit mode these
// stand where another instruction would need a register as its address.
func (d *decoder) vectorOpcode() bool {
	d.vector = true
	space := byte(1) // which of the maps 0F, 0F 38, 0F 3A
	first := d.b[d.at]
	switch d.op {
	case 0xc5:
		d.at++
	case 0xc4:
		space = first & 0x1f
		d.at += 2
	case 0x62:
		space = first & 7
		d.at += 3
	}
	if d.at >= len(d.b) || space == 0 || space > 6 {
		return false
	}
	d.op = d.b[d.at]
	d.at++
	d.what = modrm
	switch {
	case space == 3, space == 1 && operands0F[d.op]&imm8 != 0:
		d.what |= imm8
	case space == 1 && d.op == 0x77: // vzeroupper
		d.what = 0
	}
	return true
}

// operands skips what follows the opcode, and says whether it is valid.
func (d *decoder) operands() bool {
	one := !d.two && !d.vector
	if one && d.op >= 0xa0 && d.op <= 0xa3 { // an address as wide as the mode
		switch {
		case d.wide:
			d.at += 8
		case d.address16:
			d.at += 2
		default:
			d.at += 4
		}
		return true
	}
	if d.what&modrm != 0 {
		if !d.address() {
			return false
		}
		reg := d.b[d.modrm] >> 3 & 7
		switch {
		case !one:
		case d.op == 0xf6 && reg < 2:
			d.what |= imm8
		case d.op == 0xf7 && reg < 2:
			d.what |= immz
		case d.op == 0xfe && reg > 1, d.op == 0xff && reg == 7:
			return false
		}
	}
	if d.what&imm8 != 0 {
		d.at++
	}
	if d.what&imm16 != 0 {
		d.at += 2
	}
	if d.what&immz != 0 {
		load := one && d.op >= 0xb8 && d.op <= 0xbf
		switch {
		case load && d.long:
			d.at += 8
		case d.short && !d.two && d.op&0xfe != 0xe8: // a displacement stays as it is
			d.at += 2
		default:
			if load || one && (d.op == 0x68 || d.op == 0xc7 || d.op == 0x05 || d.op == 0x81) {
				d.imm = d.at
			}
			d.at += 4
		}
	}
	return true
}

// address skips ModRM, SIB and displacement, and says whether they are there.
func (d *decoder) address() bool {
	if d.at >= len(d.b) {
		return false
	}
	d.modrm = d.at
	mod, base := d.b[d.at]>>6, d.b[d.at]&7
	d.at++
	if mod == 3 {
		return true
	}
	if d.address16 {
		switch {
		case mod == 1:
			d.at++
		case mod == 2, base == 6:
			d.at += 2
		}
		return true
	}
	if base == 4 {
		if d.at >= len(d.b) {
			return false
		}
		base = d.b[d.at] & 7
		d.at++
	}
	switch {
	case mod == 1:
		d.at++
	case mod == 2, base == 5:
		if !d.wide {
			d.imm = d.at
		}
		d.at += 4
	}
	return true
}

// flow says what the instruction does, all of which is there.
func (d *decoder) flow() flow {
	switch {
	case d.vector:
		return next
	case d.two:
		switch {
		case d.op == 0x0b: // ud2
			return leave
		case d.op&0xf0 == 0x80:
			return branch
		case d.op == 0x1f:
			return padding
		}
		return next
	}
	switch op := d.op; {
	case op == 0xe8:
		return call
	case op == 0xe9, op == 0xeb:
		return jump
	case op >= 0x70 && op <= 0x7f, op >= 0xe0 && op <= 0xe3:
		return branch
	case op == 0xc2, op == 0xc3, op == 0xca, op == 0xcb, op == 0xcf, op == 0xf4:
		return leave
	case op == 0x90:
		return padding
	case op == 0xff:
		switch m := d.b[d.modrm]; {
		case m == 0x25:
			return slot
		case m == 0x24, m&0xf8 == 0xe0:
			return through
		case m>>3&7 == 4 || m>>3&7 == 5:
			return leave
		}
	case op == 0x8b, op == 0x89, op == 0x87:
		// A move of a register to itself; that of edi stands where a hook may
		// be placed.
		if m := d.b[d.modrm]; m == 0xf6 || m == 0xc9 || m == 0xdb {
			return padding
		}
	case op == 0x8d && !d.short:
		// lea of a register to itself, with a displacement of zeros.
		m := d.b[d.modrm]
		reg, base, rest := m>>3&7, m&7, d.b[d.modrm+1:]
		if base == 4 && m < 0xc0 && d.b[d.modrm+1]&0x38 == 0x20 { // SIB without index
			base, rest = d.b[d.modrm+1]&7, rest[1:]
		}
		if m >= 0x40 && m < 0xc0 && reg == base && zero(rest[:d.at-len(d.b)+len(rest)]) {
			return padding
		}
	}
	return next
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
