package report

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// SARIF is the exchange format of code scanning: SARIF 2.1.0 (OASIS Standard
// with Errata 01), within what GitHub code scanning takes.
var SARIF = Format{
	Name:      "sarif",
	Doc:       "SARIF 2.1.0, for code scanning",
	MediaType: "application/sarif+json",
	Ext:       ".sarif",
	Write: func(w io.Writer, r *Report, _ Options) error {
		return writeJSON(w, newSARIF(settled(r)))
	},
}

const (
	home        = "https://github.com/loupe-sec/loupe"
	sarifSchema = "https://json.schemastore.org/sarif-2.1.0.json"
)

// maxResults is how many results of a run GitHub takes. The worst come first.
const maxResults = 25_000

// The objects of SARIF, as far as we use them (section 3 of the standard).
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool              sarifTool            `json:"tool"`
		AutomationDetails sarifAutomation      `json:"automationDetails"`
		Invocations       []sarifInvocation    `json:"invocations"`
		BaseIDs           map[string]sarifBase `json:"originalUriBaseIds"`
		ColumnKind        string               `json:"columnKind"`
		Results           []sarifResult        `json:"results"`
		Properties        sarifRunProperties   `json:"properties"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name            string      `json:"name"`
		FullName        string      `json:"fullName"`
		Version         string      `json:"version,omitempty"`
		SemanticVersion string      `json:"semanticVersion,omitempty"`
		InformationURI  string      `json:"informationUri"`
		Rules           []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string           `json:"id"`
		Name             string           `json:"name,omitempty"`
		ShortDescription sarifText        `json:"shortDescription"`
		FullDescription  sarifText        `json:"fullDescription"`
		Help             sarifText        `json:"help"`
		HelpURI          string           `json:"helpUri,omitempty"`
		Configuration    sarifConfig      `json:"defaultConfiguration"`
		DeprecatedIDs    []string         `json:"deprecatedIds,omitempty"`
		Properties       sarifRuleDetails `json:"properties"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifConfig struct {
		Level string `json:"level"`
	}
	sarifRuleDetails struct {
		Tags             []string `json:"tags"`
		Precision        string   `json:"precision"`
		ProblemSeverity  string   `json:"problem.severity"`
		SecuritySeverity string   `json:"security-severity"`
	}
	sarifAutomation struct {
		ID string `json:"id"`
	}
	sarifInvocation struct {
		ExecutionSuccessful bool                `json:"executionSuccessful"`
		StartTime           string              `json:"startTimeUtc,omitempty"`
		EndTime             string              `json:"endTimeUtc,omitempty"`
		Notifications       []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
	}
	sarifBase struct {
		Description sarifText `json:"description"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints,omitempty"`
		Properties   sarifDetails      `json:"properties"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
		Address  *sarifAddress `json:"address,omitempty"`
	}
	sarifArtifact struct {
		URI    string `json:"uri"`
		BaseID string `json:"uriBaseId,omitempty"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
		EndLine   int `json:"endLine,omitempty"`
	}
	sarifAddress struct {
		Absolute int64  `json:"absoluteAddress"`
		Kind     string `json:"kind,omitempty"`
	}
	sarifLogical struct {
		Name string `json:"name,omitempty"`
		Full string `json:"fullyQualifiedName"`
		Kind string `json:"kind,omitempty"`
	}
	sarifDetails struct {
		Severity         string             `json:"severity"`
		SecuritySeverity string             `json:"security-severity"`
		Confidence       string             `json:"confidence"`
		ScanType         string             `json:"scanType,omitempty"`
		PURL             string             `json:"purl,omitempty"`
		Advisory         string             `json:"advisory,omitempty"`
		Aliases          []string           `json:"aliases,omitempty"`
		FixedVersions    []string           `json:"fixedVersions,omitempty"`
		Address          string             `json:"address,omitempty"`
		Evidence         []finding.Evidence `json:"evidence,omitempty"`
	}
	sarifRunProperties struct {
		Target    string            `json:"target"`
		RuleSet   string            `json:"ruleSet,omitempty"`
		RiskScore int               `json:"riskScore"`
		RiskLevel finding.RiskLevel `json:"riskLevel"`
	}
)

func newSARIF(r *Report) sarifLog {
	rules, index := sarifRules(r)
	run := sarifRun{
		Tool: sarifTool{sarifDriver{
			Name: "Loupe", FullName: "Loupe security scanner", InformationURI: home,
			Version: cmp.Or(r.Tool.Version, "unknown"), SemanticVersion: semantic(r.Tool.Version), Rules: rules,
		}},
		AutomationDetails: sarifAutomation{category(r)},
		BaseIDs:           map[string]sarifBase{sourceRoot: {sarifText{Text: "The target of the scan."}}},
		ColumnKind:        "utf16CodeUnits",
		Results:           []sarifResult{},
		Properties: sarifRunProperties{
			Target: r.Target.String(), RuleSet: r.Tool.Rules, RiskScore: r.Risk.Score, RiskLevel: r.Risk.Level(),
		},
	}
	run.Invocations = []sarifInvocation{{ExecutionSuccessful: true}}
	call := &run.Invocations[0]
	if !r.StartedAt.IsZero() {
		call.StartTime = stamp(r.StartedAt)
	}
	if !r.CompletedAt.IsZero() && !r.CompletedAt.Before(r.StartedAt) {
		call.EndTime = stamp(r.CompletedAt)
	}
	for _, n := range r.Notes {
		call.Notifications = append(call.Notifications, sarifNote(n))
	}
	fs := r.Findings
	if len(fs) > maxResults {
		text := fmt.Sprintf("%d of %d findings are left out, the mildest ones.", len(fs)-maxResults, len(fs))
		call.Notifications = append(call.Notifications, sarifNotification{Level: "warning", Message: sarifText{Text: text}})
		fs = fs[:maxResults]
	}
	for _, f := range fs {
		run.Results = append(run.Results, newSARIFResult(f, index[f.Rule]))
	}
	return sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}}
}

// sarifRules describes the rules that ran, and those that only findings name.
// The index leads from a rule's ID to its place in the list.
func sarifRules(r *Report) ([]sarifRule, map[string]int) {
	rules := []sarifRule{}
	index := make(map[string]int)
	for _, rl := range r.Rules {
		if _, dup := index[rl.ID]; !dup {
			index[rl.ID] = len(rules)
			rules = append(rules, newSARIFRule(rl))
		}
	}
	for _, f := range r.Findings {
		if _, known := index[f.Rule]; !known {
			index[f.Rule] = len(rules)
			rules = append(rules, newSARIFRule(&rule.Rule{
				ID: f.Rule, Title: f.Title, ScanType: f.ScanType, Severity: f.Severity, Confidence: f.Confidence,
				CWE: f.CWE, Attack: f.Attack, References: f.References, Fix: f.Remediation,
			}))
		}
	}
	return rules, index
}

func newSARIFRule(rl *rule.Rule) sarifRule {
	title := cmp.Or(strings.TrimSpace(rl.Title), strings.TrimSpace(rl.ID), "A problem")
	text := cmp.Or(strings.TrimSpace(rl.Text), sentence(title))
	s := sarifRule{
		ID:               rl.ID,
		Name:             pascal(path.Base(rl.ID)),
		ShortDescription: sarifText{Text: sentence(title)},
		FullDescription:  sarifText{Text: sentence(firstParagraph(text))},
		Help: sarifText{
			Text:     strings.TrimSpace(text + "\n\n" + rl.Fix),
			Markdown: text + "\n\n**Fix:** " + cmp.Or(strings.TrimSpace(rl.Fix), "none is known."),
		},
		Configuration: sarifConfig{level(rl.Severity)},
		DeprecatedIDs: rl.Aliases,
		Properties: sarifRuleDetails{
			Tags:             sarifTags(rl),
			Precision:        precision(rl.Confidence),
			ProblemSeverity:  map[string]string{"error": "error", "warning": "warning", "note": "recommendation"}[level(rl.Severity)],
			SecuritySeverity: securitySeverity(rl.Severity),
		},
	}
	if s.Name == s.ID { // a name says more than the id, or nothing
		s.Name = ""
	}
	for _, ref := range rl.References {
		if u := webURL(ref); u != "" {
			s.HelpURI = u
			break
		}
	}
	return s
}

var technique = pattern.New(`^T[0-9]{4}(?:\.[0-9]{3})?$`)

// maxTags is how many tags of a rule GitHub takes.
const maxTags = 20

func sarifTags(rl *rule.Rule) []string {
	tags := []string{"security"}
	for _, n := range rl.CWE {
		if n > 0 {
			tags = append(tags, fmt.Sprintf("external/cwe/cwe-%03d", n))
		}
	}
	for _, id := range rl.Attack {
		if technique.MatchString(id) {
			tags = append(tags, "external/attack/"+id)
		}
	}
	slices.Sort(tags[1:])
	tags = slices.Compact(tags)
	return tags[:min(len(tags), maxTags)]
}

func newSARIFResult(f finding.Finding, index int) sarifResult {
	s := sarifResult{
		RuleID:    f.Rule,
		RuleIndex: index,
		Level:     level(f.Severity),
		Message:   sarifText{Text: sarifMessage(f)},
		Locations: []sarifLocation{newSARIFLocation(f)},
		Properties: sarifDetails{
			Severity: f.Severity.String(), SecuritySeverity: securitySeverity(f.Severity), Confidence: f.Confidence.String(),
			ScanType: string(f.ScanType), PURL: f.PURL, Advisory: f.Advisory, Aliases: f.Aliases, FixedVersions: f.FixedVersions,
			Address: f.Location.Address, Evidence: f.Evidence,
		},
	}
	if f.Fingerprint != "" {
		s.Fingerprints = map[string]string{"loupe/v1": string(f.Fingerprint)}
		// GitHub tells results apart by the hash of their line, which its own
		// uploader computes. Where there is no line it computes none.
		if f.Location.Line <= 0 {
			s.Fingerprints["primaryLocationLineHash"] = strings.ReplaceAll(string(f.Fingerprint), ":", "") + ":1"
		}
	}
	return s
}

// sarifMessage returns what a result says. The text is plain; the form
// [text](target) would make a link of it (section 3.11.6).
func sarifMessage(f finding.Finding) string {
	text := sentence(cmp.Or(strings.TrimSpace(f.Title), strings.TrimSpace(f.Rule), "A problem"))
	if f.Description != "" && f.Description != f.Title {
		text += " " + sentence(f.Description)
	}
	return strings.ReplaceAll(text, "](", "] (")
}

// sourceRoot is the name by which GitHub and others know the root of what was
// scanned.
const sourceRoot = "%SRCROOT%"

// maxSARIFInt is the largest number that common readers take. Microsoft's drops
// a whole file for one that is larger, without a word; the full address stands
// in the properties of the result.
const maxSARIFInt = math.MaxInt32

// newSARIFLocation returns where f is. A finding without a place is about the
// target as a whole.
func newSARIFLocation(f finding.Finding) sarifLocation {
	l := f.Location
	p := sarifPhysical{Artifact: sarifArtifact{URI: relativeURI(l.Path), BaseID: sourceRoot}}
	if u := webURL(l.URL); l.Path == "" && u != "" {
		p.Artifact = sarifArtifact{URI: u}
	}
	if l.Line > 0 && l.Line <= maxSARIFInt {
		p.Region = &sarifRegion{StartLine: l.Line, EndLine: min(max(l.EndLine, l.Line), maxSARIFInt)}
	}
	if a, err := strconv.ParseUint(l.Address, 0, 64); err == nil && a <= maxSARIFInt {
		p.Address = &sarifAddress{Absolute: int64(a)}
	}
	s := sarifLocation{Physical: &p}
	if l.Symbol != "" {
		s.Logical = append(s.Logical, sarifLogical{Full: l.Symbol})
		if f.ScanType == finding.Binary {
			s.Logical[0].Kind = "function"
		}
	}
	return s
}

func sarifNote(n finding.Note) sarifNotification {
	s := sarifNotification{Level: "warning", Message: sarifText{Text: sentence(cmp.Or(strings.TrimSpace(n.Text), "not looked at"))}}
	if n.Scanner != "" {
		s.Message.Text = n.Scanner + ": " + s.Message.Text
	}
	if n.Path != "" {
		s.Locations = []sarifLocation{{Physical: &sarifPhysical{Artifact: sarifArtifact{URI: relativeURI(n.Path), BaseID: sourceRoot}}}}
	}
	return s
}

// level maps a severity to the level of a result (section 3.27.10).
func level(s finding.Severity) string {
	switch {
	case s >= finding.High:
		return "error"
	case s == finding.Medium:
		return "warning"
	}
	return "note"
}

// securitySeverity is the middle of the band of CVSS scores that GitHub shows
// under the name of the severity.
func securitySeverity(s finding.Severity) string {
	switch {
	case s >= finding.Critical:
		return "9.5"
	case s == finding.High:
		return "8.0"
	case s == finding.Medium:
		return "5.5"
	case s == finding.Low:
		return "2.5"
	}
	return "0.0"
}

// precision says in the words of code scanning how often a rule is right.
func precision(c finding.Confidence) string {
	switch {
	case c >= finding.Confirmed:
		return "very-high"
	case c == finding.Likely:
		return "high"
	}
	return "medium"
}

// category names a line of runs whose results replace each other: what was
// scanned, without its version. The part after the last slash is the run's own.
func category(r *Report) string {
	t := r.Target
	switch t.Kind {
	case target.Package:
		t.Version = ""
	case target.Path: // where it lies on this machine says nothing
		return "loupe/"
	}
	if t.Kind == "" {
		return "loupe/"
	}
	return "loupe/" + t.String() + "/"
}

// relativeURI returns a path as a relative reference (RFC 3986, section 4.2),
// every byte that is not plainly allowed percent-encoded.
func relativeURI(p string) string {
	parts := strings.Split(strings.TrimLeft(p, "/"), "/")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(url.PathEscape(part), ":", "%3A")
	}
	return cmp.Or(strings.Join(parts, "/"), "./")
}

// webURL returns s as a URL that every reader of URLs takes, or nothing if it
// is none of the web.
func webURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Opaque != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return ""
	}
	if !hostForm.MatchString(u.Host) {
		return ""
	}
	u.User = nil
	u.RawQuery = escapeQuery(u.RawQuery)
	return u.String()
}

var hostForm = pattern.New(`^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$`)

// escapeQuery percent-encodes what a query may not hold, and nothing else.
func escapeQuery(q string) string {
	var b strings.Builder
	for i := range len(q) {
		c := q[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}[]#", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

var semanticVersion = pattern.New(`^v?((?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?)$`)

// semantic returns a version of the form of semver.org, or nothing.
func semantic(v string) string {
	if m := semanticVersion.FindStringSubmatch(v); m != nil {
		return m[1]
	}
	return ""
}

// sentence returns s with a full stop.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	if end := s[len(s)-1]; end == '!' || end == '?' {
		return s
	}
	return s + "."
}

func firstParagraph(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n\n")
	return strings.Join(strings.Fields(s), " ")
}

// pascal returns kebab-case as PascalCase, the form of a rule's name in SARIF.
func pascal(s string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
	}) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
