package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/loupe-sec/loupe/internal/enrich"
	"github.com/loupe-sec/loupe/internal/service/app"
)

func newBackup(s Streams) *cobra.Command {
	return accountFlags(&cobra.Command{
		Use:   "backup FILE",
		Short: "Write all that a server keeps into a file",
		Long: `Backup writes the database into FILE: organizations, keys, analyses, scans and
jobs as they are at one moment. Servers and workers may run meanwhile. FILE is
replaced if it exists, as a whole, and only its owner can read it. With - it goes
to the standard output.

A backup can be restored on SQLite and on Postgres, by this version of Loupe and
later ones. It holds what the database holds: the hashes of keys and passwords, and
the secrets with which webhooks are signed. It is a tar archive packed by zstd.`,
		Example: `  loupe backup loupe-2026-11-20.tar.zst
  loupe backup --database-url postgres://loupe@db/loupe - | age -r age1… > loupe.age`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			at, err := s.place(c)
			if err != nil {
				return err
			}
			show := newCopying(s)
			done, err := app.Backup(c.Context(), at, version(), list[0], s.Out, show.progress)
			show.end()
			if err != nil {
				return app.ExplainDatabase(err)
			}
			_, err = fmt.Fprintf(s.Err, "backup: %d rows of %d tables, %s, as of %s\n", done.Rows, done.Tables, enrich.Bytes(done.Bytes), done.At.Format(time.RFC3339))
			return err
		},
	})
}

func newRestore(s Streams) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a server's database what is in a backup",
		Long: `Restore reads a backup to its end, checks it, and then puts all of it into the
database, which is made if there is none. If anything fails, the database is left
as it was.

It refuses while servers or workers use the database, and if organizations or
anything else are in it, unless --force says that they are to be overwritten. What
had not been done yet when the backup was made is done when a server starts.`,
		Example: `  loupe restore loupe-2026-11-20.tar.zst
  loupe restore loupe-2026-11-20.tar.zst --database-url postgres://loupe@db/loupe --force`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			at, err := s.place(c)
			if err != nil {
				return err
			}
			show := newCopying(s)
			done, err := app.Restore(c.Context(), at, list[0], force, show.progress)
			show.end()
			if err != nil {
				return app.ExplainDatabase(err)
			}
			_, err = fmt.Fprintf(s.Err, "restored: %d rows of %d tables, as of %s\n", done.Rows, done.Tables, done.At.Format(time.RFC3339))
			return err
		},
	}
	c.Flags().BoolVar(&force, "force", false, "overwrite what is in the database")
	return accountFlags(c)
}

func newMigrate(s Streams) *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Move what a server keeps from SQLite to Postgres, or back",
		Long: `Migrate copies the database of --data or --database-url to that of --to, in which
nothing may be yet: organizations, keys, analyses, scans, and the jobs that are not
done, so that what was accepted goes on there. It reads back what it wrote and
compares it. The first database stays as it is; if anything fails, the second does
too.

End all servers and workers first, and start them with the new place afterwards.`,
		Example: `  loupe migrate --data /var/lib/loupe --to postgres://loupe@db/loupe
  loupe migrate --database-url postgres://loupe@db/loupe --to sqlite:/var/lib/loupe`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if to == "" {
				return usageError{fmt.Errorf("--to is missing; see `%s --help`", c.CommandPath())}
			}
			target, err := app.ParsePlace(to)
			if err != nil {
				return err
			}
			at, err := s.place(c)
			if err != nil {
				return err
			}
			show := newCopying(s)
			done, err := app.MoveDatabase(c.Context(), at, target, show.progress)
			show.end()
			if err != nil {
				return app.ExplainDatabase(err)
			}
			start := "loupe serve --data " + shellWord(target.DataDir)
			if target.DatabaseURL != "" {
				start = "loupe serve with this --database-url"
			}
			_, err = fmt.Fprintf(s.Err, "moved: %d rows of %d tables\nnext: %s\n", done.Rows, done.Tables, start)
			return err
		},
	}
	c.Flags().StringVar(&to, "to", "", "`place` of the new database: postgres://user@host/name, or sqlite:FOLDER")
	return accountFlags(c)
}

// place returns where the database of a command's settings is.
func (s Streams) place(c *cobra.Command) (app.Place, error) {
	cfg, err := s.settings(c)
	if err != nil {
		return app.Place{}, err
	}
	return app.Place{DataDir: cfg.Data, DatabaseURL: cfg.DatabaseURL}, nil
}

// A copying shows which table is copied: a line for each that has rows and, on
// a terminal, how far it is.
type copying struct {
	s     Streams
	last  time.Time
	dirty bool
}

func newCopying(s Streams) *copying { return &copying{s: s} }

func (p *copying) progress(table string, rows int64, done bool) {
	switch {
	case done:
		p.end()
		if rows > 0 {
			fmt.Fprintf(p.s.Err, "  %-18s %9d rows\n", table, rows)
		}
	case p.s.ErrTerminal && time.Since(p.last) > perFrame:
		p.last, p.dirty = time.Now(), true
		fmt.Fprintf(p.s.Err, "\r\x1b[K  %-18s %9d rows …", table, rows)
	}
}

// end clears the line that changes.
func (p *copying) end() {
	if p.dirty {
		fmt.Fprint(p.s.Err, "\r\x1b[K")
		p.dirty = false
	}
}
