package skeleton_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/skeleton"
	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

// TestDense writes functions that are nothing but branches: it must not take
// long.
func TestDense(t *testing.T) {
	const base, branches = 0x10000, 2800
	for _, every := range []int{1 << 30, 50, 3} { // how often there is a call
		for _, reach := range []int{20, 4000, branches * 6} {
			r := rand.New(rand.NewPCG(uint64(every), uint64(reach)))
			b := make([]byte, 0, branches*6+1)
			for i := range branches {
				if i%every == every-1 {
					b = append(b, 0xff, 0xd0, 0x90, 0x90, 0x90, 0x90) // call rax
					continue
				}
				to := min(max(0, i+r.IntN(reach/3)-reach/6), branches-1)
				b = binary.LittleEndian.AppendUint32(append(b, 0x0f, 0x84+byte(r.IntN(2))), uint32((to-i-1)*6)) // je, jne
			}
			b = append(b, 0xc3)
			im := &image.Image{
				Format: image.ELF, Arch: image.X86_64, Bits: 64, Data: b,
				Segments:  []image.Segment{{Addr: base, Size: uint64(len(b)), FileSize: uint64(len(b)), Access: image.Read | image.Execute}},
				Functions: image.Functions{List: []image.Function{{Addr: base, Size: uint64(len(b))}}},
			}
			c := &code.Code{Image: im, Functions: im.Functions.List, Read: true}
			values := value.New(c)
			values.Steps(0)
			start := time.Now()
			got := skeleton.Write(c, values, 0, skeleton.Options{})
			took := time.Since(start)
			t.Log(every, reach, took)
			if took > 5*time.Second {
				t.Errorf("a call every %d, jumps of %d: %v", every, reach, took)
			}
			if bad := wrong(got, 40); bad != "" {
				t.Errorf("%s\n%s", bad, got)
			}
		}
	}
}
