// Package nativedep reads lock files for the packages in them that can hold
// native code: binaries that they carry, download or build when they are
// installed. It runs no package manager and asks no registry; what a lock file
// does not say, it cannot know, and then it takes a package in rather than
// leave it out.
package nativedep

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// A Package is one version of a package that may hold native code.
type Package struct {
	Target target.Target // of npm or PyPI, with one exact version
	Line   int           // where the lock file names it first, from 1
	Why    string        // it may hold native code: a phrase

	// Build marks a package with what another one of the list needs on one
	// platform. A scan of that one usually looks at it too.
	Build bool
}

// A Lock is what a lock file says.
type Lock struct {
	Packages []Package      // that may hold native code, by line, each version once
	Total    int            // versions of packages that are locked, of any kind
	Notes    []finding.Note // about what cannot be looked at, and what the format does not say
}

// MaxSize is the largest lock file that is read, in bytes. Those of the largest
// monorepos have some 5 MB.
const MaxSize = 64 << 20

// A format is one kind of lock file. Its reader adds to a draft what it could
// read before the error that it returns.
type format struct {
	name string // as people call it
	is   func(base string) bool
	read func(d *draft, data []byte) error
}

var formats = []format{
	{"package-lock.json", named("package-lock.json"), readNPM},
	{"npm-shrinkwrap.json", named("npm-shrinkwrap.json"), readNPM},
	{"pnpm-lock.yaml", named("pnpm-lock.yaml"), readPNPM},
	{"yarn.lock", named("yarn.lock"), readYarn},
	{"requirements.txt", requirementsName.MatchString, readRequirements},
	{"poetry.lock", named("poetry.lock"), readTOML},
	{"uv.lock", named("uv.lock"), readTOML},
	{"pdm.lock", named("pdm.lock"), readTOML},
	{"pylock.toml", pylockName.MatchString, readTOML},
	{"Pipfile.lock", named("Pipfile.lock"), readPipfile},
}

var (
	requirementsName = pattern.New(`^(?:requirements.*|.*[-_.]requirements)\.txt$`)
	pylockName       = pattern.New(`^pylock(?:\.[^.]+)?\.toml$`) // PEP 751, "File Name"
)

func named(name string) func(string) bool { return func(base string) bool { return base == name } }

// Names lists the lock files that are known, as people call them.
func Names() []string {
	var out []string
	for _, f := range formats {
		out = append(out, f.name)
	}
	return out
}

// Known says whether name, which may have folders before it, is that of a lock
// file that can be read.
func Known(name string) bool { return find(name) != nil }

func find(name string) *format {
	base := path.Base(strings.ReplaceAll(name, `\`, "/"))
	if i := slices.IndexFunc(formats, func(f format) bool { return f.is(base) }); i >= 0 {
		return &formats[i]
	}
	return nil
}

// Read reads a lock file, whose format its name tells. If it breaks off, or is
// none, the error says so, and the Lock holds what could be read.
func Read(name string, data []byte) (*Lock, error) {
	f := find(name)
	switch {
	case f == nil:
		return &Lock{}, fault.New(fault.Invalid, "%s is no lock file that is known", name).Try("name one of %s", strings.Join(Names(), ", "))
	case len(data) > MaxSize:
		return &Lock{}, fault.New(fault.Exhausted, "%s is larger than %d MiB", name, MaxSize>>20)
	}
	d := &draft{path: name, left: map[string][]string{}}
	err := f.read(d, bytes.TrimPrefix(data, []byte("\ufeff")))
	lock := d.lock()
	if err != nil {
		return lock, fault.New(fault.Corrupt, "%s is no %s that can be read to its end", name, f.name).Because(err)
	}
	return lock, nil
}

// Native returns the packages of some lock files that may hold native code,
// sorted, each version once and without those that are builds of another one
// for one platform: the native dependencies of a repository, as people count
// them. Files are named by their paths; those that are no lock files say nothing.
func Native(files map[string][]byte) []target.Target {
	var out []target.Target
	for name, data := range files {
		if !Known(name) {
			continue
		}
		lock, _ := Read(name, data) // what could be read counts
		for _, p := range lock.Packages {
			if !p.Build {
				out = append(out, p.Target)
			}
		}
	}
	slices.SortFunc(out, compare)
	return slices.Compact(out)
}

func compare(a, b target.Target) int {
	return cmp.Or(cmp.Compare(a.Ecosystem, b.Ecosystem), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
}

// A draft collects what a lock file says, before it is judged.
type draft struct {
	path    string
	entries []entry
	left    map[string][]string // why something cannot be looked at, to what
	says    []string            // what else is to be known of the file

	// blind says that the format does not tell which packages are for some
	// platforms only, so that being optional must do.
	blind bool
}

// An entry is one package of a lock file.
type entry struct {
	target   target.Target
	line     int
	script   bool     // runs a script when it is installed
	platform bool     // is for some platforms only
	optional bool     // somebody can do without it
	needs    []string // names of packages that it depends on, optional ones too
	options  []string // names of those that are optional, where the format says so
	why      string   // it may hold native code, where the reader knows; of PyPI it always does
}

// add adds a package, or a note if its name or version cannot be those of a
// registry.
func (d *draft) add(eco target.Ecosystem, name, version string, e entry) {
	t, err := target.NewPackage(eco, name, version)
	if err != nil || !exact.MatchString(version) {
		d.leave("they name no version of a registry", name)
		return
	}
	e.target = t
	d.entries = append(d.entries, e)
}

// exact is what any one version looks like in both ecosystems.
var exact = pattern.New(`^[0-9][0-9A-Za-z.+!_-]*$`)

// leave notes that something cannot be looked at.
func (d *draft) leave(why, what string) { d.left[why] = append(d.left[why], what) }

// shown is how many names stand in a note.
const shown = 10

func (d *draft) lock() *Lock {
	lock := &Lock{Packages: d.judge()}
	seen := map[target.Target]bool{}
	for _, e := range d.entries {
		seen[e.target] = true
	}
	lock.Total = len(seen)
	for why, what := range d.left {
		slices.Sort(what)
		what = slices.Compact(what)
		names := make([]string, 0, shown)
		for _, name := range what[:min(len(what), shown)] {
			names = append(names, finding.Printable(finding.Redact(name), 120))
		}
		text := fmt.Sprintf("not looked at, as %s: %s", why, strings.Join(names, ", "))
		if more := len(what) - len(names); more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		lock.Notes = append(lock.Notes, finding.Note{Path: d.path, Text: text})
	}
	for _, text := range d.says {
		lock.Notes = append(lock.Notes, finding.Note{Path: d.path, Text: text, Informs: true})
	}
	lock.Notes = finding.ArrangeNotes(lock.Notes)
	return lock
}

// notByRegistry is why a package with another origin is left.
const notByRegistry = "they come from no registry"

// noScripts is what is to be known of formats that do not say it.
const noScripts = "this format does not say which packages run scripts when they are installed, so that only those are taken which show in another way that they may hold native code"
