package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/scanners/native"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
	"github.com/loupe-sec/loupe/internal/source"
)

// inspect runs the scanners over a target that was opened: here, or in a
// sandbox if the request asks for one. A result that comes with an error is
// what is left of a sandbox in which nothing could be looked at.
func (a *App) inspect(ctx context.Context, req ScanRequest, opened *source.Opened) (*scan.Result, error) {
	set := req.rules()
	if !req.sandboxed() {
		return a.inspectHere(ctx, req, set, opened)
	}
	r := newReceiver(set, req.Event)
	out, err := sandbox.Run(ctx, req.sandbox(), sandbox.Job[inspection]{
		Mounts: opened.Workspace.Mounts(),
		Limits: opened.Workspace.Limits(),
		Request: inspection{
			Release: opened.Release, Fetched: opened.Fetched,
			Only: req.Scanners, Rules: set.texts, Marks: req.marks, Limits: req.Limits,
		},
	}, r.take)
	switch {
	case ctx.Err() != nil:
		return nil, fault.New(fault.Unavailable, "the scan was cancelled").Because(ctx.Err())
	case err != nil && req.Sandbox.Mode == sandbox.On:
		return nil, fault.New(fault.Unavailable, "there is no sandbox: %v", err).Try("use --sandbox auto for what this system offers").Because(err)
	case err != nil:
		res, failed := a.inspectHere(ctx, req, set, opened)
		if res != nil {
			res.Notes = append(res.Notes, finding.Note{Text: fmt.Sprintf("looked at without a sandbox: %v", err), Informs: true})
		}
		return res, failed
	}
	return r.finish(out, opened.Workspace)
}

func (req ScanRequest) sandboxed() bool {
	return cmp.Or(req.Sandbox.Mode, sandbox.Off) != sandbox.Off
}

// sandbox are the options with the time that the scan may take.
func (req ScanRequest) sandbox() sandbox.Options {
	opt := req.Sandbox
	opt.Time = cmp.Or(opt.Time, cmp.Or(req.Limits.Time, scan.DefaultLimits.Time)+time.Minute)
	return opt
}

// inspectHere runs the scanners in this process.
func (a *App) inspectHere(ctx context.Context, req ScanRequest, set *RuleSet, opened *source.Opened) (*scan.Result, error) {
	cache, done := a.results(req)
	defer done()
	return scan.Run(ctx, scannersOf(set, req.marks), opened.Workspace, given(opened.Release, opened.Fetched), scan.Options{
		Event: req.Event, Limits: req.Limits, Only: req.Scanners, Cache: cache,
	})
}

func scannersOf(set *RuleSet, marks bool) []*scan.Scanner {
	if marks {
		return marked(set.scanners)
	}
	return set.scanners
}

// given are the facts that a source knows.
func given(rel *inventory.Release, fetched []*inventory.Fetched) (known []scan.Known) {
	if rel != nil {
		known = append(known, inventory.Releases.Given(rel))
	}
	if len(fetched) > 0 {
		known = append(known, inventory.Fetches.Given(fetched...))
	}
	return known
}

// An inspection is what a sandboxed process is asked to do with its workspace.
// It has no cache: who has taken it over must not say what later scans find.
type inspection struct {
	Release *inventory.Release
	Fetched []*inventory.Fetched
	Only    []string
	Rules   ruleTexts
	Marks   bool
	Limits  scan.Limits
}

// A message is what it tells: one field is set.
type message struct {
	Progress *scan.Progress
	Finding  *finding.Finding
	Note     *finding.Note
	Stage    []string
	Value    *value
	Counted  *counted // at the end
}

// A value is a scan.Value of one of the facts that reports are made of.
type value struct {
	Path, Scanner string

	Binary   *inventory.Binary
	Download *inventory.Download
	Purpose  *inventory.Purpose
	Match    *inventory.SourceMatch
}

type counted struct {
	Files int
	Bytes int64
}

// Inspect does the work of a sandboxed process and returns the exit code, if
// the arguments of the program ask for that.
func Inspect(args []string) (code int, asked bool) {
	if len(args) == 0 || args[0] != sandbox.Command {
		return 0, false
	}
	return sandbox.Main(args[1:], source.GitStorage, inspectInside), true
}

func inspectInside(ctx context.Context, ws *workspace.Workspace, q inspection, tell func(*message) error) error {
	set, err := q.Rules.load()
	if err != nil {
		return err
	}
	if slices.Contains(set.scanners, native.Scanner) {
		go native.Prepare()
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	res, err := scan.Run(ctx, scannersOf(set, q.Marks), ws, given(q.Release, q.Fetched), scan.Options{
		Only: q.Only, Limits: q.Limits,
		Event: func(e scan.Event) {
			if m, ok := write(e); ok {
				if err := tell(m); err != nil {
					stop(err) // nobody listens any more
				}
			}
		},
	})
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return tell(&message{Counted: &counted{res.Files, res.Bytes}})
}

// write puts an event into a message, if a report is made of it.
func write(e scan.Event) (*message, bool) {
	if e.Value == nil {
		return &message{Progress: e.Progress, Finding: e.Finding, Note: e.Note, Stage: e.Stage}, true
	}
	v := value{Path: e.Value.Path, Scanner: e.Value.Scanner}
	switch x := e.Value.Value.(type) {
	case *inventory.Binary:
		v.Binary = x
	case *inventory.Download:
		v.Download = x
	case inventory.Purpose:
		v.Purpose = &x
	case inventory.SourceMatch:
		v.Match = &x
	default:
		return nil, false
	}
	return &message{Value: &v}, true
}

// A receiver makes a result of what a sandboxed process tells, which may have
// been taken over by what it looked at: it checks what the rest of the program
// relies on. That the findings are true, it cannot know.
type receiver struct {
	rules    map[string]*rule.Rule // by ID
	scanners []string
	event    func(scan.Event)

	collector scan.Collector
	looked    bool // at something, to some end
}

func newReceiver(set *RuleSet, event func(scan.Event)) *receiver {
	r := &receiver{rules: map[string]*rule.Rule{}, event: event}
	for _, s := range set.scanners {
		r.scanners = append(r.scanners, s.Name)
		for _, known := range s.Rules {
			r.rules[known.ID] = known
		}
	}
	return r
}

var errForeign = errors.New("it says what no scanner says")

// take takes one message.
func (r *receiver) take(m *message) error {
	if m.Counted != nil {
		if m.Counted.Files < 0 || m.Counted.Bytes < 0 {
			return errForeign
		}
		r.collector.Counted(m.Counted.Files, m.Counted.Bytes)
		return nil
	}
	e, err := r.read(m)
	if err != nil {
		return err
	}
	r.looked = r.looked || e.Progress != nil || e.Finding != nil || e.Value != nil
	r.collector.Event(e)
	if r.event != nil {
		r.event(e)
	}
	return nil
}

// read returns the event that a message is about.
func (r *receiver) read(m *message) (scan.Event, error) {
	switch {
	case m.Progress != nil:
		p := m.Progress
		if p.Phase != scan.Inspect || p.Files < 0 || p.Done < 0 || p.Total < 0 {
			return scan.Event{}, errForeign
		}
		return scan.Event{Progress: p}, nil
	case m.Finding != nil:
		return r.finding(*m.Finding)
	case m.Note != nil:
		if m.Note.Scanner != "" && !slices.Contains(r.scanners, m.Note.Scanner) {
			return scan.Event{}, errForeign
		}
		return scan.Event{Note: m.Note}, nil
	case m.Value != nil && slices.Contains(r.scanners, m.Value.Scanner):
		return m.Value.read()
	case len(m.Stage) > 0 && !slices.ContainsFunc(m.Stage, func(s string) bool { return !slices.Contains(r.scanners, s) }):
		return scan.Event{Stage: m.Stage}, nil
	}
	return scan.Event{}, errForeign
}

// finding takes from the rule what a scanner takes from it, too.
func (r *receiver) finding(f finding.Finding) (scan.Event, error) {
	known, ok := r.rules[f.Rule]
	if !ok || !slices.Contains(r.scanners, f.Tool) || f.Severity > finding.Critical || f.Confidence > finding.Confirmed {
		return scan.Event{}, errForeign
	}
	f.ScanType, f.CWE, f.Attack, f.References = known.ScanType, known.CWE, known.Attack, known.References
	f.Fingerprint = ""
	cleanEvidence(f.Evidence)
	return scan.Event{Finding: &f}, nil
}

func (v *value) read() (scan.Event, error) {
	out := &scan.Value{Path: v.Path, Scanner: v.Scanner}
	switch {
	case v.Binary != nil:
		cleanBinary(v.Binary)
		out.Fact, out.Value = inventory.Binaries, v.Binary
	case v.Download != nil:
		out.Fact, out.Value = inventory.Downloads, v.Download
	case v.Purpose != nil:
		out.Fact, out.Value = inventory.Purposes, *v.Purpose
	case v.Match != nil:
		out.Fact, out.Value = inventory.SourceMatches, *v.Match
	default:
		return scan.Event{}, errForeign
	}
	return scan.Event{Value: out}, nil
}

// finish returns the result, with notes on how it came about.
func (r *receiver) finish(out sandbox.Outcome, opened *workspace.Workspace) (*scan.Result, error) {
	for _, n := range opened.Notes() { // of getting the target: what a sandbox sees, it says as well
		r.collector.Event(scan.Event{Note: &finding.Note{Path: n.Path, Text: n.Text}})
	}
	if len(out.Missing) > 0 {
		text := "looked at in a sandbox without " + strings.Join(out.Missing, ", ")
		r.collector.Event(scan.Event{Note: &finding.Note{Text: text, Informs: true}})
	}
	if out.Ended == "" {
		return r.collector.Result(), nil
	}
	text := "not looked at to the end: the sandboxed analysis ended: " + out.Ended
	r.collector.Event(scan.Event{Note: &finding.Note{Text: text}})
	var err error
	if !r.looked {
		err = fault.New(fault.Unavailable, "nothing could be looked at: the sandboxed analysis ended: %s", out.Ended)
	}
	return r.collector.Result(), err
}

// What is printable when it is made must be so however it came here.

func clean(text *string) { *text = finding.Printable(*text, 6*len(*text)) }

func cleanEvidence(list []finding.Evidence) {
	for i := range list {
		e := &list[i]
		for _, text := range []*string{&e.Kind, &e.Value, &e.From, &e.Address, &e.Function, &e.Reachable} {
			clean(text)
		}
		for j := range e.Callers {
			clean(&e.Callers[j])
		}
	}
}

func cleanBinary(b *inventory.Binary) {
	for _, details := range b.Behaviors {
		for i := range details {
			clean(&details[i].Text)
			cleanEvidence(details[i].Evidence)
		}
	}
	lines := strings.Split(b.Preview, "\n")
	for i := range lines {
		indent := len(lines[i]) - len(strings.TrimLeft(lines[i], "\t"))
		text := lines[i][indent:]
		clean(&text)
		lines[i] = lines[i][:indent] + text
	}
	b.Preview = strings.Join(lines, "\n")
	for i := range b.Taken {
		clean(&b.Taken[i].Name)
	}
	for i := range b.Demangled {
		clean(&b.Demangled[i].Readable)
	}
	cleanSignature(b.Signature)
}

func cleanSignature(s *inventory.Signature) {
	if s == nil {
		return
	}
	for _, text := range []*string{&s.Signer, &s.Organization, &s.Team, &s.Issuer, &s.Identifier} {
		clean(text)
	}
	for _, list := range [][]string{s.Chain, s.Entitlements, s.Problems} {
		for i := range list {
			clean(&list[i])
		}
	}
	for _, more := range s.More {
		cleanSignature(more)
	}
}
