// Package app holds the use cases. Every face calls this package and nothing
// below it, so that all of them do the same.
package app

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/enrich"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/rules"
	"github.com/loupe-sec/loupe/internal/scanners/all"
	"github.com/loupe-sec/loupe/internal/scanners/native"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
	"github.com/loupe-sec/loupe/internal/source"
)

// Options are what the use cases need of the world.
type Options struct {
	Version      string // of Loupe
	DataDir      string // holds caches; empty for none
	ProjectDir   string // whose .npmrc counts
	AllowPrivate bool   // targets and destinations on private addresses are fine
}

// An App carries out the use cases. It is safe for concurrent use.
type App struct{ opt Options }

// New returns an App.
func New(opt Options) *App { return &App{opt} }

// A ScanRequest says what to scan and how.
type ScanRequest struct {
	Target   target.Target
	Platform string   // of a package's builds: all, host, none or names; empty for the default
	Scanners []string // names; empty means all
	Offline  bool
	NoCache  bool     // look at everything anew, whatever earlier scans found out
	Rules    *RuleSet // of LoadRules; nil means the built-in ones

	// FetchPrebuilt fetches what the installation of an npm package would
	// fetch, from the hosts of GitHub's releases, the package's registry and
	// FetchHosts.
	FetchPrebuilt bool
	FetchHosts    []string

	// Sandbox says whether and in what bounds the scanners run in a process of
	// their own, which has given up what it does not need. The zero value means
	// in this one.
	Sandbox sandbox.Options

	Now    time.Time // for the report; zero means the clock
	Limits scan.Limits
	Event  func(scan.Event) // called from one goroutine at a time; may be nil

	marks bool // keep what it takes to compare functions with those of another scan
}

// Scan gets a target, runs the scanners over it, and puts what was found into
// a report. Its errors are faults that a user can read. A report that comes with
// an error says why nothing of the target could be looked at.
func (a *App) Scan(ctx context.Context, req ScanRequest) (*report.Report, error) {
	if err := cmp.Or(CheckScan(req), sandbox.Check(req.Sandbox.Mode)); err != nil {
		return nil, err
	}
	clock := func() time.Time { return cmp.Or(req.Now, time.Now()).UTC().Truncate(time.Millisecond) }
	set := req.rules()
	out := &report.Report{StartedAt: clock(), Tool: a.tool(set), AIModel: enrich.Model}
	if !req.sandboxed() && slices.Contains(set.scanners, native.Scanner) {
		go native.Prepare()
	}
	opened, err := a.open(ctx, req)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	res, failed := a.inspect(ctx, req, opened)
	if res == nil {
		return nil, failed
	}
	out.Target, out.Release = opened.Target, opened.Release
	out.Binaries = inventory.Binaries.Of(res)
	out.Downloads = inventory.Downloads.Of(res)
	inventory.Join(out.Downloads, opened.Fetched)
	inventory.JoinSources(out.Binaries, inventory.SourceMatches.Of(res))
	out.Findings = enrich.Expect(purposes(opened.Release, res), out.Binaries, res.Findings)
	out.Notes = finding.ArrangeNotes(slices.Concat(res.Notes, opened.Notes, set.notes()))
	out.Ran, out.Files, out.Bytes = res.Ran, res.Files, res.Bytes
	out.Rules = rulesOf(set.scanners, res.Ran)
	out.Components = components(opened.Release, out.Binaries)
	if len(req.Scanners) > 0 && !slices.Contains(out.Ran, native.Scanner.Name) {
		out.Notes = finding.ArrangeNotes(append(out.Notes, finding.Note{Scanner: native.Scanner.Name, Text: "not run: other scanners were chosen, so that nothing is said of native binaries"}))
	}
	out.Risk, out.Summary = enrich.Assess(out.Release, out.Binaries, out.Findings, out.Notes)
	out.CompletedAt = clock()
	return out, failed
}

// purposes returns what the packages of a target say of themselves.
func purposes(rel *inventory.Release, res *scan.Result) []inventory.Purpose {
	said := inventory.Purposes.Of(res)
	if rel != nil {
		said = append(said, rel.Purpose())
	}
	return said
}

// rules are those that a request names, or the built-in ones.
func (req ScanRequest) rules() *RuleSet {
	if req.Rules != nil {
		return req.Rules
	}
	return builtin()
}

// CheckScan refuses a request that cannot mean anything, before anything is
// fetched.
func CheckScan(req ScanRequest) error {
	if _, err := scan.Choose(req.rules().scanners, req.Scanners); err != nil {
		return err
	}
	if len(req.FetchHosts) > 0 && !req.FetchPrebuilt {
		return fault.New(fault.Invalid, "hosts are named to fetch from, but nothing is to be fetched").Try("add --fetch-prebuilt")
	}
	if req.FetchPrebuilt && (req.Target.Kind != target.Package || req.Target.Ecosystem != target.NPM) {
		return fault.New(fault.Invalid, "what the installation fetches is only fetched for packages of the npm registry, named as npm:NAME, and not for %s", req.Target.Short()).Try("leave out --fetch-prebuilt")
	}
	if req.Target.Kind != target.Package {
		if req.Platform != "" {
			return fault.New(fault.Invalid, "which builds to fetch can only be chosen for packages, and not for %s", req.Target.Short()).Try("leave out --platform")
		}
		return nil
	}
	return source.CheckPlatform(req.Target.Ecosystem, req.Platform)
}

// open gets the target, and tells watchers how far that is.
func (a *App) open(ctx context.Context, req ScanRequest) (*source.Opened, error) {
	var records string
	if a.opt.DataDir != "" {
		records = filepath.Join(a.opt.DataDir, "prebuilt")
	}
	return source.Open(ctx, source.Request{
		Target:     req.Target,
		Platform:   req.Platform,
		Egress:     egress.New(egress.Options{Version: a.opt.Version, AllowPrivate: a.opt.AllowPrivate, Offline: req.Offline}),
		CacheDir:   a.cacheDir(),
		ProjectDir: a.opt.ProjectDir,
		Prebuilt:   source.Prebuilt{Fetch: req.FetchPrebuilt, Hosts: req.FetchHosts, Records: records, Now: req.Now},
		Progress: func(done, total int64, what string) {
			if req.Event != nil {
				req.Event(scan.Event{Progress: &scan.Progress{Phase: scan.Acquire, What: what, Done: done, Total: max(total, 0)}})
			}
		},
	})
}

// cacheDir keeps what was fetched; empty for nowhere.
func (a *App) cacheDir() string {
	if a.opt.DataDir == "" {
		return ""
	}
	return filepath.Join(a.opt.DataDir, "cache")
}

// rulesOf returns the rules of the scanners that ran, sorted by ID.
func rulesOf(scanners []*scan.Scanner, ran []string) []*rule.Rule {
	var out []*rule.Rule
	for _, s := range scanners {
		if slices.Contains(ran, s.Name) {
			out = append(out, s.Rules...)
		}
	}
	slices.SortFunc(out, func(a, b *rule.Rule) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// components are the packages that a target consists of: the release itself,
// its platform packages, and the modules and crates that its binaries name.
func components(rel *inventory.Release, binaries []*inventory.Binary) []report.Component {
	out := []report.Component{}
	index := map[string]int{}
	seen := map[[2]string]bool{} // package and place
	add := func(purl, name, version, at, source string, sure finding.Confidence) {
		i, ok := index[purl]
		if !ok {
			i = len(out)
			index[purl] = i
			out = append(out, report.Component{PURL: purl, Name: name, Version: version, Source: source, Confidence: sure})
		}
		if place := [2]string{purl, at}; !seen[place] {
			seen[place] = true
			out[i].Locations = append(out[i].Locations, at)
		}
	}
	if rel != nil {
		for _, p := range rel.Parts {
			if t, err := target.Parse(p.PURL); err == nil { // else it is a file of no package
				add(p.PURL, t.Name, t.Version, cmp.Or(p.Path, "."), "", finding.Confirmed)
			}
		}
	}
	for _, b := range binaries {
		for _, m := range b.Modules {
			add(m.PURL(), m.Name, m.Version, b.Path, m.Source, m.Confidence)
		}
	}
	slices.SortFunc(out, func(a, b report.Component) int { return cmp.Compare(a.PURL, b.PURL) })
	return out
}

// Tool names this program in reports.
func (a *App) Tool() report.Tool { return a.tool(builtin()) }

func (a *App) tool(set *RuleSet) report.Tool {
	return report.Tool{Name: "loupe", Version: cmp.Or(a.opt.Version, "dev"), Rules: rules.Digest(set.Rules)}
}

// Scanners lists the scanners.
func (a *App) Scanners() []*scan.Scanner { return all.Scanners }

// Rules lists the built-in rules, sorted by ID.
func (a *App) Rules() []*rule.Rule { return rules.All() }

// DefaultDataDir returns where a user's data lies if nothing else is said:
// $XDG_DATA_HOME/loupe and what other systems have for it. It is empty if the
// user has no home.
func DefaultDataDir() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "loupe")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	if slices.Contains([]string{"darwin", "ios", "windows"}, runtime.GOOS) {
		if dir, err := os.UserConfigDir(); err == nil {
			return filepath.Join(dir, "loupe") // ~/Library/Application Support, %AppData%
		}
	}
	return filepath.Join(home, ".local", "share", "loupe")
}
