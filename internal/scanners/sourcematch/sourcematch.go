// Package sourcematch says how well the binaries of a package go with the source
// that is published beside them: whether the texts that the source would leave
// in a binary are found in it.
//
// A match is a sign and no proof: who changes the source that was compiled adds
// to it and keeps the rest. No match where there should be one says more.
package sourcematch

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/formats/sourcetext"
)

// Sources collects what the files of source would leave in a binary.
var Sources = &scan.Scanner{
	Name:    "sources",
	Doc:     "read the source code that native binaries may be made from",
	Version: 1,
	Gives:   []scan.Fact{inventory.Sources},
	Wants: func(f *scan.File) bool {
		return f.Size <= maxSource && sourcetext.LanguageOf(f.Path) != sourcetext.None
	},
	File: source,
}

// Scanner holds binaries against it.
var Scanner = &scan.Scanner{
	Name:    "sourcematch",
	Doc:     "say how well binaries go with the source published beside them",
	Version: 2,
	Needs:   []scan.Fact{inventory.Sources, inventory.Binaries},
	Gives:   []scan.Fact{inventory.SourceMatches},
	Run:     run,
}

// maxSource bounds a file of source, in bytes: SQLite's is nine million.
const maxSource = 16 << 20

func source(_ context.Context, p *scan.Pass, f *scan.File) error {
	data, err := f.Data()
	if err != nil {
		return err
	}
	u := sourcetext.Read(sourcetext.LanguageOf(f.Path), data)
	if len(u.Literals) == 0 {
		return nil
	}
	header := strings.HasPrefix(strings.ToLower(path.Ext(f.Path)), ".h") || path.Ext(f.Path) == ".pxd"
	inventory.Sources.Add(p, &inventory.Source{Path: f.Path, Literals: u.Literals, Header: header})
	return nil
}

// A group is the source of one package.
type group struct {
	units []sourcetext.Unit
	all   []string // different literals, sorted
	index *sourcetext.Index
	code  int // literals that are not in headers
}

func run(ctx context.Context, p *scan.Pass) error {
	groups := collect(inventory.Sources.All(p))
	if len(groups) == 0 {
		return nil
	}
	var file string
	var data []byte
	for _, b := range inventory.Binaries.All(p) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		g := groups[home(b.Path)]
		if g == nil {
			g = groups[""] // platform packages come without the source
		}
		if g == nil || b.Origin == inventory.FromEmbedded {
			continue
		}
		if file != b.Path {
			var err error
			if data, err = fs.ReadFile(p.FS, b.Path); err != nil {
				continue // whoever read it before has said so
			}
			file = b.Path
		}
		from := min(max(b.Offset, 0), int64(len(data)))
		slice := data[from:min(from+b.Size, int64(len(data)))]
		inventory.SourceMatches.Add(p, g.match(b, slice))
	}
	return nil
}

// collect groups source by package.
func collect(sources []*inventory.Source) map[string]*group {
	groups := map[string]*group{}
	seen := map[string]map[string]bool{}
	for _, s := range sources {
		at := home(s.Path)
		g := groups[at]
		if g == nil {
			g = &group{}
			groups[at], seen[at] = g, map[string]bool{}
		}
		g.units = append(g.units, sourcetext.Unit{Literals: s.Literals})
		for _, l := range s.Literals {
			if !seen[at][l] {
				seen[at][l] = true
				g.all = append(g.all, l)
				if !s.Header {
					g.code++
				}
			}
		}
	}
	for _, g := range groups {
		slices.Sort(g.all)
		g.index = sourcetext.NewIndex(g.all)
	}
	return groups
}

// home returns the folder of the package that a file belongs to, as far as its
// path tells: what lies in node_modules belongs to others.
func home(file string) string {
	const folder = "node_modules/"
	i := strings.LastIndex(file, folder)
	if i < 0 {
		return ""
	}
	parts := strings.SplitN(file[i+len(folder):], "/", 3)
	n := 1
	if strings.HasPrefix(parts[0], "@") {
		n = 2
	}
	return file[:i] + folder + strings.Join(parts[:min(n, len(parts))], "/")
}

// Levels of a match. What separates a package's own source from others' was
// measured on packages of npm and PyPI; docs/performance.md has the figures.
const (
	sure    = 15  // texts that make a level high or low worth saying
	some    = 6   // texts that make it worth saying anything
	high    = 0.6 // of the texts of files that seem to be part of the binary
	medium  = 0.25
	telling = 30 // telling texts of a binary that no source explains
)

func (g *group) match(b *inventory.Binary, data []byte) inventory.SourceMatch {
	hits := g.index.Find(data, b.Format == "PE")
	m := sourcetext.Compare(g.units, func(l string) bool {
		i, _ := slices.BinarySearch(g.all, l)
		return hits[i]
	})
	out := inventory.SourceMatch{Path: b.Path, Slice: b.Slice, Score: m.Score, Found: m.Found, Of: m.Of, Level: inventory.MatchUnknown}
	share := 0.0
	if m.Of > 0 {
		share = float64(m.Found) / float64(m.Of)
	}
	switch {
	case m.Found >= sure && share >= high:
		out.Level = inventory.MatchHigh
	case m.Found >= some && share >= medium:
		out.Level = inventory.MatchMedium
	case g.code < sure || len(b.Strings) < telling:
		out.Reason = "The source beside it has too few texts, or the binary does, to say whether they belong together."
	case m.Found > 0 && m.Found < some:
		out.Reason = fmt.Sprintf("Only %d texts of the source beside it are found in the binary, too few to say whether they belong together.", m.Found)
	case !addon(b):
		out.Reason = "Hardly any text of the source beside it is found in the binary, but it is no add-on that a host loads by itself: it may be a library or a program of others, whose source is published elsewhere."
	case m.Found > 0:
		out.Level = inventory.MatchLow
		out.Reason = fmt.Sprintf("Of the %d texts of the files of source that seem to be part of it, only %d are found in the binary.", m.Of, m.Found)
	default:
		out.Level = inventory.MatchLow
		out.Reason = fmt.Sprintf("Of the %d texts of the source beside it, hardly any is found in the binary.", len(g.all))
	}
	if out.Level == inventory.MatchHigh || out.Level == inventory.MatchMedium {
		out.Reason = fmt.Sprintf("Of the %d texts of the files of source that seem to be part of it, %d are found in the binary.", m.Of, m.Found)
	}
	return out
}

// addon reports whether a binary is what Node, Python or Java loads as a
// package's own code: it exports what they call first, or takes what they offer
// to their add-ons. Libraries that are bundled with it do neither.
func addon(b *inventory.Binary) bool {
	return slices.ContainsFunc(b.Exports, func(name string) bool { return entry.MatchString(name) }) ||
		slices.ContainsFunc(b.Imports, func(name string) bool { return offered.MatchString(name) })
}

// The names that add-ons are known by (Node.js "C++ addons" and "Node-API",
// Python "Extending and Embedding", "Java Native Interface Specification"), on
// Apple's systems with a line before them.
var (
	entry   = pattern.New(`^_?(PyInit_|PyInitU_|napi_register_module|node_register_module|JNI_OnLoad|Java_)`)
	offered = pattern.New(`^_?(napi_[a-z]|node_api_[a-z]|node_module_register|_?Py[A-Z_])`)
)
