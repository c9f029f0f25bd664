package native

import (
	"sync/atomic"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// An Opened file is parsed, and nothing is derived from it yet.
type Opened struct {
	data    []byte
	images  []*image.Image
	members []string // of a static library, by image
	notes   []string
	used    atomic.Bool // images have been derived from
}

// Open parses a file, for Binaries and for those who look at parts and places
// alone.
func Open(data []byte) *Opened {
	o := &Opened{data: data}
	o.images, o.members, o.notes = images(data)
	return o
}

// Images returns all images in the file and notes about the file as a whole.
func (o *Opened) Images() ([]*image.Image, []string) {
	return o.images, o.notes[:min(len(o.notes), maxNotes)]
}

// Binaries returns what Parse does. It adds to the notes and functions of the
// images, and parses the file again if that was done before.
func (o *Opened) Binaries() ([]*Binary, []string) {
	out, notes := o.Begun()
	for _, b := range out {
		b.Finish()
	}
	return out, notes
}

// Begun returns what Binaries does before Finish was called for them.
func (o *Opened) Begun() ([]*Binary, []string) {
	if o.used.Swap(true) {
		return Open(o.data).Begun()
	}
	out := make([]*Binary, 0, len(o.images))
	for i, m := range o.images {
		b := &Binary{Image: m}
		if o.members != nil {
			b.Member = o.members[i]
		}
		if err := guard("what follows from it", func() error { b.derive(); return nil }); err != nil {
			m.Notef("%v", err)
		}
		out = append(out, b)
	}
	return out, o.notes[:min(len(o.notes), maxNotes)]
}

// Images is Open and its Images.
func Images(data []byte) ([]*image.Image, []string) { return Open(data).Images() }
