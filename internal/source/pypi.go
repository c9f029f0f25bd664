package source

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// PyPI gets a distribution from the Python index that the user's settings name:
// one wheel for each platform, and the source distribution. Each is a file at
// the root of the workspace, with its members behind it.
var PyPI = &Source{
	Name:  "pypi",
	Doc:   "a version of a Python distribution, with a wheel for each platform and the source",
	Takes: func(t target.Target) bool { return t.Kind == target.Package && t.Ecosystem == target.PyPI },
	Open:  openPyPI,
}

func openPyPI(ctx context.Context, req Request) (opened *Opened, err error) {
	if err := CheckPlatform(target.PyPI, req.Platform); err != nil {
		return nil, err
	}
	wanted, err := parseChoice(req.Platform)
	if err != nil {
		return nil, err
	}
	settings, err := loadPipSettings()
	if err != nil {
		return nil, err
	}
	if settings.noIndex {
		return nil, noIndex()
	}
	f := newFetcher(req)
	settings.trustCertificates(f.egress)
	o := newOpened(req, f)
	defer func() {
		if err != nil {
			o.Close()
		}
	}()

	project := target.NormalizePyPI(req.Target.Name)
	p, err := askIndexes(ctx, f, settings, project)
	if err != nil {
		return nil, err
	}
	files, err := p.pick(req.Target.Version)
	if err != nil {
		return nil, err
	}
	version := files[0].version.text
	if o.Target, err = target.NewPackage(target.PyPI, project, version); err != nil {
		return nil, fault.New(fault.Corrupt, "the index lists the version %q of %q, which is none", version, project).Try("name another version")
	}
	o.Release = &inventory.Release{
		Ecosystem: target.PyPI,
		Name:      project,
		Version:   version,
		Published: published(files),
		Yanked:    yankedReason(files),
	}
	if o.Release.Yanked != "" {
		o.inform("", "the version is yanked: %s", oneLine(o.Release.Yanked))
	}
	if others := p.others(version); len(others) > 0 {
		o.note("", "not looked at: files that are neither wheels nor sources: %s", enumerate(others, 8))
	}
	chosen, left, none := chooseFiles(files, wanted)
	if len(chosen) == 0 {
		return nil, fault.New(fault.NotFound, "%s %s has no file for the platform %s", project, version, cmp.Or(req.Platform, "any")).
			Try("use --platform all, or one of those that it has: %s", enumerate(left, 8))
	}
	if len(left) > 0 {
		o.note("", "not looked at: wheels for other platforms, as chosen by --platform %s: %s", req.Platform, strings.Join(left, ", "))
	}
	if len(none) > 0 {
		o.note("", "this release has no wheel for %s, as chosen by --platform; looked at: %s", strings.Join(none, ", "), enumerate(fileNames(chosen), 8))
	}
	if n := len(files) - len(chosen) - len(left); n > 0 {
		o.note("", "not looked at: %d more files of this version, for other Pythons or systems than the newest", n)
	}
	if err := fetchFiles(ctx, o, settings, chosen); err != nil {
		return nil, err
	}
	return o, describe(o)
}

func noIndex() error {
	return fault.New(fault.Unavailable, "pip's settings forbid to ask an index (no-index)").
		Try("unset no-index, or scan a wheel from disk")
}

func fileNames(files []distFile) []string {
	var all []string
	for _, f := range files {
		all = append(all, f.name)
	}
	return all
}

// A project is all that the indexes have of one name.
type project struct {
	name     string
	host     string // of the main index, for messages
	versions map[string][]distFile
	strange  []string // names of files that are neither wheel nor source
}

// askIndexes merges what all indexes have, as pip does: a file name that comes
// again is the same file.
func askIndexes(ctx context.Context, f *fetcher, settings pipSettings, name string) (*project, error) {
	p := &project{name: name, host: hostOf(settings.indexes[0].base), versions: map[string][]distFile{}}
	seen := map[string]bool{}
	versions := pyVersions{}
	found := false
	for _, index := range settings.indexes {
		address := index.base + "/" + name + "/"
		if err := f.egress.Trust(address); err != nil {
			return nil, err
		}
		d, err := f.document(ctx, address, acceptSimple, cmp.Or(index.authorization, settings.authorization(address)))
		if s, ok := errors.AsType[status](err); ok {
			return nil, s.fault(pipPlaces)
		}
		if err != nil {
			return nil, err
		}
		if d.Missing {
			continue
		}
		found = true
		files, err := parseSimple(d.Body, d.Type, d.URL)
		if err != nil {
			return nil, fault.New(fault.Corrupt, "what %s says about %q is no Python index's answer", hostOf(index.base), name).
				Try("check the index in %s", pipPlaces).Because(err)
		}
		for _, file := range files {
			if seen[file.name] {
				continue
			}
			seen[file.name] = true
			if dist, ok := parseDist(file, name, versions.parse); ok {
				p.versions[dist.version.key] = append(p.versions[dist.version.key], dist)
			} else {
				p.strange = append(p.strange, file.name)
			}
		}
	}
	if !found {
		return nil, fault.New(fault.NotFound, "there is no Python package %q at %s", name, p.host).
			Try("check the spelling, and the index in %s", pipPlaces)
	}
	if len(p.versions) == 0 {
		return nil, fault.New(fault.NotFound, "the Python package %q has no files that can be installed", name).
			Try("check the index in %s", pipPlaces)
	}
	return p, nil
}

// pick chooses a version as pip does and returns its files: exactly what spec
// names, or the newest within it, and the newest of all without one. Yanked
// versions and pre-releases are only taken if they are named or, for
// pre-releases, if there is nothing else.
func (p *project) pick(spec string) ([]distFile, error) {
	spec = strings.TrimSpace(spec)
	var within pySpecifier
	switch {
	case spec == "":
	case strings.ContainsAny(spec, "<>=!~,"):
		var err error
		if within, err = parsePySpecifier(spec); err != nil {
			return nil, fault.New(fault.Invalid, "%q is not a range of Python versions", spec).Try(`write it like ">=1.4,<2"`).Because(err)
		}
	default:
		v, err := parsePyVersion(spec)
		if err != nil {
			return nil, fault.New(fault.Invalid, "%q is not a Python version", spec).Try("name %s", p.examples())
		}
		if files := p.versions[v.key]; files != nil {
			return files, nil
		}
		within = pySpecifier{{op: "==", version: v}} // a local version of it
	}
	var best, bestPre []distFile
	yankedOnes := 0
	for _, files := range p.versions {
		v := files[0].version
		if within != nil && !within.holds(v) {
			continue
		}
		if yankedReason(files) != "" && !within.pins() {
			yankedOnes++
			continue
		}
		if v.pre && !within.pre() {
			bestPre = newer(bestPre, files)
		} else {
			best = newer(best, files)
		}
	}
	switch {
	case best != nil:
		return best, nil
	case bestPre != nil:
		return bestPre, nil
	case yankedOnes > 0:
		return nil, fault.New(fault.NotFound, "all versions of the Python package %q that could be taken are yanked", p.name).
			Try("name one of them exactly if you mean it")
	case within.pins():
		return nil, fault.New(fault.NotFound, "the Python package %q has no version %s", p.name, spec).Try("name %s", p.examples())
	}
	return nil, fault.New(fault.NotFound, "the Python package %q has no version in the range %s", p.name, spec).Try("name %s", p.examples())
}

func newer(a, b []distFile) []distFile {
	if a == nil || b[0].version.compare(a[0].version) > 0 {
		return b
	}
	return a
}

// examples names the newest versions, those in use before pre-releases.
func (p *project) examples() string {
	var all, finals []pyVersion
	for _, files := range p.versions {
		all = append(all, files[0].version)
		if !files[0].version.pre && yankedReason(files) == "" {
			finals = append(finals, files[0].version)
		}
	}
	if len(finals) > 0 {
		all = finals
	}
	slices.SortFunc(all, func(a, b pyVersion) int { return b.compare(a) })
	var texts []string
	for _, v := range all {
		texts = append(texts, v.text)
	}
	return "one of the versions that exist: " + enumerate(texts, 5)
}

// others names installers and the like of a version, by the text of its number.
func (p *project) others(version string) []string {
	var all []string
	for _, name := range p.strange {
		if strings.Contains(name, "-"+version+"-") || strings.Contains(name, "-"+version+".") {
			all = append(all, oneLine(name))
		}
	}
	return all
}

// yankedReason returns why a version is yanked, which it is if all its files
// are.
func yankedReason(files []distFile) string {
	reason := ""
	for _, f := range files {
		if f.yanked == "" {
			return ""
		}
		if reason == "" || reason == yankedSilently {
			reason = f.yanked
		}
	}
	return reason
}

// published returns when the first file of a version was uploaded.
func published(files []distFile) time.Time {
	var first time.Time
	for _, f := range files {
		if !f.published.IsZero() && (first.IsZero() || f.published.Before(first)) {
			first = f.published
		}
	}
	return first
}

// fetchFiles downloads files side by side and mounts them in order, up to the
// caps.
func fetchFiles(ctx context.Context, o *Opened, settings pipSettings, chosen []distFile) error {
	var out []string
	var within []distFile
	var total int64
	for _, d := range chosen { // by what the index says, where it does
		if len(within) == maxParts || len(chosen) > 1 && total+d.size > maxFetched {
			out = append(out, d.name)
			continue
		}
		total += d.size
		within = append(within, d)
	}
	total = 0
	var left error
	err := inOrder(ctx, len(within), atOnce, func(ctx context.Context, i int) (fetched, error) {
		b, err := fetchFile(ctx, o.fetcher, settings, within[i])
		// Above the cap by itself, or not kept for a run without the network.
		if fault.Is(err, fault.Exhausted) || o.fetcher.egress.Offline() && fault.Is(err, fault.Unavailable) {
			return fetched{nil, err}, nil
		}
		return fetched{b, nil}, err
	}, func(i int, got fetched) bool {
		d, b := within[i], got.blob
		if b == nil {
			left = cmp.Or(left, got.left)
			o.note(d.name, "not looked at: %v", got.left)
			return true
		}
		if total += b.size; total > maxFetched && i > 0 {
			for _, rest := range within[i:] {
				out = append(out, rest.name)
			}
			return false
		}
		part := inventory.Part{PURL: o.Target.PURL(), Path: d.name + "!", Filename: d.name, Size: b.size, Platform: d.wheel.platform()}
		if b.checked {
			part.Digest = hexDigest(b.algorithm, b.sum)
		} else {
			o.inform(d.name, "not verified: the index gives no hash for it")
		}
		if err := o.Workspace.MountFile(workspace.Part{Label: part.PURL, Origin: inventory.WholeFile}, d.name, b.ReaderAt, b.size, nil); err != nil {
			o.note(d.name, "not looked at: %v", err)
			return true
		}
		o.add(part, b)
		return true
	})
	if err != nil {
		return err
	}
	if len(o.Release.Parts) == 0 {
		return cmp.Or(left, error(fault.New(fault.Exhausted, "the files of %s are larger than the cap of %d MiB for one release", o.Target.Short(), maxFetched>>20).
			Try("download one and scan it from disk")))
	}
	if len(out) > 0 {
		o.note("", "not looked at: %d files beyond the caps of %d and %d MiB: %s", len(out), maxParts, maxFetched>>20, strings.Join(out, ", "))
	}
	return nil
}

// fetched is a file, or why it has to be left out.
type fetched struct {
	blob *blob
	left error
}

func fetchFile(ctx context.Context, f *fetcher, settings pipSettings, d distFile) (*blob, error) {
	if err := f.egress.Trust(d.url); err != nil {
		return nil, fault.New(fault.Corrupt, "the index names no http or https URL for %s", d.name).Try("check the index in %s", pipPlaces)
	}
	b, err := f.file(ctx, remote{url: d.url, authorization: settings.authorization(d.url), name: d.name, want: d.want, max: maxFetched})
	if s, ok := errors.AsType[status](err); ok {
		if s.code == 404 || s.code == 410 {
			return nil, fault.New(fault.NotFound, "the index lists %s but %s does not have it", d.name, s.host).
				Try("try another version or another index")
		}
		return nil, s.fault(pipPlaces)
	}
	return b, err
}

// describe fills the release from the metadata in its files, wheels first, and
// refuses a release of which no file can be read.
func describe(o *Opened) error {
	files := o.Workspace.FS()
	var broken error
	readable := false
	for _, part := range o.Release.Parts {
		if err := o.checkReadable(part.Path, part.Filename); err != nil {
			broken = cmp.Or(broken, err)
			continue
		}
		metadata := wheelMetadata(files, part.Path)
		if metadata == "" {
			if tops, err := fs.ReadDir(files, part.Path); err == nil && len(tops) == 1 {
				metadata = part.Path + "/" + tops[0].Name() + "/PKG-INFO"
			}
		}
		if r := pythonRelease(files, metadata); r != nil {
			o.Release.Description, o.Release.Keywords, o.Release.License = r.Description, r.Keywords, r.License
			o.Release.Homepage, o.Release.Repository = r.Homepage, r.Repository
			return nil
		}
		readable = true
	}
	if readable {
		return nil
	}
	return broken
}
