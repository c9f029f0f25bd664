// Package finding holds the vocabulary of a result: what was seen, where, how
// bad it is, how sure we are, and what makes it the same thing tomorrow.
//
// It imports only the standard library, and every other package may import it.
package finding

import (
	"cmp"
	"encoding"
	"fmt"
	"slices"
	"strings"
)

// Severity says how much harm a finding can do, if it is true.
// The zero value means "as the rule says".
type Severity uint8

// The severities, mildest first.
const (
	Unrated Severity = iota
	Info
	Low
	Medium
	High
	Critical
)

var severities = [...]string{"", "info", "low", "medium", "high", "critical"}

// Severities lists the severities that a finding may have, worst first.
func Severities() []Severity { return []Severity{Critical, High, Medium, Low, Info} }

func (s Severity) String() string { return name(severities[:], int(s)) }

// MarshalText returns the name in small letters.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a name in any case.
func (s *Severity) UnmarshalText(b []byte) error { return parse("severity", severities[:], b, s) }

// Confidence says how sure a scanner is that a finding is true.
// The zero value means "as the rule says".
type Confidence uint8

// The confidences, least sure first.
const (
	Unsure Confidence = iota
	Possible
	Likely
	Confirmed
)

var confidences = [...]string{"", "possible", "likely", "confirmed"}

func (c Confidence) String() string { return name(confidences[:], int(c)) }

// MarshalText returns the name in small letters.
func (c Confidence) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a name in any case.
func (c *Confidence) UnmarshalText(b []byte) error { return parse("confidence", confidences[:], b, c) }

var (
	_ encoding.TextUnmarshaler = (*Severity)(nil)
	_ encoding.TextUnmarshaler = (*Confidence)(nil)
)

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown(%d)", i)
}

func parse[T ~uint8](what string, names []string, b []byte, v *T) error {
	i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, string(b)) })
	if i < 0 {
		return fmt.Errorf("unknown %s %q: want one of %s", what, b, strings.Join(names[1:], ", "))
	}
	*v = T(i)
	return nil
}

// A ScanType is the kind of check that made a finding.
type ScanType string

// The scan types.
const (
	SAST      ScanType = "SAST"
	SCA       ScanType = "SCA"
	Secret    ScanType = "SECRET"
	IaC       ScanType = "IAC"
	Container ScanType = "CONTAINER"
	DAST      ScanType = "DAST"
	Binary    ScanType = "BINARY"
	Mobile    ScanType = "MOBILE"
	Config    ScanType = "CONFIG"
)

// A Location points into the target. Path is slash-separated and relative to
// the target; lines count from one; zero values mean unknown.
type Location struct {
	Path    string `json:"path"`
	Line    int    `json:"line"`
	EndLine int    `json:"endLine"`
	URL     string `json:"url"`
	Symbol  string `json:"symbol"`  // function, import, JSON pointer, header or record name
	Address string `json:"address"` // virtual address in a binary, "0x1a20"
}

// Evidence is what a reader needs to believe a finding. Its text is redacted
// and cut to size when it is made: nothing downstream need know how.
type Evidence struct {
	Kind    string `json:"kind"` // import, dynamic import, system call, string, symbol, section, constant, script, url, …
	Value   string `json:"value"`
	From    string `json:"from,omitempty"`    // the library of an import, the section of a string
	Address string `json:"address,omitempty"` // virtual address in a binary, "0x1a20": where it is used, if code that uses it was found, else where it lies

	// Of evidence in the code of a binary:
	Function  string   `json:"function,omitempty"`      // that holds the address: its name, or sub_1a20
	Callers   []string `json:"callers,omitempty"`       // functions that call or name that one, the first few
	Reachable string   `json:"reachableFrom,omitempty"` // who enters the code that leads there: "export connect_all", "entry point"; [Unreached] if nobody was found
}

// Unreached says of code that no way to it was found from any place where a
// binary is entered. That is no proof that there is none.
const Unreached = "nothing"

// MaxEvidence is the longest evidence value in bytes: long enough for a
// command line, short enough that a hostile string cannot fill a report.
const MaxEvidence = 300

// maxRedacted is how many bytes of a value are looked through for secrets: more
// than are shown, as what is redacted gets shorter.
const maxRedacted = 16 * MaxEvidence

// NewEvidence returns evidence with its value made safe to print: control
// characters escaped, secrets redacted, cut to [MaxEvidence].
func NewEvidence(kind, value string) Evidence {
	value = value[:min(len(value), maxRedacted)]
	return Evidence{Kind: kind, Value: Printable(Redact(value), MaxEvidence)}
}

// A Finding is one observation made in one scan. It never changes; what people
// decide about it is kept elsewhere, under its Fingerprint.
type Finding struct {
	Fingerprint   Fingerprint `json:"fingerprint"`
	Rule          string      `json:"rule"`
	ScanType      ScanType    `json:"scanType"`
	Severity      Severity    `json:"severity"`
	Confidence    Confidence  `json:"confidence"`
	Title         string      `json:"title"`
	Description   string      `json:"description"`
	Remediation   string      `json:"remediation"`
	CWE           []int       `json:"cwe"`
	Attack        []string    `json:"attack"` // MITRE ATT&CK technique ids
	References    []string    `json:"references"`
	Location      Location    `json:"location"`
	PURL          string      `json:"purl"`
	Advisory      string      `json:"advisory"`
	Aliases       []string    `json:"aliases"`
	FixedVersions []string    `json:"fixedVersions"`
	Evidence      []Evidence  `json:"evidence"`
	Tool          string      `json:"tool"` // the scanner's name

	// Anchor is what the fingerprint hangs on besides rule and place: an
	// import, a digest of a secret, a header name. It holds no line number.
	Anchor string `json:"-"`
}

// Compare orders findings for every report: worst first, then by place, then
// by what was found.
func Compare(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(b.Severity, a.Severity),
		cmp.Compare(a.Location.Path, b.Location.Path),
		cmp.Compare(a.Location.Line, b.Location.Line),
		cmp.Compare(a.Rule, b.Rule),
		cmp.Compare(a.Location.URL, b.Location.URL),
		cmp.Compare(a.Location.Symbol, b.Location.Symbol),
		cmp.Compare(a.PURL, b.PURL),
		cmp.Compare(a.Advisory, b.Advisory),
		cmp.Compare(a.Anchor, b.Anchor),
		cmp.Compare(a.Description, b.Description),
	)
}
