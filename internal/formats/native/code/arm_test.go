package code_test

import (
	"debug/elf"
	"path/filepath"
	"testing"
)

var (
	callsARM = []string{"bl", "blx"}
	jumpsARM = []string{"b", "b.w"}
)

// TestARMLinked compares with the disassembly and the relocations of programs
// that hold a good part of a C library, and are of Thumb code but for some
// hand-written functions.
func TestARMLinked(t *testing.T) {
	for name, path := range crossLinked(t, "arm-linux-gnueabihf-gcc") {
		t.Run(name, func(t *testing.T) {
			c := read(t, path)
			list, _ := disassembled(t, path, callsARM, jumpsARM)
			compareBranches(t, c, list)
			comparePool(t, c, path, elf.R_ARM_ABS32, elf.R_ARM_REL32, elf.R_ARM_MOVT_ABS, elf.R_ARM_THM_MOVT_ABS, elf.R_ARM_GOT_PREL, elf.R_ARM_GOT32)
		})
	}
}

// TestARMSystem compares with the disassembly of the libraries of a cross
// compiler.
func TestARMSystem(t *testing.T) {
	for _, path := range samples(2, "/usr/arm-linux-gnueabihf/lib/*.so*") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c := read(t, path)
			list, _ := disassembled(t, path, callsARM, jumpsARM, "--triple=thumbv7-linux-gnueabihf")
			compareBranches(t, c, list)
		})
	}
}
