package macho

import (
	"bytes"
	"fmt"

	"github.com/loupe-sec/loupe/internal/formats/native/ar"
	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

const (
	maxSlices  = 42 // a Java class file has its version here, which starts at 43
	maxObjects = 10_000

	// Slices of a sound file do not overlap, so they are no longer than the
	// file; these may sum up to twice that before the rest is left.
	maxSliceRatio = 2
)

// parseFat reads struct fat_header and its fat_arch or fat_arch_64 entries,
// which are big-endian in every file.
func parseFat(data []byte) ([]*image.Image, error) {
	c := cursor.New(data, true)
	wide := c.U32() == fatMagic64
	count := int(c.U32())

	var images []*image.Image
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	left := maxSliceRatio * uint64(len(data))
	var end uint64
	for i := range count {
		cpu, sub := c.U32(), c.U32()
		offset, size := c.Word(wide), c.Word(wide)
		c.U32() // align
		if wide {
			c.U32() // reserved
		}
		if c.Err() != nil {
			note("fat header: %d of %d slices are there", i, count)
			break
		}
		slice, whole := cursor.Slice(data, offset, size)
		if !whole {
			note("slice %d (%s): %d of %d bytes at offset %#x are there", i, archName(cpu), len(slice), size, offset)
		}
		if len(slice) == 0 {
			continue
		}
		end = max(end, offset+uint64(len(slice)))
		if uint64(len(slice)) > left {
			note("slice %d (%s) is not read: slices overlap", i, archName(cpu))
			continue
		}
		left -= uint64(len(slice))

		found, err := parseSlice(slice, int64(offset))
		if err != nil {
			note("slice %d (%s) at offset %#x: %v", i, archName(cpu), offset, err)
			continue
		}
		for _, m := range found {
			if want := archName(cpu); m.Arch != want {
				m.Notef("the fat header says %s (subtype %#x)", want, sub)
			}
		}
		images = append(images, found...)
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("macho: no slice of %d can be read: %q", count, notes)
	}
	if end < uint64(len(data)) && len(bytes.Trim(data[end:], "\x00")) > 0 {
		note("%d bytes behind the last slice are not read", uint64(len(data))-end)
	}
	for _, n := range notes {
		images[0].Notef("%s", n)
	}
	return images, nil
}

// parseSlice reads one slice: a Mach-O file or a static library of them.
func parseSlice(data []byte, offset int64) ([]*image.Image, error) {
	if !ar.Is(data) {
		m, err := parseThin(data, offset)
		if err != nil {
			return nil, err
		}
		return []*image.Image{m}, nil
	}
	members, notes := ar.Members(data)
	var images []*image.Image
	other := 0
	for _, member := range members {
		if len(images) == maxObjects {
			notes = append(notes, fmt.Sprintf("static library: more than %d objects; the rest is not read", maxObjects))
			break
		}
		m, err := parseThin(member.Data, offset+member.Offset)
		if err != nil {
			other++
			continue
		}
		m.Name = member.Name
		images = append(images, m)
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("static library without Mach-O objects")
	}
	if other > 0 {
		notes = append(notes, fmt.Sprintf("static library: %d members are not Mach-O objects", other))
	}
	for _, n := range notes {
		images[0].Notef("%s", n)
	}
	return images, nil
}
