package client

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
)

// Findings returns what was found in a package. The analysis names what is in its
// binaries; its SBOM, which is asked for, also what is about the package as a
// whole, such as its install scripts. Where there is no SBOM, the error says why,
// and the findings are those of the analysis.
func (c *Client) Findings(ctx context.Context, a *Analysis) ([]finding.Finding, error) {
	doc, err := c.SBOM(ctx, a.Ecosystem, a.PackageName, a.Version)
	if err == nil {
		var found []finding.Finding
		if found, err = fromSBOM(doc); err == nil {
			return found, nil
		}
		err = c.strange(err)
	}
	return a.findings(), err
}

// findings returns those of the binaries of an analysis.
func (a *Analysis) findings() []finding.Finding {
	var out []finding.Finding
	for _, b := range a.Binaries {
		at := cmp.Or(b.Path, b.Filename)
		for _, w := range b.Findings {
			f := finding.Finding{
				Rule: w.RuleID, ScanType: finding.Binary, Title: w.Title, Description: w.Description, Remediation: w.Recommendation,
				Location: finding.Location{Path: at}, Severity: severity(w.Severity), Confidence: confidence(w.Confidence),
			}
			if w.Location != at {
				f.Location.Symbol = w.Location
			}
			out = append(out, f)
		}
	}
	return out
}

// fromSBOM returns the findings of a CycloneDX document, which stand in it as
// vulnerabilities (CycloneDX 1.5, "vulnerabilities"), with our words for them in
// properties.
func fromSBOM(doc []byte) ([]finding.Finding, error) {
	var bom struct {
		Format          string `json:"bomFormat"`
		Vulnerabilities []struct {
			ID      string `json:"id"`
			Ratings []struct {
				Severity string `json:"severity"`
			} `json:"ratings"`
			CWEs           []int  `json:"cwes"`
			Description    string `json:"description"`
			Detail         string `json:"detail"`
			Recommendation string `json:"recommendation"`
			Properties     []struct {
				Name  string `json:"name"`
				Value string `json:"value"`
			} `json:"properties"`
		} `json:"vulnerabilities"`
	}
	if err := json.Unmarshal(doc, &bom); err != nil {
		return nil, err
	}
	var out []finding.Finding
	for _, v := range bom.Vulnerabilities {
		f := finding.Finding{Rule: v.ID, ScanType: finding.Binary, Title: v.Description, Description: v.Detail, Remediation: v.Recommendation, CWE: v.CWEs}
		for _, r := range v.Ratings {
			f.Severity = max(f.Severity, severity(r.Severity))
		}
		for _, p := range v.Properties {
			switch p.Name {
			case "loupe:rule":
				f.Rule = p.Value
			case "loupe:confidence":
				f.Confidence = confidence(p.Value)
			case "loupe:location":
				f.Location.Path = p.Value
			case "loupe:symbol":
				f.Location.Symbol = p.Value
			case "loupe:attack":
				f.Attack = strings.Fields(p.Value)
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// severity reads one. A word that it does not know is high, so that no gate
// overlooks it.
func severity(word string) (s finding.Severity) {
	if s.UnmarshalText([]byte(word)) != nil || s == finding.Unrated {
		return finding.High
	}
	return s
}

func confidence(word string) (c finding.Confidence) {
	if c.UnmarshalText([]byte(word)) != nil {
		return finding.Possible
	}
	return max(c, finding.Possible)
}
