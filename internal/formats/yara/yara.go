// Package yara reads a subset of YARA's rules and tries them on bytes. The
// language is that of "Writing YARA rules" in the documentation of YARA 4
// (https://yara.readthedocs.io/en/stable/writingrules.html); docs/yara.md says
// which parts of it are here.
//
//	f, err := yara.Parse("mine.yar", text)     // err: this is no YARA
//	set, refused := yara.Compile(f)            // refused: rules outside the subset, each with a reason
//	matches, notes, err := set.Match(ctx, data)
//
// A rule either means what it means to YARA or is refused by name: nothing is
// passed over in silence. Modules, which read executable formats in C, are
// refused; so are external variables.
//
// All strings of all rules are found in one pass. Each pattern names a few
// short atoms of which every match holds one; where an atom stands, the
// pattern is tried forward and backward from there, as YARA does. Patterns run
// as automata over bytes without backtracking, so that a file cannot make one
// take exponential time.
package yara
