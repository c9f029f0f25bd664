package known

import (
	"math"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Shape is what of a function lasts from one binary to another.
type Shape struct {
	Key   Key  // 0 if the function is too long or not made of instructions alone
	Size  int  // in bytes, without the padding at its end
	Short bool // so short that others have the same key by chance
}

// ShapeOf returns the shape of the function whose code is given, up to its end
// or to the next function. Unlike [KeyOf] it has a key for short ones too.
func ShapeOf(arch image.Arch, addr uint64, code []byte, slots Slots) Shape {
	s := stream{arch: arch, addr: addr, code: code[:min(len(code), most)], slots: slots}
	end := 0
	for s.at < len(s.code) {
		switch s.advance(math.MaxInt) {
		case broken:
			return Shape{Size: len(code)}
		case padding:
		default:
			end = s.at
		}
	}
	if len(code) > most {
		return Shape{Size: len(code)}
	}
	if len(s.body) == 0 {
		return Shape{Size: end}
	}
	return Shape{Key: keyOf(s.body), Size: end, Short: len(s.body) < least}
}
