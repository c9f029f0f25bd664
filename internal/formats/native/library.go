package native

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/loupe-sec/loupe/internal/formats/native/ar"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// archive parses the objects of a static library. Members of an import library
// hold no code, only the name of a function and of the library that has it;
// they are counted.
func archive(data []byte) (images []*image.Image, members, notes []string) {
	list, notes := ar.Members(data)
	other, parts := 0, 0            // parts are of the import directory
	imports := make(map[string]int) // by library
	for i, member := range list {
		if len(images) >= maxImages {
			notes = append(notes, fmt.Sprintf("not looked at: %d of %d members", len(list)-i, len(list)))
			break
		}
		if library, ok := importMember(member.Data); ok {
			imports[library]++
			continue
		}
		kind := Identify(head(member.Data))
		if kind == Import {
			parts++
			continue
		}
		if !kind.Native() || kind == Archive {
			other++
			continue
		}
		found, err := parse(kind, member.Data)
		if err != nil {
			notes = append(notes, fmt.Sprintf("%s: %v", clean(member.Name), err))
		}
		for _, m := range found {
			m.Offset += member.Offset
			images = append(images, m)
			members = append(members, clean(member.Name))
		}
	}
	if other > 0 {
		notes = append(notes, fmt.Sprintf("not looked at: %d of %d members, whose format is not read", other, len(list)))
	}
	if parts > 0 && len(imports) == 0 {
		notes = append(notes, fmt.Sprintf("import library: %d of %d members have no code of their own", parts, len(list)))
	}
	for _, library := range slices.Sorted(maps.Keys(imports)) {
		notes = append(notes, fmt.Sprintf("import library: %d names of %s", imports[library], library))
	}
	return images, members, notes
}

// importMember returns the library that a member of an import library names
// ("PE Format", Import Library Format: a header of 20 bytes, the name of the
// symbol, the name of the library).
func importMember(b []byte) (library string, ok bool) {
	const header, longest = 20, 1024
	if len(b) < header || binary.LittleEndian.Uint32(b) != 0xffff0000 || binary.LittleEndian.Uint16(b[4:]) != 0 {
		return "", false
	}
	names := b[header:min(len(b), header+2*longest)]
	symbol, rest, ok1 := bytes.Cut(names, []byte{0})
	name, _, ok2 := bytes.Cut(rest, []byte{0})
	if !ok1 || !ok2 || len(symbol) == 0 || len(name) == 0 {
		return "", false
	}
	return clean(string(name)), true
}
