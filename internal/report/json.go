package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/core/finding"
)

// JSON is our own report in full, the one that scripts build on.
var JSON = Format{
	Name:      "json",
	Doc:       "everything that is known, as " + schema,
	MediaType: "application/json",
	Ext:       ".json",
	Write: func(w io.Writer, r *Report, _ Options) error {
		return writeJSON(w, NewDocument(r))
	},
}

const schema = "loupe-report/v1"

// A Document is the JSON report. Every field is always written, and a list is
// never null.
type Document struct {
	Schema      string            `json:"schema"`
	Target      string            `json:"target"`
	StartedAt   string            `json:"startedAt"`
	CompletedAt string            `json:"completedAt"`
	Tool        Tool              `json:"tool"`
	Summary     Summary           `json:"summary"`
	Package     *Analysis         `json:"package"` // null if the target is no package
	Binaries    []Binary          `json:"binaries"`
	Components  []Component       `json:"components"`
	Findings    []finding.Finding `json:"findings"`
	Downloads   []Download        `json:"downloads"`
	Notes       []finding.Note    `json:"notes"`
}

// A Summary counts findings by severity.
type Summary struct {
	Total     int               `json:"total"`
	Critical  int               `json:"critical"`
	High      int               `json:"high"`
	Medium    int               `json:"medium"`
	Low       int               `json:"low"`
	Info      int               `json:"info"`
	RiskScore int               `json:"riskScore"`
	RiskLevel finding.RiskLevel `json:"riskLevel"`
}

// NewDocument returns the JSON report of r.
func NewDocument(r *Report) Document {
	r = settled(r)
	n := count(r.Findings)
	d := Document{
		Schema:      schema,
		Target:      r.Target.String(),
		StartedAt:   stamp(r.StartedAt),
		CompletedAt: stamp(r.CompletedAt),
		Tool:        r.Tool,
		Summary: Summary{
			Total:    len(r.Findings),
			Critical: n[finding.Critical], High: n[finding.High], Medium: n[finding.Medium],
			Low: n[finding.Low], Info: n[finding.Info],
			RiskScore: r.Risk.Score, RiskLevel: r.Risk.Level(),
		},
		Package:    NewAnalysis(r),
		Binaries:   NewBinaries(r),
		Components: make([]Component, 0, len(r.Components)),
		Findings:   make([]finding.Finding, 0, len(r.Findings)),
		Downloads:  newDownloads(r.Downloads),
		Notes:      list(r.Notes),
	}
	for _, c := range r.Components {
		c.Locations = list(c.Locations)
		d.Components = append(d.Components, c)
	}
	for _, f := range r.Findings {
		f.CWE, f.Attack, f.References = list(f.CWE), list(f.Attack), list(f.References)
		f.Aliases, f.FixedVersions, f.Evidence = list(f.Aliases), list(f.FixedVersions), list(f.Evidence)
		d.Findings = append(d.Findings, f)
	}
	return d
}

// writeJSON writes v indented by two spaces, with a newline at the end.
func writeJSON(w io.Writer, v any) error {
	text, err := indented(v)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func indented(v any) ([]byte, error) {
	var l layout
	enc := json.NewEncoder(&l)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return l.text, nil
}

// A layout gives JSON without spaces, as the encoder writes it, lines and
// indentation. The encoder's own indentation reads a report twice, and takes
// longer than to encode it.
type layout struct {
	text  []byte
	depth int
}

// Write takes one value and the newline behind it.
func (l *layout) Write(value []byte) (int, error) {
	l.text = slices.Grow(l.text, len(value)+len(value)/2)
	for i := 0; i < len(value); {
		c := value[i]
		if c == '"' {
			end := i + quoted(value[i:])
			l.text = append(l.text, escapeInvisible(value[i:end])...)
			i = end
			continue
		}
		i++
		switch c {
		case '{', '[':
			l.text = append(l.text, c)
			if end := c + 2; value[i] == end { // as far behind it in ASCII
				l.text = append(l.text, end)
				i++
			} else {
				l.depth++
				l.line()
			}
		case '}', ']':
			l.depth--
			l.line()
			l.text = append(l.text, c)
		case ',':
			l.text = append(l.text, c)
			l.line()
		case ':':
			l.text = append(l.text, c, ' ')
		default:
			l.text = append(l.text, c)
		}
	}
	return len(value), nil
}

func (l *layout) line() {
	l.text = append(l.text, '\n')
	for range l.depth {
		l.text = append(l.text, "  "...)
	}
}

// quoted returns the length of the string that a text begins with.
func quoted(text []byte) int {
	for end := 1; ; end++ {
		end += bytes.IndexByte(text[end:], '"')
		escapes := 0
		for text[end-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return end + 1
		}
	}
}

// escapeInvisible writes characters that steer a terminal or hide text as the
// escapes of JSON, which mean the same to a parser. Below a space the encoder
// has done so already.
func escapeInvisible(text []byte) []byte {
	if !slices.ContainsFunc(text, func(c byte) bool { return c >= 0x7f }) {
		return text
	}
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		plain := 0
		for plain < len(text) && text[plain] < 0x7f {
			plain++
		}
		if out, text = append(out, text[:plain]...), text[plain:]; len(text) == 0 {
			break
		}
		r, size := utf8.DecodeRune(text)
		switch {
		case r >= utf8.RuneSelf && invisible(r) && r <= 0xffff, r == 0x7f:
			out = fmt.Appendf(out, `\u%04x`, r)
		case r >= utf8.RuneSelf && invisible(r):
			high, low := surrogates(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out
}
