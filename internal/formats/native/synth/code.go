package synth

import "encoding/binary"

// An assembler writes the few instructions that functions and import stubs
// are made of. The length of what it writes never depends on addresses.
//
// Encodings: Intel SDM volume 2, Arm ARM (A64 and A32 base instructions),
// RISC-V unprivileged ISA. Stubs and calls follow the System V psABI of each
// machine, or Microsoft's x64, x86 and ARM64 conventions.
type assembler struct {
	arch    string
	windows bool
	addr    uint64 // of code[0]
	got     uint64 // what ebx holds in x86 ELF code: the address of .got.plt
	code    []byte
	abs     []uint64 // addresses of 32-bit absolute addresses, for base relocations (PE x86)
}

// A value is an argument: a number or an address.
type value struct {
	v      uint64
	isAddr bool
}

// Registers of RISC-V.
const (
	rvRA, rvT0, rvT1, rvT2, rvA0, rvT3 = 1, 5, 6, 7, 10, 28
)

func maxArgs(arch string) int {
	switch arch {
	case "x86_64":
		return 6
	case "arm":
		return 4
	}
	return 8
}

func (a *assembler) here() uint64    { return a.addr + uint64(len(a.code)) }
func (a *assembler) bytes(b ...byte) { a.code = append(a.code, b...) }
func (a *assembler) ops(ops ...uint32) {
	for _, op := range ops {
		a.code = binary.LittleEndian.AppendUint32(a.code, op)
	}
}

// rel writes the distance from behind itself to an address.
func (a *assembler) rel(to uint64) { a.ops(uint32(to - a.here() - 4)) }

// absolute writes an address that has to be relocated.
func (a *assembler) absolute(to uint64) {
	a.abs = append(a.abs, a.here())
	a.ops(uint32(to))
}

// unit is the length that instructions are multiples of.
func (a *assembler) unit() int {
	if a.arch == "x86" || a.arch == "x86_64" {
		return 1
	}
	return 4
}

// pad fills up to a multiple of n with what traps or does nothing.
func (a *assembler) pad(n int) {
	nop := map[string]uint32{"aarch64": 0xd503201f, "arm": 0xe320f000, "riscv64": 0x13}[a.arch]
	for len(a.code)%n != 0 {
		switch {
		case a.unit() == 1:
			a.bytes(0xcc)
		case len(a.code)%4 != 0:
			a.bytes(0)
		default:
			a.ops(nop)
		}
	}
}

func (a *assembler) ret() {
	switch a.arch {
	case "aarch64":
		a.ops(0xd65f03c0)
	case "arm":
		a.ops(0xe12fff1e)
	case "riscv64":
		a.ops(0x00008067)
	default:
		a.bytes(0xc3)
	}
}

// winFrame is the stack that x64 code of Windows takes: 32 bytes for the
// callee, 2 stack arguments, alignment.
const winFrame = 0x38

func (a *assembler) prologue() {
	switch {
	case a.arch == "aarch64":
		a.ops(0xa9bf7bfd, 0x910003fd) // stp x29, x30, [sp, #-16]!; mov x29, sp
	case a.arch == "arm":
		a.ops(0xe92d4010) // push {r4, lr}
	case a.arch == "riscv64":
		a.ops(0xff010113, 0x00113423) // addi sp, sp, -16; sd ra, 8(sp)
	case a.arch == "x86":
		a.bytes(0x55, 0x89, 0xe5) // push ebp; mov ebp, esp
		if !a.windows {
			a.bytes(0x53, 0xe8, 0, 0, 0, 0, 0x5b, 0x81, 0xc3) // push ebx; call next; pop ebx; add ebx, got-next
			a.ops(uint32(a.got - (a.here() - 3)))
		}
	case a.windows:
		a.bytes(0x48, 0x83, 0xec, winFrame) // sub rsp, n
	default:
		a.bytes(0x48, 0x83, 0xec, 8)
	}
}

func (a *assembler) epilogue() {
	switch {
	case a.arch == "aarch64":
		a.ops(0xa8c17bfd) // ldp x29, x30, [sp], #16
	case a.arch == "arm":
		a.ops(0xe8bd8010) // pop {r4, pc}
		return
	case a.arch == "riscv64":
		a.ops(0x00813083, 0x01010113) // ld ra, 8(sp); addi sp, sp, 16
	case a.arch == "x86":
		if !a.windows {
			a.bytes(0x8b, 0x5d, 0xfc) // mov ebx, [ebp-4]
		}
		a.bytes(0xc9) // leave, which is right whoever cleans up arguments
	case a.windows:
		a.bytes(0x48, 0x83, 0xc4, winFrame)
	default:
		a.bytes(0x48, 0x83, 0xc4, 8)
	}
	a.ret()
}

// args sets the first arguments of a call.
func (a *assembler) args(values []value) {
	if a.arch == "x86" {
		for i := len(values) - 1; i >= 0; i-- {
			a.push(values[i])
		}
		return
	}
	for i, v := range values {
		r := uint32(i)
		switch {
		case a.arch == "aarch64" && v.isAddr:
			a.adrp(r, v.v)
			a.ops(0x91000000 | uint32(v.v&0xfff)<<10 | r<<5 | r) // add
		case a.arch == "aarch64":
			a.ops(0x52800000|uint32(v.v&0xffff)<<5|r, 0x72a00000|uint32(v.v>>16&0xffff)<<5|r) // movz, movk
		case a.arch == "arm":
			n := uint32(v.v)
			if v.isAddr {
				n -= uint32(a.here()) + 16 // pc of the add
			}
			a.ops(0xe3000000|n>>12&0xf<<16|r<<12|n&0xfff, 0xe3400000|n>>28<<16|r<<12|n>>16&0xfff) // movw, movt
			if v.isAddr {
				a.ops(0xe08f0000 | r<<12 | r) // add r, pc, r
			}
		case a.arch == "riscv64":
			n, op, then := uint32(v.v), uint32(0x37), uint32(0x1b) // lui, addiw
			if v.isAddr {
				n, op, then = uint32(v.v-a.here()), 0x17, 0x13 // auipc, addi
			}
			hi, lo := split12(n)
			a.ops(hi|(rvA0+r)<<7|op, lo<<20|(rvA0+r)<<15|(rvA0+r)<<7|then)
		case a.windows:
			a.winArg(i, v)
		case v.isAddr: // lea r, [rip+d]
			a.bytes([][]byte{{0x48, 0x8d, 0x3d}, {0x48, 0x8d, 0x35}, {0x48, 0x8d, 0x15}, {0x48, 0x8d, 0x0d}, {0x4c, 0x8d, 0x05}, {0x4c, 0x8d, 0x0d}}[i]...)
			a.rel(v.v)
		default: // mov r, n
			a.bytes([][]byte{{0xbf}, {0xbe}, {0xba}, {0xb9}, {0x41, 0xb8}, {0x41, 0xb9}}[i]...)
			a.ops(uint32(v.v))
		}
	}
}

// winArg sets an argument of Windows x64: rcx, rdx, r8, r9, then the stack.
func (a *assembler) winArg(i int, v value) {
	slot := byte(8 * i)
	switch {
	case i < 4 && v.isAddr:
		a.bytes([][]byte{{0x48, 0x8d, 0x0d}, {0x48, 0x8d, 0x15}, {0x4c, 0x8d, 0x05}, {0x4c, 0x8d, 0x0d}}[i]...)
		a.rel(v.v)
	case i < 4:
		a.bytes([][]byte{{0xb9}, {0xba}, {0x41, 0xb8}, {0x41, 0xb9}}[i]...)
		a.ops(uint32(v.v))
	case v.isAddr:
		a.bytes(0x48, 0x8d, 0x05) // lea rax, [rip+d]
		a.rel(v.v)
		a.bytes(0x48, 0x89, 0x44, 0x24, slot) // mov [rsp+slot], rax
	default:
		a.bytes(0x48, 0xc7, 0x44, 0x24, slot) // mov qword [rsp+slot], n
		a.ops(uint32(v.v))
	}
}

// push puts an argument of x86 on the stack.
func (a *assembler) push(v value) {
	switch {
	case !v.isAddr:
		a.bytes(0x68)
		a.ops(uint32(v.v))
	case a.windows:
		a.bytes(0x68)
		a.absolute(v.v)
	default:
		a.bytes(0x8d, 0x83) // lea eax, [ebx+d]
		a.ops(uint32(v.v - a.got))
		a.bytes(0x50)
	}
}

// call calls an address.
func (a *assembler) call(to uint64) {
	switch a.arch {
	case "aarch64":
		a.ops(0x94000000 | uint32((to-a.here())>>2)&0x3ffffff)
	case "arm":
		a.ops(0xeb000000 | uint32((to-a.here()-8)>>2)&0xffffff)
	case "riscv64":
		hi, lo := split12(uint32(to - a.here()))
		a.ops(hi|rvRA<<7|0x17, lo<<20|rvRA<<15|rvRA<<7|0x67) // auipc, jalr
	default:
		if a.arch == "x86_64" && !a.windows {
			a.bytes(0x31, 0xc0) // xor eax, eax: no vector registers, should the callee be variadic
		}
		a.bytes(0xe8)
		a.rel(to)
	}
}

// callIndirect calls through a pointer of the import address table.
func (a *assembler) callIndirect(slot uint64) {
	switch a.arch {
	case "aarch64":
		a.adrp(16, slot)
		a.ops(ldr(16, slot), 0xd63f0000|16<<5) // blr x16
	case "x86":
		a.bytes(0xff, 0x15)
		a.absolute(slot)
	default:
		a.bytes(0xff, 0x15)
		a.rel(slot)
	}
}

// jumpIndirect is a Mach-O stub.
func (a *assembler) jumpIndirect(slot uint64) {
	if a.arch == "aarch64" {
		a.adrp(16, slot)
		a.ops(ldr(16, slot), 0xd61f0000|16<<5) // br x16
		return
	}
	a.bytes(0xff, 0x25)
	a.rel(slot)
}

// adrp sets a register of AArch64 to the page of an address.
func (a *assembler) adrp(r uint32, to uint64) {
	pages := uint32((to>>12)-(a.here()>>12)) & 0x1fffff
	a.ops(0x90000000 | pages&3<<29 | pages>>2<<5 | r)
}

// ldr loads a register of AArch64 from the place that an address has in its
// page, which x16 holds.
func ldr(r uint32, addr uint64) uint32 {
	return 0xf9400000 | uint32(addr&0xfff)>>3<<10 | 16<<5 | r
}

// split12 splits a number for RISC-V into its upper 20 bits, in place, and a
// signed remainder of 12.
func split12(n uint32) (hi, lo uint32) { return (n + 0x800) &^ 0xfff, n & 0xfff }

// pltSizes are the lengths of the head and of each entry of .plt.
func pltSizes(arch string) (head, entry uint64) {
	switch arch {
	case "aarch64", "riscv64":
		return 32, 16
	case "arm":
		return 20, 12
	}
	return 16, 16
}

// pltHead writes the code that hands a first call to the dynamic linker.
func (a *assembler) pltHead() {
	got := a.got
	switch a.arch {
	case "aarch64":
		a.ops(0xa9bf7bf0) // stp x16, x30, [sp, #-16]!
		a.adrp(16, got+16)
		a.ops(ldr(17, got+16), 0x91000000|uint32((got+16)&0xfff)<<10|16<<5|16, 0xd61f0000|17<<5, 0xd503201f, 0xd503201f, 0xd503201f)
	case "arm":
		// str lr, [sp, #-4]!; ldr lr, [pc, #4]; add lr, pc, lr; ldr pc, [lr, #8]!
		a.ops(0xe52de004, 0xe59fe004, 0xe08fe00e, 0xe5bef008)
		a.ops(uint32(got - a.here()))
	case "riscv64":
		hi, lo := split12(uint32(got - a.here()))
		a.ops(
			hi|rvT2<<7|0x17,                 // auipc t2, got
			0x41c30333,                      // sub t1, t1, t3
			lo<<20|rvT2<<15|3<<12|rvT3<<7|3, // ld t3, got(t2)
			uint32(0x1000-44)<<20|rvT1<<15|rvT1<<7|0x13, // addi t1, t1, -44
			lo<<20|rvT2<<15|rvT0<<7|0x13,                // addi t0, t2, got
			0x00135313,                                  // srli t1, t1, 1
			8<<20|rvT0<<15|3<<12|rvT0<<7|3,              // ld t0, 8(t0)
			rvT3<<15|0x67,                               // jr t3
		)
	case "x86":
		a.bytes(0xff, 0xb3, 4, 0, 0, 0, 0xff, 0xa3, 8, 0, 0, 0, 0x0f, 0x1f, 0x40, 0) // push [ebx+4]; jmp [ebx+8]
	default:
		a.bytes(0xff, 0x35) // push [got+8]
		a.rel(got + 8)
		a.bytes(0xff, 0x25) // jmp [got+16]
		a.rel(got + 16)
		a.bytes(0x0f, 0x1f, 0x40, 0)
	}
}

// pltEntry writes the stub of the nth import and returns what its slot holds
// before the dynamic linker has been asked.
func (a *assembler) pltEntry(n int, slot uint64) (initial uint64) {
	head := a.addr
	switch a.arch {
	case "aarch64":
		a.adrp(16, slot)
		a.ops(ldr(17, slot), 0x91000000|uint32(slot&0xfff)<<10|16<<5|16, 0xd61f0000|17<<5)
		return head
	case "arm":
		d := uint32(slot - a.here() - 8)
		a.ops(0xe28fc600|d>>20&0xff, 0xe28cca00|d>>12&0xff, 0xe5bcf000|d&0xfff) // add ip, pc; add ip, ip; ldr pc, [ip]!
		return head
	case "riscv64":
		hi, lo := split12(uint32(slot - a.here()))
		a.ops(hi|rvT3<<7|0x17, lo<<20|rvT3<<15|3<<12|rvT3<<7|3, rvT3<<15|rvT1<<7|0x67, 0x13) // auipc t3; ld t3; jalr t1, t3; nop
		return head
	case "x86":
		a.bytes(0xff, 0xa3) // jmp [ebx+d]
		a.ops(uint32(slot - a.got))
		initial = a.here()
		a.bytes(0x68) // push the offset of the relocation
		a.ops(uint32(8 * n))
	default:
		a.bytes(0xff, 0x25) // jmp [rip+d]
		a.rel(slot)
		initial = a.here()
		a.bytes(0x68) // push the index of the relocation
		a.ops(uint32(n))
	}
	a.bytes(0xe9) // jmp head
	a.rel(head)
	return initial
}
