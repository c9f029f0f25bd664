package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// everything is the page of lists that are printed whole.
var everything = app.Page{Limit: 100_000}

// withServer runs f on the server of a command's settings, which does no jobs.
func (s Streams) withServer(c *cobra.Command, f func(ctx context.Context, server *app.Server) error) (err error) {
	cfg, err := s.settings(c)
	if err != nil {
		return err
	}
	ctx := c.Context()
	server, _, err := s.open(ctx, cfg, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close(context.WithoutCancel(ctx))) }()
	return f(ctx, server)
}

// group returns a command that only holds others.
func group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: noCommand, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(commands...)
	return c
}

// accountFlags are those of commands beside a server.
func accountFlags(c *cobra.Command) *cobra.Command {
	serverFlags(c.Flags(), "data", "database-url")
	return c
}

// print writes what was made: for people, or as one line of JSON.
func (s Streams) print(asJSON bool, v any, format string, args ...any) error {
	if asJSON {
		return json.NewEncoder(s.Out).Encode(v)
	}
	_, err := fmt.Fprintf(s.Out, format, args...)
	return err
}

func newOrg(s Streams) *cobra.Command {
	var name, slug, plan string
	var asJSON bool
	create := &cobra.Command{
		Use:   "create",
		Short: "Make an organization",
		Long: `Create makes an organization: who has keys, scans, watchlists and a plan. It works
beside a server that runs.`,
		Example: `  loupe org create --name "My company" --slug my-company
  loupe org create --name Acme --plan team --json`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if name == "" {
				return usageError{fmt.Errorf("--name is missing; see `%s --help`", c.CommandPath())}
			}
			return s.withServer(c, func(ctx context.Context, server *app.Server) error {
				o, err := server.Accounts().CreateOrg(ctx, name, slug, plan)
				if err != nil {
					return err
				}
				return s.print(asJSON, orgJSON(o), "organization %s (%s), plan %s\nnext: loupe key create --org %s --label NAME\n", o.Slug, o.ID, o.Plan, o.Slug)
			})
		},
	}
	create.Flags().StringVar(&name, "name", "", "what people call it")
	create.Flags().StringVar(&slug, "slug", "", "its short name: small letters, digits, dashes (default: made of the name)")
	create.Flags().StringVar(&plan, "plan", "", "what it may do: free, payg, monthly, pro, team, enterprise (default enterprise)")
	create.Flags().BoolVar(&asJSON, "json", false, "write one line of JSON")

	setPlan := &cobra.Command{
		Use:   "plan SLUG PLAN",
		Short: "Give an organization another plan",
		Args:  args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, list []string) error {
			return s.withServer(c, func(ctx context.Context, server *app.Server) error {
				o, err := organization(ctx, server, list[0])
				if err != nil {
					return err
				}
				if err := server.Accounts().SetPlan(ctx, o.ID, list[1]); err != nil {
					return err
				}
				_, err = fmt.Fprintf(s.Out, "organization %s has the plan %s\n", o.Slug, list[1])
				return err
			})
		},
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the organizations",
		Args:  args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return s.withServer(c, func(ctx context.Context, server *app.Server) error {
				rows, _, err := server.Organizations(ctx, everything)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "NUMBER\tSLUG\tPLAN\tID\tNAME")
				for _, o := range rows {
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", o.Number, o.Slug, o.Plan, o.ID, finding.Printable(o.Name, 100))
				}
				return w.Flush()
			})
		},
	}
	return group("org", "Make and list organizations", `An organization is who uses a server: it has a plan, keys, members, scans and
watchlists, and sees nothing of another one. Make one before anything else. These
commands work on the database, beside a server that runs; give them the --data or
--database-url of the server.`, accountFlags(create), accountFlags(setPlan), accountFlags(list))
}

// organization returns the organization of a slug.
func organization(ctx context.Context, server *app.Server, slug string) (app.Organization, error) {
	o, err := server.OrganizationBySlug(ctx, slug)
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Kind == fault.NotFound {
		return o, e.Try("loupe org list shows those that there are")
	}
	return o, err
}

func orgJSON(o app.Organization) any {
	return struct {
		ID     string `json:"id"`
		Number int64  `json:"number"`
		Slug   string `json:"slug"`
		Name   string `json:"name"`
		Plan   string `json:"plan"`
	}{o.ID, o.Number, o.Slug, o.Name, o.Plan}
}

func newKey(s Streams) *cobra.Command {
	var org, label, api, scopes, expires, role, pattern, tier string
	var limit int64
	var asJSON bool
	create := &cobra.Command{
		Use:   "create",
		Short: "Make an API key",
		Long: `Create makes a key for an organization and prints its text, which is shown this
once. Any key works in any API where its scopes allow.

Scopes: scans:trigger scans:read findings:read findings:write org:read org:write
ci:review, admin for all of these, staff for every organization. Without --scopes
a key has those that keys of its API usually have.`,
		Example: `  loupe key create --org my-company --label "GitHub Actions"
  loupe key create --org my-company --label CI --scopes scans:trigger,scans:read --expires 90d --json`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if org == "" || label == "" {
				return usageError{fmt.Errorf("--org and --label are needed; see `%s --help`", c.CommandPath())}
			}
			list, unknown := app.ParseScopes(scopes)
			if unknown != "" {
				return usageError{fmt.Errorf("--scopes: there is no scope %q; see `%s --help`", unknown, c.CommandPath())}
			}
			until, err := expiry(expires)
			if err != nil {
				return usageError{err}
			}
			return s.withServer(c, func(ctx context.Context, server *app.Server) error {
				o, err := organization(ctx, server, org)
				if err != nil {
					return err
				}
				k, text, err := server.Accounts().CreateKey(ctx, o.ID, nil, app.KeyRequest{
					Brand: api, Label: label, Scopes: list, Role: account.Role(strings.ToUpper(role)), ExpiresAt: until,
					RepoPattern: pattern, Tier: tier, MonthlyLimit: limit,
				})
				if err != nil {
					return err
				}
				out := struct {
					ID     string `json:"id"`
					Key    string `json:"key"`
					Prefix string `json:"prefix"`
				}{k.ID, text, app.MaskedKey(&k)}
				return s.print(asJSON, out, "%s\nkey %s of %s; keep it now, as it is not shown again\n", text, k.ID, o.Slug)
			})
		},
	}
	f := create.Flags()
	f.StringVar(&org, "org", "", "`slug` of the organization")
	f.StringVar(&label, "label", "", "what it is for")
	f.StringVar(&api, "api", "", "after which API it is named: binshield, securityscanner, cxray, bedefended, breachlens (default binshield)")
	f.StringVar(&scopes, "scopes", "", "what it may do, with commas between")
	f.StringVar(&role, "role", "", "which bounds its scopes: viewer, developer, admin, owner (default admin)")
	f.StringVar(&expires, "expires", "", "after which it is useless: 90d, 12h, or a `date` as in 2027-01-31")
	f.StringVar(&pattern, "repo-pattern", "", "repositories whose changes it may have reviewed: owner/repo, owner/*, * (default *)")
	f.StringVar(&tier, "tier", "", "of code review: essentials, professional, enterprise")
	f.Int64Var(&limit, "monthly-limit", 0, "of code reviews (default by the tier)")
	f.BoolVar(&asJSON, "json", false, "write one line of JSON")

	revoke := &cobra.Command{
		Use:   "revoke ID",
		Short: "Make an API key useless",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			return s.withServer(c, func(ctx context.Context, server *app.Server) error {
				o, err := organization(ctx, server, org)
				if err != nil {
					return err
				}
				if err := server.Accounts().RevokeKey(ctx, o.ID, nil, list[0]); err != nil {
					return err
				}
				_, err = fmt.Fprintf(s.Out, "key %s is revoked\n", list[0])
				return err
			})
		},
	}
	revoke.Flags().StringVar(&org, "org", "", "`slug` of the organization")
	revoke.PreRunE = func(c *cobra.Command, _ []string) error { return needed(c, "org", org) }
	list := &cobra.Command{
		Use:   "list",
		Short: "List the API keys of an organization",
		Args:  args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return s.withServer(c, func(ctx context.Context, server *app.Server) error {
				o, err := organization(ctx, server, org)
				if err != nil {
					return err
				}
				rows, err := server.Accounts().Keys(ctx, o.ID)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tKEY\tCREATED\tLAST USED\tSCOPES\tLABEL")
				for _, k := range rows {
					used := "never"
					if !k.LastUsedAt.IsZero() {
						used = k.LastUsedAt.Format(time.DateOnly)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, app.MaskedKey(&k), k.CreatedAt.Format(time.DateOnly), used, strings.Join(k.Scopes, ","), finding.Printable(k.Label, 100))
				}
				return w.Flush()
			})
		},
	}
	list.Flags().StringVar(&org, "org", "", "`slug` of the organization")
	list.PreRunE = func(c *cobra.Command, _ []string) error { return needed(c, "org", org) }
	return group("key", "Make, list and revoke API keys", `A key is what a program sends to the APIs, as "Authorization: Bearer KEY". It belongs
to an organization and may do what its scopes say. Only a hash of it is kept.`, accountFlags(create), accountFlags(list), accountFlags(revoke))
}

// needed refuses a flag without a value.
func needed(c *cobra.Command, flag, value string) error {
	if value == "" {
		return usageError{fmt.Errorf("--%s is missing; see `%s --help`", flag, c.CommandPath())}
	}
	return nil
}

// expiry reads when a key ends: a time from now, or a date. The key works to the
// end of that day, in UTC.
func expiry(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	var days int
	if _, err := fmt.Sscanf(text, "%dd", &days); err == nil && fmt.Sprintf("%dd", days) == text && days > 0 {
		return time.Now().AddDate(0, 0, days), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return time.Now().Add(d), nil
	}
	return time.Time{}, fmt.Errorf("--expires: %q is neither a time such as 90d or 12h nor a date such as 2027-01-31", text)
}

func newUser(s Streams) *cobra.Command {
	var org, email, name, role string
	var staff, asJSON bool
	create := &cobra.Command{
		Use:   "create",
		Short: "Make somebody a member of an organization",
		Long: `Create makes somebody known and a member of an organization. Their password is read
from LOUPE_PASSWORD or, if there is none, from the first line of the standard
input; without one they cannot sign in.`,
		Example: `  LOUPE_PASSWORD=… loupe user create --org my-company --email ada@example.com --name Ada --role owner`,
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if org == "" || email == "" {
				return usageError{fmt.Errorf("--org and --email are needed; see `%s --help`", c.CommandPath())}
			}
			password, err := s.password()
			if err != nil {
				return err
			}
			return s.withServer(c, func(ctx context.Context, server *app.Server) error {
				o, err := organization(ctx, server, org)
				if err != nil {
					return err
				}
				p, err := server.Accounts().CreatePerson(ctx, o.ID, account.PersonRequest{
					Email: email, Name: name, Password: password, Role: account.Role(strings.ToUpper(role)), Staff: staff,
				})
				if err != nil {
					return err
				}
				out := struct {
					ID    string `json:"id"`
					Email string `json:"email"`
				}{p.ID, p.Email}
				return s.print(asJSON, out, "%s (%s) is %s of %s\n", p.Email, p.ID, strings.ToUpper(role), o.Slug)
			})
		},
	}
	f := create.Flags()
	f.StringVar(&org, "org", "", "`slug` of the organization")
	f.StringVar(&email, "email", "", "their e-mail address")
	f.StringVar(&name, "name", "", "their name")
	f.StringVar(&role, "role", "developer", "viewer, developer, admin, owner")
	f.BoolVar(&staff, "staff", false, "they run this Loupe, and see every organization")
	f.BoolVar(&asJSON, "json", false, "write one line of JSON")
	return group("user", "Make members of organizations", `A user is a person who signs in with an e-mail address and a password. What they may
do in an organization is their role: viewer, developer, admin or owner.`, accountFlags(create))
}

// password reads a password from where no other user of the machine sees it.
func (s Streams) password() (string, error) {
	if p := s.Env("LOUPE_PASSWORD"); p != "" {
		return p, nil
	}
	if s.In == nil {
		return "", nil
	}
	line, err := bufio.NewReader(io.LimitReader(s.In, 4<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fault.New(fault.Invalid, "the password cannot be read").Because(err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func newConfig(s Streams) *cobra.Command {
	show := &cobra.Command{
		Use:   "print",
		Short: "Print all settings, with what each is for",
		Long: `Print writes the settings as they are after flags, environment and --config, in the
form of a file for --config. Secrets are left out.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := s.settings(c)
			if err != nil {
				return err
			}
			return cfg.Print(s.Out)
		},
	}
	serverFlags(show.Flags())
	return group("config", "Show the settings of a server", `Settings come from flags, else from the environment, else from the file of --config,
else they have a default.`, show)
}
