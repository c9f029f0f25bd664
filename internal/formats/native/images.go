package native

import "github.com/loupe-sec/loupe/internal/formats/native/image"

// Images parses a file as Parse does and leaves out what is derived: for those
// who look at parts and places alone.
func Images(data []byte) ([]*image.Image, []string) {
	list, _, notes := images(data)
	return list, notes[:min(len(notes), maxNotes)]
}
