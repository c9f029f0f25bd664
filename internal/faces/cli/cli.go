// Package cli is the command line: it reads arguments, calls the use cases of
// app, and prints. Reports go to the standard output, everything else to the
// standard error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// The exit codes. Scripts depend on them.
const (
	exitDone   = 0
	exitGate   = 1 // a gate failed: --fail-on, the examples of a rule
	exitUsage  = 2
	exitFailed = 3 // the target could not be scanned
)

// Streams are where the command line reads and writes.
type Streams struct {
	In       io.Reader // nil for a terminal
	Out, Err io.Writer
	Env      func(string) string

	OutTerminal, ErrTerminal bool // a person is looking
	Width                    int  // columns of the terminal; 0 if none
}

// System returns the streams of the process.
func System() Streams {
	s := Streams{Out: os.Stdout, Err: os.Stderr, Env: os.Getenv}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		s.In = os.Stdin
	}
	s.OutTerminal = term.IsTerminal(int(os.Stdout.Fd()))
	s.ErrTerminal = term.IsTerminal(int(os.Stderr.Fd()))
	if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		s.Width = w
	}
	return s
}

// color reports whether a stream that is, or is not, a terminal gets colours
// (https://no-color.org).
func (s Streams) color(terminal bool) bool {
	return terminal && s.Env("NO_COLOR") == "" && s.Env("TERM") != "dumb"
}

// Version is what `loupe version` says. A release sets it with -ldflags -X;
// otherwise the build information tells.
var Version string

func version() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

// Main runs the command line and returns the exit code. An interrupt ends the
// command in order, a second one at once. The process of a sandbox has no command
// line of a person: it is the program that starts itself.
func Main(args []string, s Streams) int {
	tuneGC(s.Env)
	if code, asked := app.Inspect(args); asked {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot(s)
	root.SetArgs(args)
	return s.exit(root.ExecuteContext(ctx))
}

// exit prints an error and returns the code for it.
func (s Streams) exit(err error) int {
	if err == nil {
		return exitDone
	}
	if gate, ok := errors.AsType[gateError](err); ok {
		fmt.Fprintf(s.Err, "loupe: %s\n", gate)
		return exitGate
	}
	if usage, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(s.Err, "loupe: %s\n", finding.Printable(usage.Error(), 2000))
		return exitUsage
	}
	kind, text := fault.Of(err)
	if kind == fault.Internal {
		text = finding.Redact(err.Error()) // a person at a terminal is the log
	}
	fmt.Fprintf(s.Err, "loupe: %s\n", finding.Printable(text, 2000))
	return exitFailed
}

// A gateError is a result that the user asked to be told by the exit code.
type gateError string

func (e gateError) Error() string { return string(e) }

// A usageError is a command line that cannot be understood.
type usageError struct{ error }

func newRoot(s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "loupe",
		Short: "See what software really does before it runs",
		Long: `Loupe looks at what a team ships: packages with native binaries, folders,
archives, single programs. It says what is in them, what they can do and how
risky that is, with the evidence, and runs nothing of it.`,
		Example: `  loupe scan npm:bcrypt@6.0.0
  loupe scan ./node_modules --format sarif -o loupe.sarif --fail-on high
  loupe diff npm:sqlite3 5.1.6 5.1.7`,
		Version:           version(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              noCommand,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return fromEnvironment(c.Flags(), s.Env) },
	}
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
	})
	root.AddCommand(newScan(s), newDiff(s), newServe(s), newWorker(s), newHealth(s), newOrg(s), newUser(s), newKey(s), newBackup(s), newRestore(s), newMigrate(s), newRules(s), newCI(s), newConfig(s), newVersion(s), newMan(s))
	return root
}

// noCommand refuses a word that is no command, and names those that are like it.
func noCommand(root *cobra.Command, list []string) error {
	if len(list) == 0 {
		return nil
	}
	advice := "see `loupe --help`"
	if like := root.SuggestionsFor(list[0]); len(like) > 0 {
		advice = "did you mean " + strings.Join(like, " or ") + "?"
	}
	return usageError{fmt.Errorf("there is no command %q; %s", list[0], advice)}
}

// fromEnvironment sets flags that were not given from LOUPE_ and their name:
// LOUPE_FAIL_ON for --fail-on.
func fromEnvironment(flags *pflag.FlagSet, env func(string) string) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "LOUPE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v := env(name); v != "" && !f.Changed {
			if err := flags.Set(f.Name, v); err != nil {
				errs = append(errs, usageError{fmt.Errorf("%s: %w", name, err)})
			}
		}
	})
	return errors.Join(errs...)
}

// args wraps a check of the number of arguments so that its error is one of
// usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, list []string) error {
		switch err := check(c, list); {
		case err == nil:
			return nil
		case len(list) == 0:
			return usageError{fmt.Errorf("%s is missing; see `%s --help`", strings.TrimPrefix(c.Use, c.Name()+" "), c.CommandPath())}
		default:
			return usageError{fmt.Errorf("%q is one word too many; see `%s --help`", list[len(list)-1], c.CommandPath())}
		}
	}
}

func newApp(dataDir string) *app.App {
	return app.New(app.Options{Version: version(), DataDir: dataDir, ProjectDir: "."})
}

func newVersion(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of Loupe and of its rules",
		Args:  args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			a := newApp("")
			_, err := fmt.Fprintf(s.Out, "loupe %s, %d rules (%s)\n", version(), len(a.Rules()), a.Tool().Rules)
			return err
		},
	}
}
