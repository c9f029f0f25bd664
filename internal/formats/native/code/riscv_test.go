package code_test

import (
	"debug/elf"
	"path/filepath"
	"slices"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
)

// branchesRISCV returns the calls and jumps of one instruction.
func branchesRISCV(t *testing.T, path string) []branch {
	list, _ := disassembled(t, path, []string{"jal"}, []string{"j"})
	return list
}

// TestRISCVLinked compares with the disassembly and the relocations of programs
// that hold a good part of a C library.
func TestRISCVLinked(t *testing.T) {
	for name, path := range crossLinked(t, "riscv64-linux-gnu-gcc") {
		t.Run(name, func(t *testing.T) {
			c := read(t, path)
			compareBranches(t, c, branchesRISCV(t, path))
			compareCalls(t, c, path)
			comparePool(t, c, path, elf.R_RISCV_PCREL_HI20, elf.R_RISCV_GOT_HI20, elf.R_RISCV_LO12_I, elf.R_RISCV_LO12_S)
		})
	}
}

// compareCalls looks at the calls that the linker put there, by relocations:
// most take two instructions, which it may have made into one.
func compareCalls(t *testing.T, c *code.Code, path string) {
	t.Helper()
	starts := map[uint64]bool{}
	for _, f := range c.Functions {
		starts[f.Addr] = true
	}
	found := map[uint64]uint64{}
	for _, r := range c.Refs {
		if r.Kind == code.Call || r.Kind == code.Jump {
			found[r.Addr] = r.Target
		}
	}
	total, missed := 0, 0
	for _, m := range relocated(t, path, uint32(elf.R_RISCV_CALL), uint32(elf.R_RISCV_CALL_PLT), uint32(elf.R_RISCV_JAL), uint32(elf.R_RISCV_RVC_JUMP)) {
		if fn := c.Func(m.at); !starts[m.to] || fn < 0 || c.Functions[fn].Addr == m.to {
			continue
		}
		total++
		if found[m.at] != m.to && found[m.at+4] != m.to {
			if missed++; missed < 8 {
				t.Logf("missed: %#x calls %#x", m.at, m.to)
			}
		}
	}
	t.Logf("%d calls, %d missed", total, missed)
	if total > 20 && float64(missed) > 0.02*float64(total) {
		t.Errorf("%d of %d calls are missed", missed, total)
	}
}

// TestRISCVSystem compares with the disassembly of the libraries of a cross
// compiler.
func TestRISCVSystem(t *testing.T) {
	for _, path := range samples(2, "/usr/riscv64-linux-gnu/lib/*.so*") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			compareBranches(t, read(t, path), branchesRISCV(t, path))
		})
	}
}

// TestRISCVSyscalls reads numbers of system calls.
func TestRISCVSyscalls(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "p.s", `
	.globl _start
_start:	li a7, 198
	ecall
	lui a7, 1
	addiw a7, a7, -2048
	ecall
	mv a7, a0
	ecall
	.size _start, . - _start
`)
	cross(t, dir, "clang-16", "-target", "riscv64-linux-gnu", "-march=rv64gc", "-mno-relax", "-nostdlib", "-static", "-fuse-ld=lld-16", "p.s", "-o", "out")
	c := read(t, filepath.Join(dir, "out"))
	var got []int
	for _, s := range c.Syscalls {
		got = append(got, s.Number)
	}
	if want := []int{198, 2048, -1}; !slices.Equal(got, want) {
		t.Errorf("numbers %v, want %v", got, want)
	}
}
