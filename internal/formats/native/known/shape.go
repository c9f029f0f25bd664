package known

import "github.com/loupe-sec/loupe/internal/formats/native/image"

// Shape returns the key of a function however short it is, and reports whether
// it is too short for the key to tell it from others. The key is 0 if the
// function is too long or not made of instructions alone.
func Shape(arch image.Arch, addr uint64, code []byte, slots Slots) (key Key, short bool) {
	s := stream{arch: arch, addr: addr, code: code[:min(len(code), most)], slots: slots}
	for s.at < len(s.code) {
		if s.step() == broken {
			return 0, false
		}
	}
	if len(code) > most || len(s.body) == 0 {
		return 0, false
	}
	return s.key(len(s.body)), len(s.body) < least
}
