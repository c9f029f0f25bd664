package diff

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/enrich"
	"github.com/loupe-sec/loupe/internal/report"
)

// maxSentences is how long a summary is: what matters most is said first.
const maxSentences = 4

// summarize says in a few sentences what is different, as a person would who
// looked at it all: what was replaced, what is done that was not, what happens
// otherwise at installation, and how much was rebuilt.
func summarize(c *comparison, d *report.Diff) string {
	s := &summary{comparison: c, Diff: d, step: stepOf(d.FromVersion, d.ToVersion)}
	s.gained, s.lost = c.spreads()
	byGravity(s.gained, c.to)
	byGravity(s.lost, c.from)
	if d.Empty() {
		return s.nothing()
	}
	var out, last []string
	for _, say := range []func() string{s.assets, s.does, s.installs, s.findings, s.built, s.components, s.unseen} {
		if text := say(); text != "" {
			out = append(out, text)
		}
	}
	for _, say := range []func() string{s.partly, s.risk} { // they stand last, and are never left out
		if text := say(); text != "" {
			last = append(last, text)
		}
	}
	out = append(out[:min(len(out), maxSentences-len(last))], last...)
	return strings.Join(out, " ")
}

type summary struct {
	*comparison
	*report.Diff
	step         step
	gained, lost []spread
}

// subject names the new side, with what its version promises: "Version 5.1.7, a
// patch release,".
func (s *summary) subject() string {
	switch {
	case s.ToVersion == "":
		return "The new side"
	case s.FromVersion == s.ToVersion:
		return "The other build of version " + printable(s.ToVersion)
	}
	if s.step.words == "" {
		return "Version " + printable(s.ToVersion)
	}
	return fmt.Sprintf("Version %s, %s,", printable(s.ToVersion), s.step.words)
}

func (s *summary) nothing() string {
	what := "the two sides"
	if s.FromVersion != s.ToVersion {
		what = fmt.Sprintf("%s and %s", printable(s.FromVersion), printable(s.ToVersion))
	}
	text := fmt.Sprintf("Nothing that was looked at is different between %s", what)
	if s.unseen() == "" {
		text += "; neither holds native binaries"
	}
	text += "."
	if n := len(s.Binaries); n > 0 {
		text = fmt.Sprintf("Nothing that was looked at is different between %s: %s the same, and so is what happens at installation.", what,
			plural(n, "the binary is", "all %d binaries are"))
	}
	return strings.Join(strings.Fields(text+" "+s.unseen()+" "+s.unread()), " ")
}

// unread says that something could not be compared because it was not looked at.
func (s *summary) unread() string {
	n := max(finding.CountUnread(s.from.Notes), finding.CountUnread(s.to.Notes))
	if n == 0 {
		return ""
	}
	return upperFirst(plural(n, "one part was", "%d parts were")) + " not looked at to the end: see the notes."
}

// partly is unread for a summary that has more to say: about files that were
// read on one side only.
func (s *summary) partly() string {
	of := func(n finding.Note) bool { return n.Path != "" && !n.Informs }
	if !slices.ContainsFunc(s.From.Notes, of) && !slices.ContainsFunc(s.To.Notes, of) {
		return ""
	}
	return "Not all was looked at on both sides: see the notes."
}

func (s *summary) assets() string {
	if len(s.Install.Assets) == 0 {
		return ""
	}
	a := s.Install.Assets[0]
	more := ""
	if n := len(s.Install.Assets) - 1; n > 0 {
		more = fmt.Sprintf(" and %s", plural(n, "another address", "%d other addresses"))
	}
	return fmt.Sprintf("What installation downloads from %s%s was replaced: the same address holds other bytes, which no release explains.", a.URL, more)
}

// does says what the binaries do that they did not, and no longer do.
func (s *summary) does() string {
	if len(s.to.Binaries)+len(s.from.Binaries) == 0 {
		return ""
	}
	if len(s.from.Binaries) == 0 || len(s.to.Binaries) == 0 {
		return s.first()
	}
	news, olds := phrases(s.gained), phrases(s.lost)
	surprising := slices.ContainsFunc(s.gained, func(g spread) bool { return slices.Contains(grave, g.behavior) })
	where := s.binaries(s.gained)
	switch {
	case len(news) > 0 && len(olds) > 0:
		return fmt.Sprintf("%s newly %s in %s, and no longer %s%s.", s.subject(), listed(news), where, listed(olds), s.surprise(surprising))
	case len(news) > 0:
		return fmt.Sprintf("%s newly %s in %s%s.", s.subject(), listed(news), where, s.surprise(surprising))
	case len(olds) > 0:
		return fmt.Sprintf("%s no longer %s in %s, and its binaries do nothing that they did not do before.", s.subject(), listed(olds), s.binaries(s.lost))
	}
	if !s.changedBinaries() {
		return fmt.Sprintf("%s holds the same %s.", s.subject(), plural(len(s.to.Binaries), "binary", "%d binaries"))
	}
	return fmt.Sprintf("In %s %s.", s.inside(), "the binaries do what they did before: no behaviour is new and none is gone")
}

// inside is the subject where something stands in it.
func (s *summary) inside() string {
	subject := strings.TrimSuffix(s.subject(), ",")
	if strings.Contains(subject, ", ") {
		subject += ","
	}
	return lowerFirst(subject)
}

// first says what it means that one side holds no binaries.
func (s *summary) first() string {
	n := len(s.to.Binaries)
	if n == 0 {
		text := fmt.Sprintf("%s holds no native binaries, where %s held %d", s.subject(), s.before(), len(s.from.Binaries))
		if len(s.to.Downloads) > 0 && len(s.from.Downloads) == 0 {
			text += "; they are downloaded at installation now, and were not looked at"
		}
		return text + "."
	}
	brings := fmt.Sprintf("%s holds %s, where %s held none", s.subject(), plural(n, "a native binary", "%d native binaries"), s.before())
	if len(s.from.Downloads) > 0 {
		brings = fmt.Sprintf("%s brings %s along, where %s downloaded at installation what it needs", s.subject(), plural(n, "its native binary", "its %d native binaries"), s.before())
	}
	if news := phrases(s.gained); len(news) > 0 {
		return brings + "; " + plural(n, "it ", "at least one of these ") + listed(news) + "."
	}
	return brings + "."
}

func phrases(list []spread) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.phrase())
	}
	return out
}

// byGravity puts what matters most first: what findings are rated highest, then
// what is rarely done without a word about it.
func byGravity(list []spread, r *report.Report) {
	rated := map[string]finding.Severity{}
	for _, f := range r.Findings {
		rated[f.Rule] = max(rated[f.Rule], f.Severity)
	}
	slices.SortStableFunc(list, func(a, b spread) int {
		return cmp.Or(cmp.Compare(rated[b.rule], rated[a.rule]), order(!slices.Contains(grave, a.behavior), !slices.Contains(grave, b.behavior)))
	})
}

func (s *summary) before() string {
	if s.FromVersion != s.ToVersion && s.FromVersion != "" {
		return printable(s.FromVersion)
	}
	return "the old side"
}

// binaries says where some traits are, all together.
func (s *summary) binaries(list []spread) string {
	var paths []string
	for _, t := range list {
		paths = append(paths, t.paths...)
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	if len(paths) == 1 {
		return printable(paths[0])
	}
	return fmt.Sprintf("%d binaries", len(paths))
}

// grave are the behaviours that are rarely added without a word about it.
var grave = []inventory.BehaviorName{inventory.Network, inventory.Process, inventory.DataExfiltration, inventory.Obfuscation}

func (s *summary) surprise(surprising bool) string {
	switch {
	case surprising && s.step.size == patch:
		return "; a patch release is the last place to expect that"
	case surprising && s.step.size == minor:
		return "; look in its notes for the reason"
	}
	return ""
}

func (s *summary) changedBinaries() bool {
	return slices.ContainsFunc(s.Binaries, func(b report.BinaryDiff) bool { return b.Status != report.DiffSame })
}

// installs says what happens otherwise at installation.
func (s *summary) installs() string {
	var out []string
	staged := map[string]bool{}
	for _, d := range s.Install.Downloads {
		staged[d.Stage] = true
		switch {
		case d.From == nil:
			out = append(out, "now downloads "+fetches(d.To)+guard(d.To))
		case d.To == nil:
			if len(s.from.Binaries) > 0 || len(s.to.Binaries) == 0 { // else it is said already
				out = append(out, "no longer downloads "+fetches(d.From))
			}
		case tool(d.From) != tool(d.To):
			was := "with " + tool(d.From)
			if host(d.From.URL) != host(d.To.URL) {
				was += " from " + cmp.Or(host(d.From.URL), "an unknown host")
			}
			out = append(out, "now downloads "+fetches(d.To)+" instead of "+was+guard(d.To))
		case host(d.From.URL) != host(d.To.URL):
			out = append(out, fmt.Sprintf("now downloads from %s instead of from %s%s", cmp.Or(host(d.To.URL), "an unknown host"), cmp.Or(host(d.From.URL), "an unknown host"), guard(d.To)))
		case d.From.URL != d.To.URL:
			out = append(out, fmt.Sprintf("now downloads from %s, before from %s", cmp.Or(d.To.URL, "an unknown address"), cmp.Or(d.From.URL, "an unknown address")))
		default:
			out = append(out, fmt.Sprintf("now checks what it downloads otherwise (%s, before %s)", pins[d.To.Pin], pins[d.From.Pin]))
		}
	}
	for _, c := range s.Install.Scripts {
		switch {
		case staged[c.Stage]:
		case c.Status == report.DiffAdded:
			out = append(out, fmt.Sprintf("now runs %s (%s)", quoted(c.To), c.Stage))
		case c.Status == report.DiffRemoved:
			out = append(out, fmt.Sprintf("no longer runs %s", quoted(c.From)))
		default:
			out = append(out, fmt.Sprintf("now runs %s instead of %s", quoted(c.To), quoted(c.From)))
		}
	}
	if len(out) == 0 {
		return ""
	}
	if len(out) > 2 {
		out = append(out[:2], fmt.Sprintf("differs in %s", plural(len(out)-2, "one more way", "%d more ways")))
	}
	subject := "Its installation "
	if len(s.from.Binaries)+len(s.to.Binaries) == 0 { // nothing was said before
		subject = "Installing " + s.inside() + " "
	}
	hint := ""
	if s.step.size == patch && len(s.Install.Downloads) > 0 {
		hint = "; a patch release rarely changes that"
	}
	return subject + joined(out) + hint + "."
}

var pins = map[inventory.Pin]string{
	inventory.Unpinned: "by nothing", inventory.PinnedPackage: "by a hash in the package", inventory.PinnedScript: "by a hash in a script", inventory.PinnedRegistry: "by the registry's hash",
}

func guard(d *report.DownloadSide) string {
	switch {
	case d.Owner == inventory.OtherOwner:
		return ", an address that is not the author's"
	case d.Pin == inventory.Unpinned:
		return ", and nothing checks its hash"
	}
	return ""
}

// findings names the worst new finding that no sentence before has told.
func (s *summary) findings() string {
	told := map[string]bool{}
	for _, g := range s.gained {
		told[g.rule] = true
	}
	var worst *finding.Finding
	n := 0
	for i := range s.Findings.Added {
		f := &s.Findings.Added[i]
		if f.Severity < finding.Medium || told[f.Rule] && f.Severity < finding.High {
			continue
		}
		n++
		if worst == nil || f.Severity > worst.Severity {
			worst = f
		}
	}
	if worst == nil {
		return ""
	}
	more := ""
	if n > 1 {
		more = fmt.Sprintf(", and %s of medium severity or worse", plural(n-1, "one more is new", "%d more are new"))
	}
	return fmt.Sprintf("The worst new finding is %s: %s%s.", worst.Severity, lowerFirst(printable(worst.Title)), more)
}

// built says how much of the binaries is different.
func (s *summary) built() string {
	if len(s.from.Binaries) == 0 || len(s.to.Binaries) == 0 {
		return "" // it is said already
	}
	var added, removed, changed []string
	all, paired, other, news, gone := 0, 0, 0, 0, 0
	for _, b := range s.Binaries {
		switch b.Status {
		case report.DiffAdded:
			added = append(added, b.ToPath)
		case report.DiffRemoved:
			removed = append(removed, b.FromPath)
		case report.DiffChanged:
			changed = append(changed, b.ToPath)
			f := b.Functions
			all, paired = all+f.Paired+max(f.Added, f.Removed), paired+f.Paired
			other, news, gone = other+f.Changed, news+f.Added, gone+f.Removed
		}
	}
	var out []string
	if len(changed) > 0 {
		text := plural(len(changed), "one binary was rebuilt", "%d binaries were rebuilt")
		switch {
		case paired > 0 && other+news+gone == 0:
			text += ", with the same functions"
		case paired > 0:
			text += fmt.Sprintf(" (%d of %s paired: %d changed, %d new, %d gone)", paired, plural(all, "1 function", "%d functions"), other, news, gone)
		}
		out = append(out, text)
	}
	if len(added) > 0 {
		out = append(out, fmt.Sprintf("%s new", counted(added, "is", "are")))
	}
	if len(removed) > 0 {
		out = append(out, fmt.Sprintf("%s gone", counted(removed, "is", "are")))
	}
	if len(out) == 0 {
		return ""
	}
	return upperFirst(joined(out)) + s.size() + "."
}

// counted names a binary, or says how many there are.
func counted(paths []string, is, are string) string {
	if len(paths) == 1 {
		return printable(paths[0]) + " " + is
	}
	return fmt.Sprintf("%d binaries %s", len(paths), are)
}

// size says how the size of all binaries changed, if a person would notice.
func (s *summary) size() string {
	was, is := s.From.TotalBinarySize, s.To.TotalBinarySize
	if was == 0 || is == 0 {
		return ""
	}
	switch percent := 100 * (float64(is) - float64(was)) / float64(was); {
	case percent >= 1:
		return fmt.Sprintf("; together they are %.0f %% larger (%s)", percent, enrich.Bytes(is))
	case percent <= -1:
		return fmt.Sprintf("; together they are %.0f %% smaller (%s)", -percent, enrich.Bytes(is))
	}
	return ""
}

// unseen says that what is downloaded was not compared.
func (s *summary) unseen() string {
	fetched := func(d *inventory.Download) bool {
		return d != nil && slices.ContainsFunc(d.Assets, func(a inventory.Asset) bool { return a.Fetched != nil })
	}
	if len(s.from.Binaries)+len(s.to.Binaries) > 0 || len(s.to.Downloads) == 0 || slices.ContainsFunc(s.to.Downloads, fetched) {
		return ""
	}
	return "Neither side holds native binaries, so that what runs in the end was not compared (see --fetch-prebuilt)."
}

func (s *summary) components() string {
	var out []string
	for _, v := range s.Components.Changed {
		out = append(out, fmt.Sprintf("%s %s → %s", printable(v.Name), printable(purlVersion(v.From)), printable(purlVersion(v.To))))
	}
	if len(out) == 0 {
		return ""
	}
	if len(out) > 3 {
		out = append(out[:2], fmt.Sprintf("%d more", len(out)-2))
	}
	return "Compiled in are other versions of " + joined(out) + "."
}

func (s *summary) risk() string {
	was, is := s.From, s.To
	switch {
	case s.RiskDelta == 0:
		return ""
	case was.RiskLevel == is.RiskLevel:
		return fmt.Sprintf("The risk %s from %d to %d of 100, and stays %s.", verb(s.RiskDelta), was.RiskScore, is.RiskScore, is.RiskLevel)
	}
	return fmt.Sprintf("The risk %s from %s (%d of 100) to %s (%d).", verb(s.RiskDelta), was.RiskLevel, was.RiskScore, is.RiskLevel, is.RiskScore)
}

func verb(delta int) string {
	if delta > 0 {
		return "rises"
	}
	return "falls"
}

// listed joins phrases as a sentence does, at most three of them.
func listed(words []string) string {
	if len(words) > 3 {
		words = append(slices.Clone(words[:2]), fmt.Sprintf("does %d more things", len(words)-2))
	}
	return joined(words)
}

func joined(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	if strings.Contains(many, "%d") {
		return fmt.Sprintf(many, n)
	}
	return many
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' { // an abbreviation
		return s
	}
	return strings.ToLower(s[:min(1, len(s))]) + s[min(1, len(s)):]
}

func upperFirst(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] }
