package yara

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/formats/yara"
)

// Rule says what a YARA rule is in the words of a report. YARA gives no meaning
// to what stands under meta; these are the names that public collections use.
func Rule(stem string, r *yara.Rule) *rule.Rule {
	out := &rule.Rule{
		ID:         "yara/" + safe(stem) + "/" + r.Name,
		ScanType:   finding.Binary,
		Severity:   finding.Medium,
		Confidence: finding.Likely,
		Fix:        "Look at what matched; the author of the rule knows what it means.",
		Match:      []byte(r.Text + "\n"),
		Source:     []byte(r.Text),
	}
	var about, author string
	for _, t := range r.Tags {
		if s, ok := severity(t); ok {
			out.Severity = s
		}
		out.Attack = append(out.Attack, techniques(strings.ReplaceAll(t, "_", "."))...)
	}
	for _, m := range r.Meta {
		text := fmt.Sprint(m.Value)
		switch key := strings.ToLower(m.Name); key {
		case "severity", "risk", "score", "threat_level":
			if s, ok := rated(key, m.Value); ok {
				out.Severity = s
			}
		case "confidence":
			if c, ok := confidences[strings.ToLower(text)]; ok {
				out.Confidence = c
			}
		case "description", "desc":
			about = text
		case "author":
			author = text
		case "reference", "references", "ref", "url", "link":
			out.References = append(out.References, addresses(text)...)
		case "mitre", "mitre_attack", "mitre_att", "attack", "att_ck", "technique", "techniques", "ttp", "mitre_technique":
			out.Attack = append(out.Attack, techniques(text)...)
		}
	}
	slices.Sort(out.Attack)
	out.Attack = slices.Compact(out.Attack)
	out.Title, out.Text = describe(r, about, author)
	return out
}

var odd = pattern.New(`[^A-Za-z0-9._/-]+`)

// safe returns a path as it may stand in an ID.
func safe(stem string) string { return odd.ReplaceAllString(stem, "-") }

const maxTitle = 120

func describe(r *yara.Rule, about, author string) (title, text string) {
	about = line(about)
	title = strings.TrimRight(finding.Printable(about, maxTitle), ".")
	if title == "" {
		return "Matches the YARA rule " + r.Name, "It matches the YARA rule " + r.Name + ", which says no more."
	}
	if author = line(author); author != "" {
		about += "\n\nRule by " + author + "."
	}
	return title, about
}

const maxText = 2000

// line returns text in one line, safe to print.
func line(text string) string {
	return finding.Printable(strings.Join(strings.Fields(text), " "), maxText)
}

var severityNames = map[string]finding.Severity{
	"info": finding.Info, "informational": finding.Info, "harmless": finding.Info,
	"low":    finding.Low,
	"medium": finding.Medium, "moderate": finding.Medium, "suspicious": finding.Medium,
	"high":     finding.High,
	"critical": finding.Critical,
}

func severity(name string) (finding.Severity, bool) {
	s, ok := severityNames[strings.ToLower(name)]
	return s, ok
}

var confidences = map[string]finding.Confidence{
	"possible": finding.Possible, "low": finding.Possible,
	"likely": finding.Likely, "medium": finding.Likely,
	"confirmed": finding.Confirmed, "high": finding.Confirmed,
}

// rated reads a severity as a name or a number: of ten if it is no more than
// that, but a score always of a hundred.
func rated(key string, value any) (finding.Severity, bool) {
	text := fmt.Sprint(value)
	if s, ok := severity(text); ok {
		return s, true
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, false
	}
	if key != "score" && n <= 10 {
		n *= 10
	}
	switch {
	case n >= 90:
		return finding.Critical, true
	case n >= 70:
		return finding.High, true
	case n >= 40:
		return finding.Medium, true
	case n > 0:
		return finding.Low, true
	}
	return finding.Info, true
}

var technique = pattern.New(`\bT[0-9]{4}(?:\.[0-9]{3})?\b`)

func techniques(text string) []string { return technique.FindAllString(text, 20) }

var address = pattern.New(`https?://[^\s,;"'<>]+`)

func addresses(text string) []string { return address.FindAllString(text, 20) }
