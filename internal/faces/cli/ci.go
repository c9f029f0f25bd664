package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/loupe-sec/loupe/internal/client"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/formats/nativedep"
	"github.com/loupe-sec/loupe/internal/service/app"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
)

// ciFlags are the flags of `loupe ci`.
type ciFlags struct {
	locks, skip    []string
	server, failOn string
	sarif, summary string
	data, sandbox  string
	timeout        time.Duration
	quiet, noCache bool
}

func newCI(s Streams) *cobra.Command {
	var f ciFlags
	c := &cobra.Command{
		Use:   "ci [PACKAGE...]",
		Short: "Look at the native dependencies of a project, and fail if they are risky",
		Long: `CI looks at packages, or at those packages of lock files that can hold native
code: that carry it, download it or build it when they are installed. With a
server (--server) they are submitted to it and waited for; what it knows already,
it answers at once. Without a server they are scanned here. Nothing of a package is
ever run.

PACKAGE is npm:NAME@VERSION or pypi:NAME@VERSION. Without packages and without
--lockfile, the lock files of this folder are read:
  ` + strings.Join(nativedep.Names()[:5], ", ") + `,
  ` + strings.Join(nativedep.Names()[5:], ", ") + `.
A package that another one needs on one platform is only looked at by itself if
the scan of that other one did not do so.

A package fails the gate if one of its findings is as severe as --fail-on says, or
if the level of its risk score is. The default is what the server advises, or high.

The key of the server's API is read from LOUPE_KEY, else from BINSHIELD_API_KEY. On
GitHub Actions (GITHUB_ACTIONS, GITHUB_REPOSITORY, GITHUB_STEP_SUMMARY) the job gets
a summary and findings become annotations.

The exit code is 0 when all is looked at and nothing fails the gate, 1 when
something does, 2 for wrong usage, and 3 when something could not be looked at.`,
		Example: `  loupe ci
  loupe ci npm:bcrypt@6.0.0 pypi:cryptography@43.0.0
  loupe ci --lockfile package-lock.json --lockfile api/uv.lock --sarif loupe.sarif
  LOUPE_KEY=bsh_live_... loupe ci --server https://loupe.example --fail-on medium`,
		RunE: func(c *cobra.Command, list []string) error { return s.ci(c, f, list) },
	}
	flags := c.Flags()
	flags.StringArrayVar(&f.locks, "lockfile", nil, "a lock `file`, or a pattern such as 'apps/*/package-lock.json'; may be given more than once")
	flags.StringArrayVar(&f.skip, "skip", nil, "leave out packages of lock files, by a `pattern` such as 'npm:@my-company/*'; may be given more than once")
	flags.StringVar(&f.server, "server", "", "`address` of the server that looks at them (default: they are scanned here)")
	flags.StringVar(&f.failOn, "fail-on", "", "exit with 1 if a finding or a risk is of this `severity` or worse: low, medium, high, critical, or none for never (default: the server's advice, else high)")
	flags.StringVar(&f.sarif, "sarif", "", "write SARIF 2.1.0 to this `file`, with places in the lock files")
	flags.StringVar(&f.summary, "summary", "", "write a summary in Markdown to this `file` (default: GITHUB_STEP_SUMMARY)")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Minute, "give up after this `time`")
	flags.StringVar(&f.data, "data", "", "the `folder` for caches, without a server (default: "+shorten(app.DefaultDataDir())+")")
	flags.BoolVar(&f.noCache, "no-cache", false, "without a server: look at every binary anew")
	sandboxFlag(c, &f.sandbox)
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no progress on the standard error")
	if err := c.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"low", "medium", "high", "critical", "none"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

// A ciRun is one call of `loupe ci`.
type ciRun struct {
	s      Streams
	f      ciFlags
	host   string // of the server; empty without one
	failOn finding.Severity
	root   string // folder to which places are relative

	packages []*ciPackage
	covered  int            // packages for single platforms that were looked at with others
	locked   int            // packages in the lock files, of any kind
	locks    []string       // lock files that were read
	notes    []finding.Note // on what could not be read of them
	broken   int            // lock files that could not be read to their ends
	started  time.Time
}

// A looker looks at packages, and says of each when it is done.
type looker interface {
	look(ctx context.Context, packages []*ciPackage, done func(*ciPackage)) error
}

func (s Streams) ci(c *cobra.Command, f ciFlags, names []string) error {
	run := &ciRun{s: s, f: f, started: time.Now(), root: cmp.Or(s.onGitHub("GITHUB_WORKSPACE"), ".")}
	failOn, asked, err := readFailOn(f.failOn)
	if err != nil {
		return err
	}
	if f.timeout <= 0 {
		return usageError{fmt.Errorf("--timeout %s leaves no time", f.timeout)}
	}
	if err := run.collect(names); err != nil {
		return err
	}
	watch := newWatch(s, f.quiet)
	ctx, cancel := context.WithTimeout(c.Context(), f.timeout)
	defer cancel()
	with, advice, err := run.looker(ctx, watch)
	if err != nil {
		return err
	}
	if run.failOn = failOn; !asked {
		run.failOn = advice
	}
	err = run.look(ctx, with, watch)
	watch.end()
	if werr := run.report(); werr != nil {
		return errors.Join(err, werr)
	}
	return run.verdict(err)
}

// readFailOn reads --fail-on, and says whether it was given.
func readFailOn(word string) (level finding.Severity, asked bool, err error) {
	switch word {
	case "":
		return finding.High, false, nil
	case "none":
		return finding.Unrated, true, nil
	}
	if err := level.UnmarshalText([]byte(word)); err != nil || level == finding.Unrated {
		return level, true, usageError{fmt.Errorf("--fail-on: unknown severity %q: want low, medium, high, critical or none", word)}
	}
	return level, true, nil
}

// onGitHub returns a variable of GitHub Actions, or nothing elsewhere.
func (s Streams) onGitHub(name string) string {
	if s.Env("GITHUB_ACTIONS") != "true" {
		return ""
	}
	return s.Env(name)
}

// looker returns who looks at the packages, and from which severity on a build
// should fail if nobody says so.
func (r *ciRun) looker(ctx context.Context, watch *ciWatch) (looker, finding.Severity, error) {
	if r.f.server == "" {
		mode, err := sandbox.ParseMode(r.f.sandbox)
		if err != nil {
			return nil, finding.High, usageError{err}
		}
		return &here{app: newApp(cmp.Or(r.f.data, app.DefaultDataDir())), mode: mode, noCache: r.f.noCache, watch: watch}, finding.High, nil
	}
	key := cmp.Or(r.s.Env("LOUPE_KEY"), r.s.Env("BINSHIELD_API_KEY"))
	if key == "" {
		return nil, 0, usageError{errors.New("there is no key for the server: set LOUPE_KEY in the environment; loupe key create makes one")}
	}
	for _, p := range r.packages {
		if p.target.Version == "" {
			return nil, 0, usageError{fmt.Errorf("%s has no version: a server looks at one version, so write %[1]s@VERSION", p.target.Short())}
		}
	}
	api, err := client.New(client.Options{Server: r.f.server, Key: key, Version: version(), Waits: watch.waits})
	if err != nil {
		return nil, 0, usageError{fmt.Errorf("--server: %w", err)}
	}
	r.host = api.Host()
	health, err := api.Health(ctx)
	if err != nil {
		return nil, 0, err
	}
	advice := finding.High
	if err := advice.UnmarshalText([]byte(health.DefaultFailOn)); err != nil || advice == finding.Unrated {
		advice = finding.High
	}
	source := "api"
	if r.s.Env("GITHUB_ACTIONS") == "true" {
		source = "github-action"
	}
	return &there{api: api, repo: r.s.Env("GITHUB_REPOSITORY"), source: source, watch: watch}, advice, nil
}

// look has the packages looked at: first those that others are not part of, then
// those parts that were left over.
func (r *ciRun) look(ctx context.Context, with looker, watch *ciWatch) error {
	covered := map[string]bool{}
	var first, parts []*ciPackage
	for _, p := range r.packages {
		if p.build {
			parts = append(parts, p)
		} else {
			first = append(first, p)
		}
	}
	done := func(p *ciPackage) {
		for _, purl := range p.parts {
			covered[purl] = true
		}
		watch.done(p)
	}
	watch.expect(len(first))
	if err := with.look(ctx, first, done); err != nil {
		return err
	}
	var left []*ciPackage
	for _, p := range parts {
		if p.covered = covered[p.target.PURL()]; !p.covered {
			left = append(left, p)
		}
	}
	watch.expect(len(left))
	return with.look(ctx, left, done)
}

// verdict is what the command ends with.
func (r *ciRun) verdict(err error) error {
	looked, failed, worst := 0, r.broken, 0
	for _, p := range r.packages {
		switch {
		case p.covered:
		case p.err != nil:
			failed++
		default:
			looked++
			if r.fails(p) {
				worst++
			}
		}
	}
	incomplete := fmt.Sprintf("%s could not be looked at", count(failed, "package or lock file", "packages or lock files"))
	switch {
	case worst > 0:
		text := fmt.Sprintf("%s of %d fail the gate: %s or worse (--fail-on %s)", count(worst, "package", "packages"), looked, r.failOn, r.failOn)
		if worst == 1 {
			text = strings.Replace(text, " fail ", " fails ", 1)
		}
		if failed > 0 {
			text += "; " + incomplete
		}
		return gateError(text)
	case err != nil:
		return err
	case failed > 0:
		return fault.New(fault.Unavailable, "%s", incomplete)
	}
	return nil
}

// fails says whether a package fails the gate.
func (r *ciRun) fails(p *ciPackage) bool {
	return r.failOn != finding.Unrated && p.worst() >= r.failOn
}

// count writes a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
