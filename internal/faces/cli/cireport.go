package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/report"
)

// report writes down what was found: for people on the standard output, and into
// the files that were asked for.
func (r *ciRun) report() error {
	all := len(r.packages)
	r.packages = slices.DeleteFunc(r.packages, func(p *ciPackage) bool { return p.covered })
	r.covered = all - len(r.packages)
	slices.SortStableFunc(r.packages, func(a, b *ciPackage) int {
		return cmp.Or(cmp.Compare(b.failed(), a.failed()), cmp.Compare(b.worst(), a.worst()), cmp.Compare(b.score, a.score), strings.Compare(a.target.Short(), b.target.Short()))
	})
	errs := []error{r.table()}
	if r.f.sarif != "" {
		var buf bytes.Buffer
		errs = append(errs, cmp.Or(report.SARIF.Write(&buf, r.merged(), report.Options{}), r.save(r.f.sarif, buf.Bytes)))
	}
	if name := r.f.summary; name != "" {
		errs = append(errs, r.save(name, r.markdown))
	} else if name := r.s.onGitHub("GITHUB_STEP_SUMMARY"); name != "" {
		errs = append(errs, appendFile(name, r.markdown()))
	}
	if r.s.Env("GITHUB_ACTIONS") == "true" {
		errs = append(errs, r.annotate())
	}
	return errors.Join(errs...)
}

func (r *ciRun) save(name string, text func() []byte) error {
	if err := writeFile(name, text()); err != nil {
		return fault.New(fault.Unavailable, "the report cannot be written to %s", name).Try("choose a folder that exists and that you may write to").Because(err)
	}
	return nil
}

// appendFile adds to a file, as jobs of GitHub Actions add to their summary.
func appendFile(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.Write(text)
		err = cmp.Or(err, f.Close())
	}
	if err != nil {
		return fault.New(fault.Unavailable, "the summary cannot be written to %s", name).Because(err)
	}
	return nil
}

// failed is 1 if a package could not be looked at.
func (p *ciPackage) failed() int {
	if p.err != nil {
		return 1
	}
	return 0
}

// where says where a package is locked.
func (p *ciPackage) where() string {
	if len(p.places) == 0 {
		return ""
	}
	text := fmt.Sprintf("%s:%d", p.places[0].Path, p.places[0].Line)
	if more := len(p.places) - 1; more > 0 {
		text += fmt.Sprintf(" +%d", more)
	}
	return text
}

// heading says what was looked at.
func (r *ciRun) heading() string {
	text := count(len(r.packages), "package", "packages")
	if len(r.locks) > 0 {
		text += fmt.Sprintf(" that may hold native code, of %d in %s", r.locked, strings.Join(r.locks, ", "))
	}
	if r.covered > 0 {
		text += ", with " + count(r.covered, "package", "packages") + " for single platforms"
	}
	if r.host != "" {
		text += ", looked at by " + r.host
	}
	return text
}

// notable says whether a finding is worth a person's time in a summary.
func (r *ciRun) notable(f finding.Finding) bool {
	return f.Severity >= finding.Medium || r.failOn != finding.Unrated && f.Severity >= r.failOn
}

// table writes what a person reads in the log.
func (r *ciRun) table() error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s\n", logged(r.heading()))
	if len(r.packages) > 0 {
		w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
		fmt.Fprint(w, "\nRISK\t\tPACKAGE\tBINARIES\tFINDINGS\t")
		if len(r.locks) > 0 {
			fmt.Fprint(w, "LOCKED AT")
		}
		fmt.Fprintln(w)
		for _, p := range r.packages {
			score, level, binaries, counts := fmt.Sprint(p.score), string(p.level), fmt.Sprint(p.binaries), cmp.Or(p.counts(), "none")
			if p.err != nil {
				score, level, binaries, counts = "?", "not looked at", "?", "?"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", score, level, logged(p.target.Short()), binaries, counts, logged(p.where()))
		}
		_ = w.Flush() // into memory
	}
	for _, p := range r.packages {
		if p.err != nil {
			_, text := fault.Of(p.err)
			fmt.Fprintf(&out, "\n%s was not looked at: %s\n", logged(p.target.Short()), logged(text))
		}
		for _, f := range p.findings {
			if r.notable(f) {
				fmt.Fprintf(&out, "\n%s: %s: %s (%s)\n  %s\n", f.Severity, logged(p.target.Short()), logged(f.Title), logged(f.Rule), logged(f.Description))
			}
		}
	}
	if len(r.notes) > 0 {
		fmt.Fprintln(&out)
	}
	for _, n := range r.notes {
		fmt.Fprintf(&out, "note: %s: %s\n", logged(n.Path), logged(n.Text))
	}
	for line := range strings.Lines(out.String()) {
		if _, err := fmt.Fprintln(r.s.Out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// merged makes one report of all packages. A finding stands where the lock files
// name its package.
func (r *ciRun) merged() *report.Report {
	rep := &report.Report{
		Target: target.Target{Kind: target.Path, Name: "."}, StartedAt: r.started, CompletedAt: time.Now(), Tool: newApp("").Tool(), Notes: slices.Clone(r.notes),
	}
	if server, repo := r.s.onGitHub("GITHUB_SERVER_URL"), r.s.onGitHub("GITHUB_REPOSITORY"); server != "" && repo != "" {
		if t, err := target.Parse("git+" + server + "/" + repo); err == nil {
			rep.Target = t
		}
	}
	known := map[string]*rule.Rule{}
	for _, rl := range newApp("").Rules() {
		known[rl.ID] = rl
	}
	named := map[string]bool{}
	for _, p := range r.packages {
		rep.Risk.Score = max(rep.Risk.Score, p.score)
		at := p.places
		if len(at) == 0 {
			at = []finding.Location{{}}
		}
		if p.err != nil {
			_, text := fault.Of(p.err)
			rep.Notes = append(rep.Notes, finding.Note{Path: at[0].Path, Text: p.target.Short() + " was not looked at: " + text})
		}
		for _, n := range p.notes {
			rep.Notes = append(rep.Notes, finding.Note{Path: at[0].Path, Scanner: n.Scanner, Text: strings.TrimSpace(p.target.Short()+" "+n.Path) + ": " + n.Text})
		}
		for _, f := range p.findings {
			if !named[f.Rule] {
				named[f.Rule] = true
				rep.Rules = append(rep.Rules, ruleOf(f, known[f.Rule]))
			}
			for _, place := range at {
				rep.Findings = append(rep.Findings, p.placed(f, place))
			}
		}
	}
	rep.Notes = finding.ArrangeNotes(rep.Notes)
	finding.Arrange(rep.Findings)
	slices.SortFunc(rep.Rules, func(a, b *rule.Rule) int { return strings.Compare(a.ID, b.ID) })
	return rep
}

// placed returns a finding about a package that stands in a lock file.
func (p *ciPackage) placed(f finding.Finding, at finding.Location) finding.Finding {
	return finding.Finding{
		Rule: f.Rule, ScanType: f.ScanType, Severity: f.Severity, Confidence: f.Confidence, CWE: f.CWE, Attack: f.Attack, References: f.References,
		Title: p.target.Short() + ": " + f.Title, Description: f.Description, Remediation: f.Remediation, Location: at, PURL: p.target.PURL(),
		Evidence: f.Evidence, Tool: f.Tool,
	}
}

// ruleOf returns the rule of a finding: the built-in one, or as much of it as the
// finding says.
func ruleOf(f finding.Finding, known *rule.Rule) *rule.Rule {
	if known != nil {
		return known
	}
	return &rule.Rule{ID: f.Rule, Title: f.Title, ScanType: f.ScanType, Severity: f.Severity, Confidence: f.Confidence, CWE: f.CWE, Attack: f.Attack, Fix: f.Remediation}
}

// How much of a long list a summary shows: one of a job may have 1 MiB.
const (
	maxRows     = 200
	maxDetailed = 100
)

// markdown writes the summary of a job.
func (r *ciRun) markdown() []byte {
	var out bytes.Buffer
	worst, failed := 0, r.broken
	for _, p := range r.packages {
		failed += p.failed()
		if p.err == nil && r.fails(p) {
			worst++
		}
	}
	verdict := "nothing fails the gate"
	switch {
	case worst > 0:
		verdict = fmt.Sprintf("%s at or above **%s**", count(worst, "package is", "packages are"), r.failOn)
	case r.failOn == finding.Unrated:
		verdict = "no gate is set"
	}
	if failed > 0 {
		verdict += fmt.Sprintf(", %d could not be looked at", failed)
	}
	fmt.Fprintf(&out, "## Native dependencies: %s\n\n%s.\n", verdict, report.InMarkdown(r.heading(), 1000))
	if len(r.packages) > 0 {
		out.WriteString("\n| Package | Risk | Binaries | Findings | Locked at |\n|:--|:--|--:|:--|:--|\n")
	}
	for _, p := range r.packages[:min(len(r.packages), maxRows)] {
		risk, binaries, counts, where := fmt.Sprintf("%d %s", p.score, p.level), fmt.Sprint(p.binaries), cmp.Or(p.counts(), "none"), ""
		if p.err != nil {
			risk, binaries, counts = "not looked at", "", ""
		} else if r.fails(p) {
			risk = "**" + risk + "**"
		}
		if w := p.where(); w != "" {
			where = report.CodeInMarkdown(w, 300)
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", report.CodeInMarkdown(p.target.Short(), 300), risk, binaries, counts, where)
	}
	if more := len(r.packages) - maxRows; more > 0 {
		fmt.Fprintf(&out, "\n… and %s.\n", count(more, "more package", "more packages"))
	}
	r.markdownDetails(&out)
	if len(r.notes) > 0 {
		out.WriteString("\n### Notes\n\n")
	}
	for _, n := range r.notes[:min(len(r.notes), maxDetailed)] {
		fmt.Fprintf(&out, "- %s: %s\n", report.CodeInMarkdown(n.Path, 300), report.InMarkdown(n.Text, 1000))
	}
	return out.Bytes()
}

// markdownDetails writes what was not looked at, and the findings that matter.
func (r *ciRun) markdownDetails(out *bytes.Buffer) {
	written := 0
	item := func(format string, args ...any) {
		if written++; written <= maxDetailed {
			fmt.Fprintf(out, format, args...)
		}
	}
	for _, p := range r.packages {
		if p.err != nil {
			_, text := fault.Of(p.err)
			item("\n**Not looked at:** %s: %s\n", report.CodeInMarkdown(p.target.Short(), 300), report.InMarkdown(text, 500))
		}
		for _, f := range p.findings {
			if r.notable(f) {
				item("\n**%s:** %s: **%s** (%s)\n\n%s\n\n%s\n", f.Severity, report.CodeInMarkdown(p.target.Short(), 300), report.InMarkdown(f.Title, 300),
					report.CodeInMarkdown(f.Rule, 120), report.InMarkdown(f.Description, 1200), report.InMarkdown(f.Remediation, 600))
			}
		}
	}
	if more := written - maxDetailed; more > 0 {
		fmt.Fprintf(out, "\n… and %d more.\n", more)
	}
}

// maxAnnotations is how many annotations of a level GitHub shows for a step.
const maxAnnotations = 10

// annotate writes findings as commands of a workflow, which the page of a pull
// request shows beside the line in the lock file (GitHub documentation, "Workflow
// commands for GitHub Actions").
func (r *ciRun) annotate() error {
	var errs, warnings []string
	for _, p := range r.packages {
		at := finding.Location{}
		if len(p.places) > 0 {
			at = p.places[0]
		}
		if p.err != nil {
			_, text := fault.Of(p.err)
			errs = append(errs, command("error", at, p.target.Short()+" was not looked at", text))
			continue
		}
		before := len(errs)
		for _, f := range p.findings {
			title := p.target.Short() + ": " + f.Title
			switch {
			case r.failOn != finding.Unrated && f.Severity >= r.failOn:
				errs = append(errs, command("error", at, title, f.Description))
			case f.Severity >= finding.Medium:
				warnings = append(warnings, command("warning", at, title, f.Description))
			}
		}
		if r.fails(p) && len(errs) == before { // by its risk alone
			errs = append(errs, command("error", at, fmt.Sprintf("%s: risk %d of 100, %s", p.target.Short(), p.score, p.level), cmp.Or(p.summary, "Its findings add up to this.")))
		}
	}
	errs = errs[:min(len(errs), maxAnnotations)]
	warnings = warnings[:min(len(warnings), maxAnnotations)]
	for _, line := range slices.Concat(errs, warnings) {
		if _, err := fmt.Fprintln(r.s.Out, line); err != nil {
			return err
		}
	}
	return nil
}

// command writes a command of a workflow.
func command(level string, at finding.Location, title, text string) string {
	var properties []string
	if at.Path != "" {
		properties = append(properties, "file="+property(at.Path))
	}
	if at.Line > 0 {
		properties = append(properties, fmt.Sprintf("line=%d", at.Line))
	}
	properties = append(properties, "title="+property(logged(title)))
	return "::" + level + " " + strings.Join(properties, ",") + "::" + commandData.Replace(logged(cmp.Or(text, title)))
}

// What a command's text and its properties may not hold as it is.
var (
	commandData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	commandProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func property(text string) string { return commandProperty.Replace(text) }
