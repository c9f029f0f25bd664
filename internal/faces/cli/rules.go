package cli

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/service/app"
)

func newRules(s Streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "rules",
		Short: "List, explain and test the rules",
		Long: `Rules say what can be wrong, why it matters and what to do. Each is one text file
that is also its documentation and its test. docs/yara.md says which of YARA's
rules can be used beside them.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newRulesList(s), newRulesShow(s), newRulesTest(s))
	return c
}

// rulesFlag adds the flag for a user's own rules.
func rulesFlag(c *cobra.Command, places *[]string) {
	c.Flags().StringSliceVar(places, "rules", nil, "also use the rules at this `place`, a .rule, .yar or .yara file or a folder of them; may be given several times")
}

// loadRules reads a user's rules. That they cannot be read is a matter of usage.
func loadRules(places []string) (*app.RuleSet, error) {
	set, err := newApp("").LoadRules(places)
	if err != nil {
		return nil, usageError{err}
	}
	return set, nil
}

// warn says what of a user's rules is not used.
func (s Streams) warn(set *app.RuleSet) {
	if set == nil {
		return
	}
	for _, line := range slices.Concat(set.Notices, set.Refused) {
		fmt.Fprintf(s.Err, "loupe: %s\n", finding.Printable(line, 2000))
	}
}

func newRulesList(s Streams) *cobra.Command {
	var places []string
	c := &cobra.Command{
		Use:   "list [AREA]",
		Short: "List the rules, or those of one area",
		Example: `  loupe rules list
  loupe rules list install
  loupe rules list yara --rules ./my-rules`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, list []string) error {
			loaded, err := loadRules(places)
			if err != nil {
				return err
			}
			s.warn(loaded)
			set := loaded.Rules
			if len(list) > 0 {
				set = slices.DeleteFunc(slices.Clone(set), func(r *rule.Rule) bool { return !strings.HasPrefix(r.ID, list[0]+"/") })
			}
			if len(set) == 0 {
				return usageError{fmt.Errorf("there are no rules of the area %q; `loupe rules list` shows all", list[0])}
			}
			w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "RULE\tSEVERITY\tATT&CK\tTITLE")
			for _, r := range set {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.ID, r.Severity, strings.Join(r.Attack, " "), r.Title)
			}
			return w.Flush()
		},
	}
	rulesFlag(c, &places)
	return c
}

func newRulesShow(s Streams) *cobra.Command {
	var places []string
	c := &cobra.Command{
		Use:     "show ID",
		Short:   "Explain one rule",
		Example: `  loupe rules show native/connects-out`,
		Args:    args(cobra.ExactArgs(1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var ids []cobra.Completion
			for _, r := range newApp("").Rules() {
				ids = append(ids, cobra.CompletionWithDesc(r.ID, r.Title))
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, list []string) error {
			set, err := loadRules(places)
			if err != nil {
				return err
			}
			s.warn(set)
			r, err := set.Find(list[0])
			if err != nil {
				return usageError{err}
			}
			_, err = fmt.Fprint(s.Out, describe(r))
			return err
		},
	}
	rulesFlag(c, &places)
	return c
}

// describe writes a rule as a person reads it.
func describe(r *rule.Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n%s\n\n", r.ID, r.Title, r.Text)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s%s\n", name, value)
		}
	}
	row("To do", r.Fix)
	row("Severity", r.Severity.String())
	row("Confidence", r.Confidence.String())
	var cwe []string
	for _, n := range r.CWE {
		cwe = append(cwe, fmt.Sprintf("CWE-%d", n))
	}
	row("Weakness", strings.Join(cwe, ", "))
	row("ATT&CK", strings.Join(r.Attack, ", "))
	for _, ref := range r.References {
		row("Reference", ref)
	}
	if len(r.Match) > 0 {
		fmt.Fprintf(&b, "\nIt matches:\n\n%s", indent(string(r.Match)))
	}
	return b.String()
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + line)
	}
	return b.String()
}

func newRulesTest(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "test [PATH]",
		Short: "Run the examples that rules carry",
		Long: `Test runs the examples of the rule file or folder at PATH, or of the built-in
rules without one. Each bad example must be reported by its rule on the lines
that it names, each good one must not, and a rule must have one of each. YARA's
rules have no examples: of them it says which cannot be used, and why.`,
		Example: `  loupe rules test ./my-rules
  loupe rules test mine.yar`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			var path string
			if len(list) > 0 {
				path = list[0]
			}
			n, wrong, err := newApp("").TestRules(c.Context(), path)
			if err != nil {
				return err
			}
			for _, w := range wrong {
				fmt.Fprintln(s.Out, w)
			}
			if len(wrong) > 0 {
				return gateError(fmt.Sprintf("not all of %d rules are as they should be", n))
			}
			_, err = fmt.Fprintf(s.Out, "%d rules: all examples are as they say\n", n)
			return err
		},
	}
}
