package finding

import (
	"cmp"
	"slices"
)

// A Note is something that was not looked at, or not to the end, and why.
// Silence is never a clean bill of health: every report shows its notes.
type Note struct {
	Scanner string `json:"scanner"` // empty if the target itself could not be read there
	Path    string `json:"path"`    // relative to the target; empty for all of it
	Text    string `json:"text"`    // "not looked at: …", a phrase without a full stop

	// Informs marks the few notes about something that was looked at: that a
	// version is deprecated, say.
	Informs bool `json:"-"`
}

// CountUnread counts the notes about what was not looked at, or not to the end.
func CountUnread(notes []Note) (count int) {
	for _, n := range notes {
		if !n.Informs {
			count++
		}
	}
	return count
}

// ArrangeNotes sorts notes and drops repeats.
func ArrangeNotes(notes []Note) []Note {
	slices.SortFunc(notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Scanner, b.Scanner), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(notes)
}
