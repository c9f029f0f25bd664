package known

import (
	"math"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

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

// Read returns the body of code, where it may end, and whether it is made of
// instructions alone. It is read instruction by instruction, or as functions
// are, which has to come to the same.
func Read(arch image.Arch, code []byte, slots Slots, stepwise bool) (body []byte, ends []int, whole bool) {
	s := stream{arch: arch, addr: 0x1000, code: code, slots: slots}
	for s.at < len(s.code) {
		f := on
		if stepwise {
			f = s.step()
		} else {
			f = s.advance(math.MaxInt)
		}
		switch f {
		case stop, padding:
			ends = append(ends, len(s.body))
		case broken:
			return s.body, ends, false
		}
	}
	return s.body, ends, true
}
