package workspace

import (
	"cmp"
	"time"
)

// Limits bound what unpacking may cost. A limit that is met leaves a note and
// cuts off one member, one archive or all further unpacking; what was read
// before stays visible. A zero field means the default.
type Limits struct {
	// Depth is of archives inside archives: with 1, archives are opened but
	// those inside of them are not. It ends archives that contain themselves.
	Depth int

	// Entries is how many files and folders all archives may have together.
	// Each costs some hundred bytes of memory however small it is.
	Entries int

	// Bytes is how much all archives may unpack to together, counted again
	// for archives inside archives. It bounds the work of every reader.
	Bytes int64

	// FileBytes is how much of one member is kept. A longer one ends there
	// and the members after it are read as usual.
	FileBytes int64

	// Ratio is unpacked to packed size. Once an archive has unpacked to
	// RatioFrom bytes, a member above the ratio ends where it meets it: the
	// bomb detector. Real software stays below 100, and small bombs do no harm.
	Ratio     int64
	RatioFrom int64

	// NameBytes is the length of a member's whole name. No system can
	// create the files that have longer ones.
	NameBytes int

	// PathDepth is how many folders a member, or a file of a host folder,
	// may lie in. Each folder on the way costs memory and recursion.
	PathDepth int

	// Time is how long decompressors and readers of archives may work, over
	// the whole target. It is the last resort for input that is slow
	// rather than big, and the only limit that depends on the machine.
	Time time.Duration

	// Memory is how much unpacked content is held in memory; more of it goes
	// to files in the temporary folder. Meeting it cuts nothing off.
	Memory int64
}

// Defaults let through the largest packages of the public registries.
var Defaults = Limits{
	Depth:     8,
	Entries:   500_000,
	Bytes:     8 << 30,
	FileBytes: 2 << 30,
	Ratio:     200,
	RatioFrom: 32 << 20,
	NameBytes: 4096,
	PathDepth: 128,
	Time:      5 * time.Minute,
	Memory:    128 << 20,
}

func (l Limits) orDefaults() Limits {
	return Limits{
		Depth:     cmp.Or(l.Depth, Defaults.Depth),
		Entries:   cmp.Or(l.Entries, Defaults.Entries),
		Bytes:     cmp.Or(l.Bytes, Defaults.Bytes),
		FileBytes: cmp.Or(l.FileBytes, Defaults.FileBytes),
		Ratio:     cmp.Or(l.Ratio, Defaults.Ratio),
		RatioFrom: cmp.Or(l.RatioFrom, Defaults.RatioFrom),
		NameBytes: cmp.Or(l.NameBytes, Defaults.NameBytes),
		PathDepth: cmp.Or(l.PathDepth, Defaults.PathDepth),
		Time:      cmp.Or(l.Time, Defaults.Time),
		Memory:    cmp.Or(l.Memory, Defaults.Memory),
	}
}
