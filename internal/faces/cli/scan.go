package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/app"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
)

// scanFlags are the flags of `loupe scan`.
type scanFlags struct {
	format, out, failOn, now string
	scanners, hosts          []string
	platform, data, sandbox  string
	rules                    []string
	offline, quiet, explain  bool
	prebuilt, noCache        bool
}

func newScan(s Streams) *cobra.Command {
	var f scanFlags
	c := &cobra.Command{
		Use:   "scan TARGET",
		Short: "Say what a package, folder, archive or binary holds and does",
		Long: `Scan gets the target, opens it without running anything of it, finds the native
binaries in it by their content, and says what each is, imports and does, with
the evidence, a risk score and findings.

TARGET is one of
  npm:NAME[@VERSION]    a package of the npm registry that your .npmrc names
  pypi:NAME[@VERSION]   a package of the index that your pip settings name
  pkg:npm/NAME@VERSION  the same as a package URL
  PATH                  a folder, an archive or a single binary
VERSION is a version, a range or a tag; without it the newest is scanned.

The exit code is 0 when the scan is done, 1 when --fail-on says so, 2 for wrong
usage and 3 when the target could not be scanned, or Ctrl-C ended it. What could
not be looked at stands in the notes of the report: no findings never means "not
readable".

Without --format, the ending of -o chooses the format:
` + endings() + `
Scanners, for --scanners:
` + scannerDocs() + `
What was downloaded and found out is kept for the next scan in ` + shorten(app.DefaultDataDir()) + `, or
where --data says: up to 1 GiB of downloads and ` + fmt.Sprint(scan.CacheSize>>20) + ` MiB of results, of which
what was not used for longest goes first. The folder cache in it can be deleted
at any time; --no-cache looks at every binary anew.

Each flag can be set in the environment: LOUPE_FAIL_ON=high for --fail-on high.`,
		Example: `  loupe scan npm:bcrypt@6.0.0
  loupe scan pypi:cryptography --platform host --explain
  loupe scan ./app.node --format json
  loupe scan npm:esbuild --format sarif -o esbuild.sarif --fail-on high`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, list []string) error { return s.scan(c, f, list[0]) },
	}
	flags := c.Flags()
	flags.StringVar(&f.format, "format", "", "how to write the report: "+formatNames()+" (default: by the extension of -o, else table)")
	flags.StringVarP(&f.out, "output", "o", "", "write the report to this `file` instead of the standard output")
	flags.StringVar(&f.failOn, "fail-on", "", "exit with 1 if a finding is of this `severity` or worse: info, low, medium, high, critical")
	flags.StringSliceVar(&f.scanners, "scanners", nil, "run only these scanners: "+scannerNames())
	rulesFlag(c, &f.rules)
	flags.StringVar(&f.platform, "platform", "", "which builds of a package to fetch: all, host, none, or `names` such as linux-x64,win_amd64 (default: npm all where the package itself has no binary, PyPI one for each platform)")
	flags.BoolVar(&f.prebuilt, "fetch-prebuilt", false, "also fetch what the installation of an npm package would download, over https from GitHub's releases and the package's registry, and look at it")
	flags.StringSliceVar(&f.hosts, "fetch-host", nil, "a further `host` that --fetch-prebuilt may ask")
	flags.BoolVar(&f.offline, "offline", false, "use no network: only files and what earlier scans fetched")
	flags.BoolVar(&f.noCache, "no-cache", false, "look at every binary anew, also at those that an earlier scan has looked at")
	sandboxFlag(c, &f.sandbox)
	flags.StringVar(&f.now, "now", "", "the `time` of the report, as 2026-01-02T15:04:05Z, so that equal input gives equal bytes")
	flags.StringVar(&f.data, "data", "", "the `folder` for caches (default: "+shorten(app.DefaultDataDir())+")")
	flags.BoolVar(&f.explain, "explain", false, "show the terms that add up to each risk score (table)")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no progress on the standard error")
	complete(c, formatNames())
	return c
}

func sandboxFlag(c *cobra.Command, mode *string) {
	c.Flags().StringVar(mode, "sandbox", string(sandbox.Off), "look at the target in a process that has given up files, network and memory beyond a limit: off, auto for as much of that as this system offers, on to refuse where files cannot be closed off")
	if err := c.RegisterFlagCompletionFunc("sandbox", cobra.FixedCompletions([]string{"off", "auto", "on"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is defined above
	}
}

// complete tells the shell what the flags take.
func complete(c *cobra.Command, formats string) {
	fixed := func(words ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
	}
	for flag, words := range map[string][]string{
		"format":   strings.Split(formats, ", "),
		"fail-on":  {"info", "low", "medium", "high", "critical"},
		"scanners": strings.Split(scannerNames(), ", "),
		"platform": {"all", "host", "none"},
	} {
		if err := c.RegisterFlagCompletionFunc(flag, fixed(words...)); err != nil {
			panic(err) // the flag is defined above
		}
	}
}

func formatNames() string {
	var names []string
	for _, f := range report.Formats {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

func scannerNames() string {
	var names []string
	for _, sc := range newApp("").Scanners() {
		names = append(names, sc.Name)
	}
	return strings.Join(names, ", ")
}

// endings says which ending of a file's name stands for which format.
func endings() string {
	var b strings.Builder
	for _, f := range report.Formats {
		if f.Ext != "" {
			fmt.Fprintf(&b, "  %-14s%s, %s\n", f.Ext, f.Name, f.Doc)
		}
	}
	return b.String()
}

// scannerDocs says in a line each what the scanners do.
func scannerDocs() string {
	var b strings.Builder
	for _, sc := range newApp("").Scanners() {
		fmt.Fprintf(&b, "  %-14s%s\n", sc.Name, sc.Doc)
	}
	return b.String()
}

// shorten writes the user's home as ~, so that help is the same for everyone.
func shorten(dir string) string {
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		if rest, ok := strings.CutPrefix(dir, home); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
			return "~" + rest
		}
	}
	return cmp.Or(dir, "none")
}

func (s Streams) scan(c *cobra.Command, f scanFlags, name string) error {
	req, format, failOn, err := f.read(name)
	if err != nil {
		return err
	}
	s.warn(req.Rules)
	watch := newProgress(s, f.quiet)
	req.Event = watch.event
	rep, err := newApp(cmp.Or(f.data, app.DefaultDataDir())).Scan(c.Context(), req)
	watch.done()
	if rep == nil {
		return err
	}
	if err := cmp.Or(s.write(f.out, format, rep, f.explain), err); err != nil {
		return err
	}
	return gate(rep.Findings, failOn)
}

// read turns flags into a request, and refuses what they cannot mean.
func (f scanFlags) read(name string) (req app.ScanRequest, format report.Format, failOn finding.Severity, err error) {
	req = app.ScanRequest{Platform: f.platform, Scanners: f.scanners, Offline: f.offline, NoCache: f.noCache, FetchPrebuilt: f.prebuilt, FetchHosts: f.hosts}
	if req.Target, err = target.Parse(name); err != nil {
		return req, format, failOn, usageError{err}
	}
	if req.Sandbox.Mode, err = sandbox.ParseMode(f.sandbox); err != nil {
		return req, format, failOn, usageError{err}
	}
	if f.now != "" {
		if req.Now, err = time.Parse(time.RFC3339, f.now); err != nil {
			return req, format, failOn, usageError{fmt.Errorf("--now %q is not a time like 2026-01-02T15:04:05Z", f.now)}
		}
	}
	if f.failOn != "" {
		if err = failOn.UnmarshalText([]byte(f.failOn)); err != nil {
			return req, format, failOn, usageError{fmt.Errorf("--fail-on: %w", err)}
		}
	}
	if len(f.rules) > 0 {
		if req.Rules, err = loadRules(f.rules); err != nil {
			return req, format, failOn, err
		}
	}
	if err = app.CheckScan(req); err != nil {
		return req, format, failOn, usageError{err}
	}
	if info, err := os.Stat(f.out); err == nil && info.IsDir() {
		return req, format, failOn, usageError{fmt.Errorf("-o %s is a folder: name a file, such as %s", f.out, filepath.Join(f.out, "loupe.json"))}
	}
	format, err = chooseFormat(f.format, f.out)
	return req, format, failOn, err
}

// chooseFormat finds the format by its name, else by the extension of the file
// that is written, else takes the first.
func chooseFormat(name, out string) (report.Format, error) {
	if name != "" {
		if f, ok := report.Find(name); ok {
			return f, nil
		}
		return report.Format{}, usageError{fmt.Errorf("there is no format %q: choose from %s", name, formatNames())}
	}
	best, length := report.Formats[0], 0
	for _, f := range report.Formats {
		if f.Ext != "" && strings.HasSuffix(strings.ToLower(out), f.Ext) && len(f.Ext) > length {
			best, length = f, len(f.Ext)
		}
	}
	return best, nil
}

// write writes the report, into a file whole or not at all.
func (s Streams) write(out string, format report.Format, rep *report.Report, explain bool) error {
	if out == "" || out == "-" {
		opt := report.Options{Color: s.color(s.OutTerminal), Width: s.Width, Explain: explain}
		return format.Write(s.Out, rep, opt)
	}
	var buf bytes.Buffer
	if err := format.Write(&buf, rep, report.Options{Explain: explain, Width: 100}); err != nil {
		return err
	}
	if err := writeFile(out, buf.Bytes()); err != nil {
		return fault.New(fault.Unavailable, "the report cannot be written to %s", out).Try("choose a folder that exists and that you may write to").Because(err)
	}
	return nil
}

// writeFile writes a regular file whole or not at all, where a link leads, with
// the rights that the user's mask leaves. Into a device or pipe it just writes.
func writeFile(name string, data []byte) error {
	if to, err := filepath.EvalSymlinks(name); err == nil {
		name = to
	}
	mode := os.FileMode(0o666)
	if info, err := os.Stat(name); err == nil {
		if !info.Mode().IsRegular() {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.Write(data)
			return cmp.Or(err, f.Close())
		}
		mode = info.Mode().Perm()
	}
	tmp := filepath.Join(filepath.Dir(name), fmt.Sprintf(".%s-%d", filepath.Base(name), os.Getpid()))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer os.Remove(tmp) // after the rename there is nothing left to remove
	_, err = f.Write(data)
	if err = cmp.Or(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// gate fails if a finding is as bad as the user does not want it.
func gate(fs []finding.Finding, failOn finding.Severity) error {
	if failOn == finding.Unrated {
		return nil
	}
	n := len(slices.DeleteFunc(slices.Clone(fs), func(f finding.Finding) bool { return f.Severity < failOn }))
	switch n {
	case 0:
		return nil
	case 1:
		return gateError(fmt.Sprintf("1 finding is %s or worse (--fail-on %s)", failOn, failOn))
	}
	return gateError(fmt.Sprintf("%d findings are %s or worse (--fail-on %s)", n, failOn, failOn))
}
