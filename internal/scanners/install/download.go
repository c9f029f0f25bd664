package install

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/formats/prebuilt"
	"github.com/loupe-sec/loupe/internal/rules"
)

var (
	npmPrebuilt  = rules.Get("install/npm-prebuilt")
	npmInstalls  = rules.Get("install/npm-installs-more")
	pyDownloads  = rules.Get("install/python-build-downloads")
	maxShownURLs = 8
)

// downloads returns what the installation of the package fetches by the tools
// for it, and makes known what it fetches in any way.
func (r *reading) downloads(manifest []byte) []*inventory.Download {
	found, err := prebuilt.Resolve(prebuilt.Package{Manifest: manifest, Open: r.open}, prebuilt.Options{})
	if err != nil {
		return nil // the caller has read it and knows better
	}
	var tools []*inventory.Download
	for _, d := range found {
		d.Path, d.Part = path.Join(r.root, d.Path), r.purl
		if d.Resolver != prebuilt.Script { // those are found where scripts are read
			tools = append(tools, d)
			inventory.Downloads.Add(r.p, d)
		}
	}
	return tools
}

// open reads a file of the package for the resolver.
func (r *reading) open(name string) ([]byte, bool) {
	at := path.Join(r.root, name)
	if !r.contains(at) {
		return nil, false
	}
	info, err := fs.Stat(r.p.FS, at)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxScript {
		return nil, false
	}
	data, err := fs.ReadFile(r.p.FS, at)
	return data, err == nil
}

// reportDownload reports a tool that fetches something. line is that of the
// life-cycle script.
func (r *reading) reportDownload(d *inventory.Download, line int) {
	rule, location := npmPrebuilt, finding.Location{Path: d.Path, Line: d.Line}
	if d.Path == r.file {
		location.Line, location.Symbol = line, "scripts."+d.Stage
	}
	if d.Resolver == prebuilt.NPM {
		rule = npmInstalls
	}
	r.p.Report(rule, finding.Finding{
		Severity:    severityOf(d),
		Description: r.tell(d),
		Location:    location,
		PURL:        r.purl,
		Evidence:    append([]finding.Evidence{finding.NewEvidence("script", d.Command)}, urlEvidence(d)...),
		Anchor:      d.Stage + " " + d.Resolver,
	})
}

// severityOf judges a download by who can change what arrives: everyone on the
// way, somebody else than the author, the author alone, nobody.
func severityOf(d *inventory.Download) finding.Severity {
	switch {
	case d.Insecure():
		return finding.High
	case d.Resolver == prebuilt.NPM:
		return finding.Low
	case d.Pin == inventory.PinnedPackage:
		return finding.Info
	case d.Pin == inventory.PinnedScript, d.Pin == inventory.PinnedRegistry:
		return finding.Low
	case d.Owner == inventory.OtherOwner:
		return finding.High
	case len(d.Assets) == 0 && d.Problem != "":
		return finding.Low
	}
	return finding.Medium
}

// tell says in sentences what a tool fetches.
func (r *reading) tell(d *inventory.Download) string {
	var b strings.Builder
	tool := printable(d.Tool)
	if d.Resolver == prebuilt.NPM {
		fmt.Fprintf(&b, "%s installs further packages while the package is installed: %s. npm checks them against the hashes of its registry, but no lock file of yours names them.", printable(d.Path), printable(strings.TrimPrefix(d.Assets[0].URL, "npm:")))
		return b.String()
	}
	held := r.addOns()
	if held == 0 {
		b.WriteString("There is no binary in the package. ")
	} else {
		fmt.Fprintf(&b, "The package holds %s, and more can come from elsewhere. ", plural(held, "add-on for Node"))
	}
	if len(d.Assets) == 0 {
		fmt.Fprintf(&b, "When it is installed, %s is called to fetch one, but finds no address: %s.", tool, printable(d.Problem))
		return b.String() + instead(d)
	}
	fmt.Fprintf(&b, "When it is installed, %s fetches one from %s", tool, printable(d.Assets[0].URL))
	if n := len(d.Assets) + d.Omitted; n > 1 {
		fmt.Fprintf(&b, " or from the address of another platform (%d in all)", n)
	}
	b.WriteString(". " + guard(d))
	return b.String() + instead(d)
}

// guard says what a download is checked against, and who can change it.
func guard(d *inventory.Download) string {
	var out []string
	switch d.Pin {
	case inventory.PinnedPackage:
		out = append(out, "It is checked against a hash that stands in the package")
	case inventory.PinnedScript:
		out = append(out, "The script seems to compare a hash, by its text")
	case inventory.PinnedRegistry:
		out = append(out, "npm checks it against the hash that its registry gives")
	default:
		text := "Nothing checks its hash"
		if d.Mutable {
			text += ", and what lies there can be replaced at any time"
		}
		out = append(out, text)
	}
	if d.Insecure() {
		out = append(out, "It travels over plain HTTP, so that anyone on the way can change it")
	}
	switch d.Owner {
	case inventory.OtherOwner:
		out = append(out, "The address belongs to somebody else than the package's repository")
	case inventory.UnknownOwner:
		if len(d.Assets) > 0 {
			out = append(out, "The address does not say whether it belongs to the package's author")
		}
	}
	return strings.Join(out, ". ") + "."
}

func instead(d *inventory.Download) string {
	if d.Fallback == "" {
		return ""
	}
	return fmt.Sprintf(" If that fails, %s runs.", printable(d.Fallback))
}

// urlEvidence shows the addresses, each with the platform that it is for.
func urlEvidence(d *inventory.Download) []finding.Evidence {
	var out []finding.Evidence
	for _, a := range d.Assets[:min(len(d.Assets), maxShownURLs)] {
		e := finding.NewEvidence("url", a.URL)
		var parts []string
		for _, s := range []string{a.Platform, a.Arch, a.Libc} {
			if s != "" {
				parts = append(parts, s)
			}
		}
		e.From = strings.Join(parts, "-")
		if a.ABI != "" && (a.Platform == "" || strings.Contains(a.URL, a.ABI)) {
			e.From = strings.TrimSpace(e.From + " ABI " + a.ABI)
		}
		out = append(out, e)
	}
	if n := len(d.Assets) + d.Omitted - len(out); n > 0 {
		out = append(out, finding.NewEvidence("url", fmt.Sprintf("and %d more", n)))
	}
	for _, name := range d.Overrides[:min(len(d.Overrides), 3)] {
		out = append(out, finding.NewEvidence("variable", name))
	}
	return out
}

// maxLooked bounds the files whose names are looked at for binaries.
const maxLooked = 20_000

// addOns counts the add-ons for Node in the package, by their names, once.
func (r *reading) addOns() int {
	if r.counted {
		return r.held
	}
	r.counted = true
	looked := 0
	_ = fs.WalkDir(r.p.FS, r.root, func(name string, d fs.DirEntry, err error) error {
		if looked++; looked > maxLooked {
			return fs.SkipAll
		}
		switch {
		case err != nil:
			return nil
		case d.IsDir() && name != r.root && (d.Name() == "node_modules" || d.Name() == "install-download" || strings.HasSuffix(d.Name(), "!")):
			return fs.SkipDir
		case !d.IsDir() && path.Ext(name) == ".node":
			r.held++
		}
		return nil
	})
	return r.held
}

// scriptDownload makes known what a script fetches by itself, and returns it;
// its address may not stand in the text.
func (r *reading) scriptDownload(l *language, code, file, by string) *inventory.Download {
	kind := prebuilt.JavaScript
	switch l {
	case python:
		kind = prebuilt.Python
	case shell:
		kind = prebuilt.Shell
	}
	d := prebuilt.OfScript(r.manifest, kind, code, file)
	if d == nil {
		d = &inventory.Download{Path: file, Resolver: prebuilt.Script, Pin: inventory.Unpinned, Owner: inventory.UnknownOwner, Mutable: true, Problem: "its address does not stand in the text"}
	}
	stage, isStage := strings.CutPrefix(by, "scripts.")
	if isStage {
		d.Stage, d.Command = stage, r.script(stage)
	}
	d.Part = r.purl
	inventory.Downloads.Add(r.p, d)
	return d
}

// scriptSeverity judges a script that downloads: its addresses were only read
// off its text, so that they make it worse than the rule says in one case.
func scriptSeverity(d *inventory.Download) finding.Severity {
	switch {
	case d.Insecure():
		return finding.High
	case d.Pin == inventory.PinnedScript:
		return finding.Low
	}
	return finding.Medium
}

// buildDownloads reports what the code that builds a Python package fetches.
func buildDownloads(p *scan.Pass, part, file, code string) {
	d := prebuilt.OfScript(nil, prebuilt.Python, code, file)
	if d == nil {
		return
	}
	d.Resolver, d.Part = prebuilt.SetupPy, part
	inventory.Downloads.Add(p, d)
	shown := urlEvidence(d)
	p.Report(pyDownloads, finding.Finding{
		Severity: scriptSeverity(d),
		Description: fmt.Sprintf("When pip builds this source distribution, %s can fetch %s%s. %s",
			path.Base(file), printable(d.Assets[0].URL), cmp.Or(others(len(d.Assets)-1), ""), guard(d)),
		Location: finding.Location{Path: file, Line: d.Line},
		PURL:     part,
		Evidence: shown,
		Anchor:   "downloads",
	})
}

func others(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %s", plural(n, "other address"))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "s") {
		return fmt.Sprintf("%d %ses", n, what)
	}
	first, rest, ok := strings.Cut(what, " ")
	if ok && strings.Contains(rest, " ") { // "add-on for Node"
		return fmt.Sprintf("%d %ss %s", n, first, rest)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func printable(s string) string { return finding.NewEvidence("", s).Value }

// toolStages returns the life-cycle scripts that call a tool themselves.
func toolStages(list []*inventory.Download, manifest string) []string {
	var out []string
	for _, d := range list {
		if d.Path == manifest && d.Resolver != prebuilt.NPM && !slices.Contains(out, d.Stage) {
			out = append(out, d.Stage)
		}
	}
	return out
}
