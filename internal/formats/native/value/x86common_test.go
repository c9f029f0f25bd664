package value

import (
	"debug/elf"
	"math/rand/v2"
	"reflect"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

// TestCommon holds the decoder of common instructions against x86asm: both must
// give the same ops for the code of a program of the system, for each opcode
// with many operands, and for noise.
func TestCommon(t *testing.T) {
	const addr = 0x40_1000
	lifted := func(x x86asm.Inst, bits int) (inst, []op) {
		r := &Reader{}
		l := x86{decoder: &decoder{r: r}, x: x, next: addr + uint64(x.Len), word: uint8(bits / 8)}
		in := inst{via: none, a: none, b: none}
		if bits == 32 && x.Op == x86asm.CALL {
			return in, nil // looks at what it calls
		}
		l.lift(&in)
		return in, l.ops
	}
	read, all := 0, 0
	check := func(code []byte, bits int) int {
		var quick x86asm.Inst
		whole, err := x86asm.Decode(code[:min(len(code), 15)], bits)
		all++
		if common(&quick, code, bits) {
			read++
			in, ops := lifted(quick, bits)
			want, wantOps := lifted(whole, bits)
			if err != nil || quick.Len != whole.Len || quick.Op != whole.Op || in != want || !reflect.DeepEqual(ops, wantOps) {
				t.Fatalf("% x in %d bits: %v, %+v, %v; want %v, %+v, %v", code[:min(len(code), 15)], bits, quick, in, ops, whole, want, wantOps)
			}
		}
		if err != nil || whole.Len == 0 {
			return 1
		}
		return whole.Len
	}
	random := rand.New(rand.NewPCG(1, 2))
	code := make([]byte, 32)
	for _, bits := range []int{32, 64} {
		for opcode := range 256 {
			for range 2000 {
				for i := range code {
					code[i] = byte(random.Uint32())
				}
				at := 0
				if random.IntN(2) == 0 {
					code[0], at = 0x40|code[0]&15, 1
				}
				if random.IntN(4) == 0 {
					code[at], at = 0x0f, at+1
				}
				code[at] = byte(opcode)
				check(code, bits)
			}
		}
	}
	read, all = 0, 0
	f, err := elf.Open("/bin/sh")
	if err != nil || f.Machine != elf.EM_X86_64 {
		t.Skip("/bin/sh is no ELF program for x86-64 here")
	}
	defer f.Close()
	text, err := f.Section(".text").Data()
	if err != nil {
		t.Fatal(err)
	}
	for len(text) > 0 {
		text = text[min(check(text, 64), len(text)):]
	}
	if read < all*8/10 {
		t.Errorf("%d of %d instructions of /bin/sh are common", read, all)
	}
	t.Logf("%d of %d instructions of /bin/sh are common", read, all)
}
