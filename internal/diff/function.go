package diff

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/pair"
	"github.com/loupe-sec/loupe/internal/report"
)

// How many functions a diff names, of each kind.
const maxNamed = 12

// functions compares the functions of two binaries.
func functions(a, b *inventory.Binary, status report.DiffStatus) report.FunctionDiff {
	d := report.FunctionDiff{
		From: a.Functions.Count, To: b.Functions.Count,
		ChangedNames: []report.FunctionChange{}, AddedNames: []report.FunctionChange{}, RemovedNames: []report.FunctionChange{},
	}
	switch {
	case status == report.DiffSame:
		d.Paired, d.Same = d.From, d.From
		return d
	case status == report.DiffAdded:
		d.Added = d.To
		return d
	case status == report.DiffRemoved:
		d.Removed = d.From
		return d
	case a.Marks == nil || b.Marks == nil:
		return d
	}
	of := paired(a, b)
	taken := make([]bool, len(b.Marks.Functions))
	var changed, added, removed []ranked
	for i, j := range of {
		f := &a.Marks.Functions[i]
		if j < 0 {
			removed = append(removed, alone(a.Marks, f, false))
			continue
		}
		taken[j] = true
		d.Paired++
		g := &b.Marks.Functions[j]
		more, less := lacking(imports(b.Marks, g), imports(a.Marks, f)), lacking(imports(a.Marks, f), imports(b.Marks, g))
		if f.Body == g.Body && (f.Body != 0 || f.Size == g.Size) && len(more)+len(less) == 0 && slices.Equal(f.Texts, g.Texts) {
			d.Same++
			continue
		}
		changed = append(changed, ranked{
			FunctionChange: report.FunctionChange{From: called(f), To: called(g), FromSize: f.Size, ToSize: g.Size, AddedImports: more, RemovedImports: less},
			known:          f.Known && g.Known, news: len(more) + len(less), size: max(f.Size, g.Size) - min(f.Size, g.Size), named: f.Name != "" || g.Name != "",
			lesser: min(called(f), called(g)), greater: max(called(f), called(g)),
		})
	}
	for j, is := range taken {
		if !is {
			added = append(added, alone(b.Marks, &b.Marks.Functions[j], true))
		}
	}
	d.Changed, d.Added, d.Removed = len(changed), len(added), len(removed)
	d.ChangedNames, d.AddedNames, d.RemovedNames = most(changed), most(added), most(removed)
	return d
}

// paired pairs the functions of two binaries. Which of two possible pairs it
// takes must not hang on what is called old and what new, so it always asks in
// the same order.
func paired(a, b *inventory.Binary) []int32 {
	if a.SHA256 <= b.SHA256 {
		return pair.Functions(a.Marks, b.Marks)
	}
	of := slices.Repeat([]int32{-1}, len(a.Marks.Functions))
	for j, i := range pair.Functions(b.Marks, a.Marks) {
		if i >= 0 {
			of[i] = int32(j)
		}
	}
	return of
}

// imports returns the names of what a function imports.
func imports(m *inventory.Marks, f *inventory.Mark) []string {
	out := make([]string, 0, len(f.Imports))
	for _, i := range f.Imports {
		if i >= 0 && int(i) < len(m.Imports) {
			out = append(out, m.Imports[i])
		}
	}
	return out
}

// called returns what a function goes by.
func called(f *inventory.Mark) string {
	if f.Name == "" {
		return fmt.Sprintf("sub_%x", f.Addr)
	}
	return printable(native.Demangle(f.Name))
}

// ranked is a function with what says how telling it is.
type ranked struct {
	report.FunctionChange
	known           bool // of a library
	news            int  // imports that it names and did not, or no longer does
	size            uint64
	named           bool
	lesser, greater string
}

func alone(m *inventory.Marks, f *inventory.Mark, to bool) ranked {
	names := imports(m, f)
	slices.Sort(names)
	r := ranked{known: f.Known, news: len(names), size: f.Size, named: f.Name != "", lesser: called(f)}
	r.AddedImports, r.RemovedImports = []string{}, []string{}
	if to {
		r.To, r.ToSize, r.AddedImports = called(f), f.Size, names
	} else {
		r.From, r.FromSize, r.RemovedImports = called(f), f.Size, names
	}
	return r
}

// most returns the most telling functions: those of the program's own code
// before those of libraries, those that name other imports, those with a name,
// those whose size changed most.
func most(list []ranked) []report.FunctionChange {
	slices.SortStableFunc(list, func(a, b ranked) int {
		return cmp.Or(order(a.known, b.known), cmp.Compare(b.news, a.news), order(b.named, a.named), cmp.Compare(b.size, a.size), cmp.Compare(a.lesser, b.lesser), cmp.Compare(a.greater, b.greater))
	})
	out := make([]report.FunctionChange, 0, min(len(list), maxNamed))
	for _, r := range list[:min(len(list), maxNamed)] {
		out = append(out, r.FunctionChange)
	}
	return out
}

// order puts false before true.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
