package value

import (
	"encoding/binary"

	"golang.org/x/arch/x86/x86asm"
)

// common decodes the instructions of x86 that make up most of what compilers
// write, as far as lift asks for them, several times as fast as x86asm does. It
// returns false for all others: with prefixes besides REX, with operands of 8
// and 16 bits except where they are widened, and addresses that stand in the
// instruction whole.
func common(x *x86asm.Inst, code []byte, bits int) bool {
	c := operands86{wide: bits == 64, reg0: x86asm.EAX, size: 4}
	at, rex := 0, byte(0)
	if len(code) > 0 && c.wide && code[0]&0xf0 == 0x40 {
		rex, at = code[0], 1
		if rex&8 != 0 {
			c.reg0, c.size = x86asm.RAX, 8
		}
	}
	if len(code) < at+15 { // at the end of the code, where one may be cut off
		return false
	}
	c.rex = rex
	b := code[at : at+14]
	kind := b[1]>>3&7 | rex&4<<1 // of the opcodes that stand for several
	n, ok := 0, true
	switch o := b[0]; {
	case o>>4 == 5: // PUSH, POP
		x.Op = x86asm.PUSH
		if o >= 0x58 {
			x.Op = x86asm.POP
		}
		r := c.pointer()
		x.Args[0], n = r+x86asm.Reg(o&7|rex&1<<3), 1
	case o < 0x40 && o&4 == 0 && o&1 != 0: // ADD to CMP, of registers and memory
		if x.Op = group1[o>>3]; x.Op == 0 {
			return false
		}
		n, ok = c.read(b, 1)
		x.Args[o>>1&1], x.Args[1-o>>1&1] = c.rm, c.reg
	case o>>4 == 7:
		x.Op, x.Args[0], n = jumps[o&15], x86asm.Rel(int8(b[1])), 2
	case o == 0x0f && b[1]>>4 == 8:
		x.Op, x.Args[0], n = jumps[b[1]&15], x86asm.Rel(binary.LittleEndian.Uint32(b[2:])), 6
	case o == 0x0f && b[1] == 0x1f && b[2]>>3&7 == 0 && rex == 0:
		x.Op = x86asm.NOP
		n, ok = c.read(b, 2)
	case o == 0x0f && b[1]&0xf6 == 0xb6: // MOVZX, MOVSX
		x.Op = x86asm.MOVZX
		if b[1]&8 != 0 {
			x.Op = x86asm.MOVSX
		}
		to := c
		c.reg0, c.size = x86asm.AL, 1
		if b[1]&1 != 0 {
			c.reg0, c.size = x86asm.AX, 2
		}
		n, ok = c.read(b, 2)
		to.read(b, 2)
		x.Args[0], x.Args[1] = to.reg, c.rm
	case o == 0x63 && c.wide && c.size == 8:
		x.Op = x86asm.MOVSXD
		to := c
		c.reg0, c.size = x86asm.EAX, 4
		n, ok = c.read(b, 1)
		to.read(b, 1)
		x.Args[0], x.Args[1] = to.reg, c.rm
	case (o == 0x81 || o == 0x83) && kind < 8:
		if x.Op = group1[kind]; x.Op == 0 {
			return false
		}
		if n, ok = c.read(b, 1); !ok {
			return false
		}
		x.Args[0] = c.rm
		if o == 0x83 {
			x.Args[1], n = x86asm.Imm(int8(b[n])), n+1
		} else {
			x.Args[1], n = x86asm.Imm(int32(binary.LittleEndian.Uint32(b[n:]))), n+4
		}
	case o == 0x85:
		x.Op = x86asm.TEST
		n, ok = c.read(b, 1)
		x.Args[0], x.Args[1] = c.rm, c.reg
	case o == 0x89 || o == 0x8b:
		x.Op = x86asm.MOV
		n, ok = c.read(b, 1)
		x.Args[o>>1&1], x.Args[1-o>>1&1] = c.rm, c.reg
	case o == 0x8d && b[1] < 0xc0:
		x.Op = x86asm.LEA
		n, ok = c.read(b, 1)
		x.Args[0], x.Args[1] = c.reg, c.rm
	case o == 0xb8|o&7 && c.size == 4:
		x.Op, x.Args[0] = x86asm.MOV, c.reg0+x86asm.Reg(o&7|rex&1<<3)
		x.Args[1], n = x86asm.Imm(int32(binary.LittleEndian.Uint32(b[1:]))), 5
	case o == 0xc3:
		x.Op, n = x86asm.RET, 1
	case o == 0xc7 && kind == 0:
		x.Op = x86asm.MOV
		if n, ok = c.read(b, 1); !ok {
			return false
		}
		x.Args[0], x.Args[1], n = c.rm, x86asm.Imm(int32(binary.LittleEndian.Uint32(b[n:]))), n+4
	case o == 0xe8, o == 0xe9:
		x.Op = x86asm.CALL
		if o == 0xe9 {
			x.Op = x86asm.JMP
		}
		x.Args[0], n = x86asm.Rel(binary.LittleEndian.Uint32(b[1:])), 5
	case o == 0xeb:
		x.Op, x.Args[0], n = x86asm.JMP, x86asm.Rel(int8(b[1])), 2
	case o == 0xff && (kind == 2 || kind == 4):
		x.Op = x86asm.CALL
		if kind == 4 {
			x.Op = x86asm.JMP
		}
		if c.wide {
			c.reg0, c.size = x86asm.RAX, 8
		}
		n, ok = c.read(b, 1)
		x.Args[0] = c.rm
	default:
		return false
	}
	x.DataSize, x.MemBytes, x.Len = 8*c.size, c.bytes, at+n
	return ok
}

// group1 are the operations of the first eight columns of the map of opcodes, by
// their numbers there, without those that read the carry.
var group1 = [8]x86asm.Op{x86asm.ADD, x86asm.OR, 0, 0, x86asm.AND, x86asm.SUB, x86asm.XOR, x86asm.CMP}

// jumps are the conditional jumps by the number of their condition.
var jumps = [16]x86asm.Op{
	x86asm.JO, x86asm.JNO, x86asm.JB, x86asm.JAE, x86asm.JE, x86asm.JNE, x86asm.JBE, x86asm.JA,
	x86asm.JS, x86asm.JNS, x86asm.JP, x86asm.JNP, x86asm.JL, x86asm.JGE, x86asm.JLE, x86asm.JG,
}

// operands86 are those that ModR/M and SIB say, of an instruction with operands
// of a size whose first register is reg0.
type operands86 struct {
	wide  bool // 64 bits
	rex   byte
	reg0  x86asm.Reg
	size  int // bytes
	reg   x86asm.Arg
	rm    x86asm.Arg
	bytes int // of memory, if rm is that
}

// pointer returns the first of the registers that hold addresses.
func (c *operands86) pointer() x86asm.Reg {
	if c.wide {
		return x86asm.RAX
	}
	return x86asm.EAX
}

// register returns that of a number.
func (c *operands86) register(n byte) x86asm.Reg {
	if c.size == 1 && c.rex != 0 && n >= 4 {
		return x86asm.SPB + x86asm.Reg(n-4)
	}
	return c.reg0 + x86asm.Reg(n)
}

// read reads ModR/M at b[at] and what belongs to it, and returns where that
// ends.
func (c *operands86) read(b []byte, at int) (end int, ok bool) {
	modrm := b[at]
	at++
	c.reg = c.register(modrm>>3&7 | c.rex&4<<1)
	mod, rm := modrm>>6, modrm&7
	if mod == 3 {
		c.rm = c.register(rm | c.rex&1<<3)
		return at, true
	}
	c.bytes = c.size
	var m x86asm.Mem
	base, first := rm, c.pointer()
	if rm == 4 {
		sib := b[at]
		at++
		base = sib & 7
		m.Scale = 1 << (sib >> 6)
		if i := sib>>3&7 | c.rex&2<<2; i != 4 {
			m.Index = first + x86asm.Reg(i)
		}
	}
	if base == 5 && mod == 0 {
		if rm == 4 || !c.wide {
			return 0, false
		}
		m.Base, mod = x86asm.RIP, 2
	} else {
		m.Base = first + x86asm.Reg(base|c.rex&1<<3)
	}
	switch mod {
	case 1:
		m.Disp = int64(int8(b[at]))
		at++
	case 2:
		m.Disp = int64(int32(binary.LittleEndian.Uint32(b[at:])))
		at += 4
	}
	c.rm = m
	return at, true
}
