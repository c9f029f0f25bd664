package known

import "github.com/loupe-sec/loupe/internal/formats/native/image"

// InstructionSize returns the size of the instruction at the start of code, and
// 0 if there is none.
func InstructionSize(arch image.Arch, code []byte) int {
	var x x86
	ok := x.read(code, arch == image.X86_64)
	if !ok {
		return 0
	}
	return x.size
}
