package elf

// A need is a version of a library that the file wants.
type need struct{ version, library string }

const maxVersions = 1 << 15 // an index has 15 bits; the top bit hides

// readVersions reads the needed symbol versions (Linux Standard Base Core,
// "Symbol Versioning": Version Requirements).
func (f *file) readVersions() {
	b := f.table(tagVerneed, 0)
	names := f.dynamic.names
	if len(b) == 0 {
		s := f.sectionOfType(sectVerneed)
		b = f.sectionBytes(s)
		if !f.dynamic.present {
			names = f.names(f.sectionBytes(f.linked(s)))
		}
	}
	f.needs = map[uint16]need{}
	left := maxVersions
	for len(b) >= 16 && left > 0 {
		library, _ := names.at(uint64(f.u32(b[4:])))
		count, aux, next := f.u16(b[2:]), f.u32(b[8:]), f.u32(b[12:])
		for a := b[min(uint64(aux), uint64(len(b))):]; len(a) >= 16 && count > 0 && left > 0; count-- {
			left--
			if version, ok := names.at(uint64(f.u32(a[8:]))); ok && version != "" {
				f.needs[f.u16(a[6:])&0x7fff] = need{version, library}
				f.m.Versions = append(f.m.Versions, version)
			}
			step := f.u32(a[12:])
			if step == 0 {
				break
			}
			a = a[min(uint64(step), uint64(len(a))):]
		}
		left--
		if next == 0 {
			break
		}
		b = b[min(uint64(next), uint64(len(b))):]
	}
}

// symbolVersions returns the version indexes of the dynamic symbols.
func (f *file) symbolVersions() []byte {
	if b := f.table(tagVersym, 0); len(b) > 0 {
		return b
	}
	return f.sectionBytes(f.sectionOfType(sectVersym))
}
