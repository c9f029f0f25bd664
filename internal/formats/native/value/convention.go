package value

import (
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// maxArgs bounds the arguments of a call that are looked at.
const maxArgs = 12

// A convention is how calls pass integers and addresses.
type convention struct {
	args    []uint8 // registers, in order
	stack   int64   // offset of the first argument on the stack, from the stack pointer at the call
	callee  int64   // the same from the stack pointer at the entry of the function
	result  uint8
	saved   []uint8 // registers that survive a call
	syscall []uint8 // registers of the arguments of a system call
	number  uint8   // register of its number
	clears  bool    // callees of the system take their arguments off the stack
	local   []uint8 // registers in which functions that only the binary itself calls may take arguments instead
}

// The registers of x86, by their numbers in the encoding.
const (
	rax = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
)

// Calling conventions, from: System V Application Binary Interface, AMD64
// Architecture Processor Supplement, 3.2; the same, Intel386; "x64 calling
// convention" of Microsoft; Procedure Call Standard for the Arm 64-bit
// Architecture, 6; Procedure Call Standard for the Arm Architecture, 6; RISC-V
// Calling Conventions; "Go internal ABI specification" of Go's own sources
// (ABIInternal).
var (
	systemV = convention{
		args: []uint8{rdi, rsi, rdx, rcx, r8, r9}, stack: 0, callee: 8, result: rax, saved: []uint8{rbx, rsp, rbp, r12, r13, r14, r15},
		syscall: []uint8{rdi, rsi, rdx, r10, r8, r9}, number: rax,
	}
	windows64 = convention{
		args: []uint8{rcx, rdx, r8, r9}, stack: 32, callee: 40, result: rax, saved: []uint8{rbx, rsp, rbp, rsi, rdi, r12, r13, r14, r15},
		syscall: []uint8{r10, rdx, r8, r9}, number: rax,
	}
	goX86_64 = convention{
		args: []uint8{rax, rbx, rcx, rdi, rsi, r8, r9, r10, r11}, stack: 0, callee: 8, result: rax, saved: []uint8{rsp, rbp, r14},
		syscall: []uint8{rdi, rsi, rdx, r10, r8, r9}, number: rax,
	}
	cdecl = convention{
		stack: 0, callee: 4, result: rax, saved: []uint8{rbx, rsp, rbp, rsi, rdi},
		syscall: []uint8{rbx, rcx, rdx, rsi, rdi, rbp}, number: rax,
		local: localX86,
	}
	windows32 = convention{
		stack: 0, callee: 4, result: rax, saved: []uint8{rbx, rsp, rbp, rsi, rdi},
		syscall: nil, number: rax, clears: true,
		local: localX86,
	}
	arm64 = convention{
		args: upTo(8), result: 0, saved: between(18, 31),
		syscall: upTo(6), number: 8,
	}
	darwinARM64 = convention{
		args: upTo(8), result: 0, saved: between(18, 31),
		syscall: upTo(6), number: 16,
	}
	goARM64 = convention{
		args: upTo(16), stack: 8, callee: 8, result: 0, saved: []uint8{28, 29, 31},
		syscall: upTo(6), number: 8,
	}
	arm32 = convention{
		args: upTo(4), result: 0, saved: []uint8{4, 5, 6, 7, 8, 9, 10, 11, 13},
		syscall: upTo(6), number: 7,
	}
	riscv = convention{
		args: between(10, 17), result: 10, saved: append([]uint8{2, 3, 4, 8, 9}, between(18, 27)...),
		syscall: between(10, 15), number: 17,
	}
)

// localX86 are the registers in which compilers for x86 pass arguments where
// they see all callers, and where source asks for it: those of GCC's regparm(3),
// which include the two of fastcall.
var localX86 = []uint8{rax, rdx, rcx}

func upTo(n uint8) []uint8 { return between(0, n-1) }

func between(first, last uint8) []uint8 {
	var out []uint8
	for i := first; i <= last; i++ {
		out = append(out, i)
	}
	return out
}

// conventionOf returns how the functions of a binary pass arguments.
func conventionOf(m *image.Image, isGo bool) *convention {
	windows := m.Format == image.PE
	switch m.Arch {
	case image.X86_64:
		switch {
		case isGo:
			return &goX86_64
		case windows:
			return &windows64
		}
		return &systemV
	case image.X86:
		if windows {
			return &windows32
		}
		return &cdecl
	case image.AArch64:
		switch {
		case isGo:
			return &goARM64
		case m.Format == image.MachO:
			return &darwinARM64
		}
		return &arm64
	case image.ARM:
		return &arm32
	}
	return &riscv
}

// cRuntime reports whether the functions of a Windows library leave the stack
// to their caller, as those of C's own library do.
func cRuntime(library string) bool {
	l := strings.ToLower(library)
	for _, p := range []string{"msvc", "ucrt", "vcruntime", "api-ms-win-crt", "crtdll", "cyg", "lib"} {
		if strings.HasPrefix(l, p) {
			return true
		}
	}
	return false
}
