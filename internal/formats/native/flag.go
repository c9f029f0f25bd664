package native

import (
	"bytes"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Flag is a property of a binary that a person should see at once. None of
// them is a finding.
type Flag string

// The flags.
const (
	Stripped         Flag = "stripped"
	DebugInformation Flag = "debug information"
	Signed           Flag = "signed"
	StaticallyLinked Flag = "statically linked"
	Managed          Flag = ".NET"
	WritableCode     Flag = "writable code"      // a segment that may be written and executed
	EntryElsewhere   Flag = "entry outside code" // the entry point is not in an executable segment
	NoSections       Flag = "no section table"
	HasOverlay       Flag = "overlay"      // bytes behind the end of the image
	PackedUPX        Flag = "packed: UPX"  // by its own marks
	HighEntropy      Flag = "high entropy" // a section of some size that is compressed or encrypted
	Incomplete       Flag = "incomplete"   // parts could not be read: see the notes
)

func flags(b *Binary) []Flag {
	var out []Flag
	add := func(f Flag, is bool) {
		if is {
			out = append(out, f)
		}
	}
	m := b.Image
	add(Stripped, m.Stripped)
	add(DebugInformation, slices.ContainsFunc(m.Sections, isDebug))
	add(Signed, m.Signed)
	add(StaticallyLinked, m.Format != image.Wasm && (m.Linkage == image.Static || m.Linkage == image.StaticPIE))
	add(Managed, slices.ContainsFunc(m.Compilers, func(c string) bool { return strings.HasPrefix(c, ".NET CLR") }))
	add(WritableCode, slices.ContainsFunc(m.Segments, func(s image.Segment) bool {
		return s.Access&(image.Write|image.Execute) == image.Write|image.Execute && s.Size > 0
	}))
	add(EntryElsewhere, m.Entry != 0 && len(m.Segments) > 0 && !slices.ContainsFunc(m.Segments, func(s image.Segment) bool {
		return s.Access&image.Execute != 0 && m.Entry >= s.Addr && m.Entry-s.Addr < max(s.Size, s.FileSize)
	}))
	add(NoSections, m.Format == image.ELF && len(m.Sections) == 0)
	add(HasOverlay, m.Overlay.Size > 0)
	add(PackedUPX, upx(m))
	add(HighEntropy, highEntropy(b))
	add(Incomplete, len(m.Notes) > 0)
	return out
}

func isDebug(s image.Section) bool {
	return s.FileSize > 0 && (strings.HasPrefix(s.Name, ".debug_info") || strings.HasPrefix(s.Name, ".zdebug_info") || s.Name == "__DWARF,__debug_info" || s.Name == "__DWARF,__zdebug_info")
}

// upx looks for the names that the packer gives sections, or for the mark in
// front of its loader.
func upx(m *image.Image) bool {
	if m.Section("UPX0") != nil || m.Section("UPX1") != nil || m.Section("__TEXT,upxTEXT") != nil {
		return true
	}
	head := m.Data[:min(len(m.Data), 1024)]
	tail := m.Data[max(0, len(m.Data)-64):]
	return bytes.Contains(head, []byte("UPX!")) && bytes.Contains(tail, []byte("UPX!"))
}

// highEntropy reports whether a section of at least 16 KB is as even as
// compressed or encrypted bytes are. Debug information is often compressed.
func highEntropy(b *Binary) bool {
	const size, bits = 16 << 10, 7.9
	for i, e := range b.Measured.Sections {
		if s := &b.Sections[i]; e >= bits && s.FileSize >= size && !strings.Contains(s.Name, "debug") {
			return true
		}
	}
	return len(b.Sections) == 0 && len(b.Data) >= size && b.Measured.Whole >= bits
}
