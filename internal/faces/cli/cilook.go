package cli

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/client"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/app"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
)

// here looks at packages in this process.
type here struct {
	app     *app.App
	mode    sandbox.Mode
	noCache bool
	watch   *ciWatch
}

func (h *here) look(ctx context.Context, packages []*ciPackage, done func(*ciPackage)) error {
	for _, p := range packages {
		if p.err = timeLeft(ctx); p.err == nil {
			rep, err := h.app.Scan(ctx, app.ScanRequest{
				Target: p.target, NoCache: h.noCache, Sandbox: sandbox.Options{Mode: h.mode},
				Event: func(e scan.Event) {
					if e.Progress != nil {
						h.watch.now(words(e.Progress))
					}
				},
			})
			p.err = cmp.Or(timeLeft(ctx), err)
			if rep != nil {
				p.read(rep)
			}
		}
		done(p)
	}
	return nil
}

// read takes over what a report says.
func (p *ciPackage) read(rep *report.Report) {
	p.target = rep.Target
	p.score, p.level, p.summary, p.binaries = rep.Risk.Score, rep.Risk.Level(), rep.Summary, len(rep.Binaries)
	p.findings, p.notes = byRule(rep.Findings), rep.Notes
	if rep.Release != nil {
		for _, part := range rep.Release.Parts {
			p.parts = append(p.parts, part.PURL)
		}
	}
}

// timeLeft returns a fault if the time is up.
func timeLeft(ctx context.Context) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault.New(fault.Unavailable, "the time was up").Try("give more with --timeout")
	case ctx.Err() != nil:
		return fault.New(fault.Unavailable, "the command was ended")
	}
	return nil
}

// there has a server look at packages.
type there struct {
	api          *client.Client
	repo, source string
	watch        *ciWatch
}

// submitters is how many packages are submitted at once.
const submitters = 4

func (t *there) look(ctx context.Context, packages []*ciPackage, done func(*ciPackage)) error {
	jobs := t.submit(ctx, packages)
	for _, p := range packages {
		if fault.Is(p.err, fault.Unauthenticated) || fault.Is(p.err, fault.Forbidden) {
			return p.err // which is the same for all
		}
	}
	open := map[string][]*ciPackage{}
	var ids []string
	for i, p := range packages {
		switch job := jobs[i]; {
		case p.err != nil:
			done(p)
		case job.Ended():
			t.read(ctx, p, job)
			done(p)
		default:
			if open[job.ID] == nil {
				ids = append(ids, job.ID)
			}
			open[job.ID] = append(open[job.ID], p)
		}
	}
	err := t.api.Wait(ctx, ids, func(job *client.Job) {
		for _, p := range open[job.ID] {
			if !job.Ended() {
				t.watch.now(p.target.Short() + " " + job.Status + " " + job.Stage)
				continue
			}
			t.read(ctx, p, job)
			done(p)
		}
		if job.Ended() {
			delete(open, job.ID)
		}
	})
	for _, id := range ids {
		for _, p := range open[id] {
			p.err = cmp.Or(timeLeft(ctx), err)
			done(p)
		}
	}
	return nil
}

// submit submits the packages and returns their jobs. Those that cannot be
// submitted have none, and an error.
func (t *there) submit(ctx context.Context, packages []*ciPackage) []*client.Job {
	jobs := make([]*client.Job, len(packages))
	slots := make(chan struct{}, submitters)
	finished := make(chan struct{}, len(packages))
	for i, p := range packages {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; finished <- struct{}{} }()
			jobs[i], p.err = t.api.Submit(ctx, client.Request{
				Ecosystem: string(p.target.Ecosystem), PackageName: p.target.Name, Version: p.target.Version, Repo: t.repo, Source: t.source,
			})
			if p.err != nil {
				p.err = cmp.Or(timeLeft(ctx), p.err)
			}
		}()
	}
	for range packages {
		<-finished
	}
	return jobs
}

// read takes over what a scan found.
func (t *there) read(ctx context.Context, p *ciPackage, job *client.Job) {
	if job.Result == nil {
		p.err = fault.New(fault.Unavailable, "%s", cmp.Or(job.Error, "the server could not look at it, and does not say why"))
		return
	}
	a := job.Result
	p.score, p.level, p.summary, p.binaries, p.cached = a.RiskScore, finding.RiskLevel(strings.ToLower(a.RiskLevel)), a.Summary, a.BinaryCount, job.CacheHit
	for _, part := range a.Parts {
		p.parts = append(p.parts, part.PURL)
	}
	fs, err := t.api.Findings(ctx, a)
	if err != nil {
		_, text := fault.Of(err)
		p.notes = append(p.notes, finding.Note{Text: "only the findings in its binaries are known: " + text})
	}
	p.findings = byRule(fs)
}

// byRule returns one finding for each rule, worst first, with the places of all.
func byRule(fs []finding.Finding) []finding.Finding {
	var out []finding.Finding
	at := map[string]int{}
	fs = slices.Clone(fs)
	slices.SortStableFunc(fs, finding.Compare)
	places := map[string][]string{}
	seen := map[[2]string]bool{}
	for _, f := range fs {
		place := f.Location.Path
		if both := [2]string{f.Rule, place}; place != "" && !seen[both] {
			seen[both] = true
			places[f.Rule] = append(places[f.Rule], place)
		}
		if _, known := at[f.Rule]; !known {
			at[f.Rule] = len(out)
			out = append(out, f)
		}
	}
	for i := range out {
		out[i].Description = withPlaces(out[i].Description, places[out[i].Rule])
	}
	return out
}

// maxPlaces is how many files a finding names.
const maxPlaces = 5

// withPlaces adds to a description where it is true.
func withPlaces(text string, places []string) string {
	if len(places) == 0 {
		return text
	}
	shown := make([]string, 0, maxPlaces)
	for _, p := range places[:min(len(places), maxPlaces)] {
		shown = append(shown, finding.Printable(p, 200))
	}
	list := strings.Join(shown, ", ")
	if more := len(places) - len(shown); more > 0 {
		list += " and " + count(more, "more file", "more files")
	}
	text = strings.TrimSpace(text)
	if text != "" && !strings.HasSuffix(text, ".") {
		text += "."
	}
	return strings.TrimSpace(text + " In " + list + ".")
}
