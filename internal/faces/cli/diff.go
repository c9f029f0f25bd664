package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/app"
)

func newDiff(s Streams) *cobra.Command {
	var f scanFlags
	c := &cobra.Command{
		Use:   "diff TARGET FROM TO | diff OLD NEW",
		Short: "Say what is different between two versions",
		Long: `Diff scans two versions in the same way and says what the second does that the
first did not: which behaviours, imports, addresses, install scripts, downloads,
signers, components and findings are new or gone, what became of each binary and
its functions, and how the risk changes.

TARGET is a package without a version, such as npm:NAME or pypi:NAME, and FROM
and TO are versions of it. OLD and NEW are any two things that loupe scan takes:
folders, archives, single binaries, packages with their versions.

Binaries are paired by path, by content, by the same path but for versions, by
platform and by what they hold in common; functions by name, by instructions and
by what they call. Behaviours are told by rules and not by bytes, so that the
same source, compiled anew, shows no difference in behaviour.

The exit code is 0 when both are compared, 1 when a finding is new and as severe
as --fail-on says, 2 for wrong usage and 3 when a side could not be scanned. That
a file behind the same address was replaced counts as a new critical finding.`,
		Example: `  loupe diff npm:sqlite3 5.1.6 5.1.7
  loupe diff pypi:orjson 3.10.6 3.10.7 --platform host
  loupe diff npm:bcrypt 5.1.1 6.0.0 --format markdown --fail-on high
  loupe diff ./old.node ./new.node --format json -o diff.json`,
		Args: func(c *cobra.Command, list []string) error {
			if len(list) == 1 {
				return usageError{fmt.Errorf("versions or a second thing to compare with are missing; see `%s --help`", c.CommandPath())}
			}
			return args(cobra.RangeArgs(2, 3))(c, list)
		},
		RunE: func(c *cobra.Command, list []string) error { return s.diff(c, f, list) },
	}
	flags := c.Flags()
	flags.StringVar(&f.format, "format", "", "how to write the diff: "+diffFormatNames()+" (default: by the extension of -o, else table)")
	flags.StringVarP(&f.out, "output", "o", "", "write the diff to this `file` instead of the standard output")
	flags.StringVar(&f.failOn, "fail-on", "", "exit with 1 if a new finding is of this `severity` or worse: info, low, medium, high, critical")
	flags.StringSliceVar(&f.scanners, "scanners", nil, "run only these scanners: "+scannerNames())
	rulesFlag(c, &f.rules)
	flags.StringVar(&f.platform, "platform", "", "which builds of a package to fetch, as for loupe scan: all, host, none, or `names`")
	flags.BoolVar(&f.prebuilt, "fetch-prebuilt", false, "also fetch and compare what the installation of an npm package would download")
	flags.StringSliceVar(&f.hosts, "fetch-host", nil, "a further `host` that --fetch-prebuilt may ask")
	flags.BoolVar(&f.offline, "offline", false, "use no network: only files and what earlier scans fetched")
	flags.BoolVar(&f.noCache, "no-cache", false, "look at every binary anew, also at those that an earlier scan has looked at")
	sandboxFlag(c, &f.sandbox)
	flags.StringVar(&f.data, "data", "", "the `folder` for caches (default: "+shorten(app.DefaultDataDir())+")")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no progress on the standard error")
	complete(c, diffFormatNames())
	return c
}

func diffFormatNames() string {
	var names []string
	for _, f := range report.DiffFormats {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

func (s Streams) diff(c *cobra.Command, f scanFlags, list []string) error {
	from, to, err := f.sides(list)
	if err != nil {
		return err
	}
	format, err := chooseDiffFormat(f.format, f.out)
	if err != nil {
		return err
	}
	f.format = "" // it is none of a report
	side := from
	if to.Kind == target.Package { // for which all flags have a meaning
		side = to
	}
	scan, _, failOn, err := f.read(side.String())
	if err != nil {
		return err
	}
	s.warn(scan.Rules)
	watch := newProgress(s, f.quiet)
	scan.Event = watch.event
	req := app.DiffRequest{From: from, To: to, Scan: scan}
	if err := app.CheckDiff(req); err != nil {
		return usageError{err}
	}
	d, err := newApp(cmp.Or(f.data, app.DefaultDataDir())).Diff(c.Context(), req)
	watch.done()
	if err != nil {
		return err
	}
	if err := s.writeDiff(f.out, format, d); err != nil {
		return err
	}
	return gate(alarms(d), failOn)
}

// sides turns the arguments into the two targets.
func (f scanFlags) sides(list []string) (from, to target.Target, err error) {
	if len(list) == 2 {
		if from, err = target.Parse(list[0]); err == nil {
			to, err = target.Parse(list[1])
		}
		if err == nil && from.Kind == target.Package && to.Kind == target.Path && !strings.ContainsAny(list[1], `/\`) {
			err = fmt.Errorf("one version is missing: `loupe diff %s FROM TO` (write ./%s for a file)", list[0], list[1])
		}
	} else if from, err = target.Parse(list[0]); err == nil {
		to = from
		switch {
		case from.Kind != target.Package:
			err = fmt.Errorf("%q is no package, so it has no versions: `loupe diff OLD NEW` compares files", list[0])
		case from.Version != "":
			err = fmt.Errorf("%q has a version already: `loupe diff %s %s %s`", list[0], withoutVersion(from), list[1], list[2])
		case list[1] == "" || list[2] == "":
			err = fmt.Errorf("a version is empty")
		default:
			from.Version, to.Version = list[1], list[2]
			for _, side := range []target.Target{from, to} {
				if again, wrong := target.Parse(side.Short()); wrong != nil || again != side {
					err = fmt.Errorf("%q is no version", side.Version)
				}
			}
		}
	}
	if err != nil {
		return from, to, usageError{err}
	}
	return from, to, nil
}

func withoutVersion(t target.Target) string {
	t.Version = ""
	return t.Short()
}

func chooseDiffFormat(name, out string) (report.DiffFormat, error) {
	if name != "" {
		if f, ok := report.FindDiff(name); ok {
			return f, nil
		}
		return report.DiffFormat{}, usageError{fmt.Errorf("there is no format %q: choose from %s", name, diffFormatNames())}
	}
	i := slices.IndexFunc(report.DiffFormats, func(f report.DiffFormat) bool { return strings.HasSuffix(strings.ToLower(out), f.Ext) })
	return report.DiffFormats[max(i, 0)], nil
}

// writeDiff writes the diff, into a file whole or not at all.
func (s Streams) writeDiff(out string, format report.DiffFormat, d *report.Diff) error {
	if out == "" || out == "-" {
		return format.Write(s.Out, d, report.Options{Color: s.color(s.OutTerminal), Width: s.Width})
	}
	var buf bytes.Buffer
	if err := format.Write(&buf, d, report.Options{Width: 100}); err != nil {
		return err
	}
	if err := writeFile(out, buf.Bytes()); err != nil {
		return fault.New(fault.Unavailable, "the diff cannot be written to %s", out).Try("choose a folder that exists and that you may write to").Because(err)
	}
	return nil
}

// alarms are the findings that count for --fail-on: those that are new, those
// that became worse, and addresses behind which other bytes were found.
func alarms(d *report.Diff) []finding.Finding {
	out := slices.Clone(d.Findings.Added)
	for _, c := range d.Findings.Changed {
		if c.Finding.Severity > c.From {
			out = append(out, c.Finding)
		}
	}
	for _, a := range d.Install.Assets {
		out = append(out, finding.Finding{Severity: a.Severity})
	}
	return out
}
