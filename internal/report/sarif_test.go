package report_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/report"
)

func sarifRun(t *testing.T, r *report.Report) map[string]any {
	t.Helper()
	var d struct {
		Runs []map[string]any `json:"runs"`
	}
	if err := json.Unmarshal([]byte(write(t, "sarif", r, report.Options{})), &d); err != nil || len(d.Runs) != 1 {
		t.Fatalf("%d runs, %v; want one", len(d.Runs), err)
	}
	return d.Runs[0]
}

func TestSARIFResultsFitTheirRules(t *testing.T) {
	for sample, make := range samples {
		t.Run(sample, func(t *testing.T) {
			run := sarifRun(t, make())
			driver := run["tool"].(map[string]any)["driver"].(map[string]any)
			rules := objects(t, driver, "rules")
			seen := map[string]bool{}
			for _, rl := range rules {
				id := rl["id"].(string)
				if seen[id] {
					t.Errorf("rule %q is described twice", id)
				}
				seen[id] = true
			}
			results := objects(t, run, "results")
			if len(results) != len(make().Findings) {
				t.Errorf("%d results; want %d", len(results), len(make().Findings))
			}
			for i, res := range results {
				if rl := rules[int(res["ruleIndex"].(float64))]; rl["id"] != res["ruleId"] {
					t.Errorf("result %d: ruleIndex leads to %q; want %q", i, rl["id"], res["ruleId"])
				}
				for _, l := range objects(t, res, "locations") {
					uri := l["physicalLocation"].(map[string]any)["artifactLocation"].(map[string]any)["uri"].(string)
					u, err := url.Parse(uri)
					if err != nil || uri == "" || strings.ContainsAny(uri, " \\<>\"{}|^`") {
						t.Errorf("result %d: %q is no URI: %v", i, uri, err)
					} else if u.Scheme != "" && u.Host == "" {
						t.Errorf("result %d: %q is neither relative nor of the web", i, uri)
					}
				}
			}
		})
	}
}

func TestSARIFOfAPackage(t *testing.T) {
	run := sarifRun(t, pack())
	if id := run["automationDetails"].(map[string]any)["id"]; id != "loupe/pkg:npm/bcrypt/" {
		t.Errorf("automationDetails.id is %v", id)
	}
	rules := objects(t, run["tool"].(map[string]any)["driver"].(map[string]any), "rules")
	i := slices.IndexFunc(rules, func(r map[string]any) bool { return r["id"] == connects.ID })
	props := rules[i]["properties"].(map[string]any)
	if got := fmt.Sprint(props["tags"]); got != "[security external/attack/T1027.002 external/attack/T1071 external/cwe/cwe-506]" {
		t.Errorf("tags are %s", got)
	}
	if props["security-severity"] != "8.0" || rules[i]["helpUri"] != "https://docs.example/connect" {
		t.Errorf("rule is %v", rules[i])
	}
	res := objects(t, run, "results")[0]
	at := objects(t, res, "locations")[0]
	physical := at["physicalLocation"].(map[string]any)
	if res["level"] != "error" || physical["region"] != nil || physical["address"].(map[string]any)["absoluteAddress"] != float64(0x1a20) ||
		objects(t, at, "logicalLocations")[0]["fullyQualifiedName"] != "init" {
		t.Errorf("result is %v", res)
	}
	r := pack()
	prints := res["partialFingerprints"].(map[string]any)
	if prints["loupe/v1"] != string(r.Findings[0].Fingerprint) {
		t.Errorf("fingerprints are %v", prints)
	}
	notes := objects(t, objects(t, run, "invocations")[0], "toolExecutionNotifications")
	if len(notes) != 1 || !strings.Contains(fmt.Sprint(notes[0]), "the section table lies outside") {
		t.Errorf("notifications are %v", notes)
	}
}

// Addresses beyond 31 bits make a common reader drop the file, so they stand
// only in the properties.
func TestSARIFAddresses(t *testing.T) {
	r := pack()
	r.Findings = r.Findings[:1]
	r.Findings[0].Location.Address = "0x100001a20"
	res := objects(t, sarifRun(t, r), "results")[0]
	physical := objects(t, res, "locations")[0]["physicalLocation"].(map[string]any)
	if physical["address"] != nil || res["properties"].(map[string]any)["address"] != "0x100001a20" {
		t.Errorf("result is %v", res)
	}
}

func TestSARIFIsCutAtTheWorst(t *testing.T) {
	r := &report.Report{}
	for i := range 25_010 {
		r.Findings = append(r.Findings, finding.Finding{Rule: "a/b", Title: "T", Severity: finding.Low, Location: finding.Location{Path: fmt.Sprint(i)}})
	}
	run := sarifRun(t, r)
	if n := len(objects(t, run, "results")); n != 25_000 {
		t.Errorf("%d results; want 25,000", n)
	}
	if note := fmt.Sprint(objects(t, run, "invocations")[0]["toolExecutionNotifications"]); !strings.Contains(note, "10 of 25010 findings are left out") {
		t.Errorf("notifications are %s", note)
	}
}

// multitool returns the path of Microsoft's SARIF validator.
func multitool(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("LOUPE_SARIF_MULTITOOL"), "Sarif.Multitool", "sarif-multitool"} {
		if path, err := exec.LookPath(cmp.Or(name, "Sarif.Multitool")); err == nil {
			return path
		}
	}
	t.Skip("sarif-multitool is not installed: npm install @microsoft/sarif-multitool, or set LOUPE_SARIF_MULTITOOL")
	return ""
}

// TestSARIFForMultitool asks Microsoft's validator, with its rules for SARIF
// and for GitHub. The one warning that we accept is of a result without a line
// where there is none. It also shows that a file was read: the validator
// reports nothing on a file that its reader gives up on.
func TestSARIFForMultitool(t *testing.T) {
	tool := multitool(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.json")
	args := []string{"validate"}
	lineless := map[string]int{} // results without a line, by file
	put := func(name, text string) {
		file := filepath.Join(dir, name+".sarif")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	for sample, make := range samples {
		r := make()
		r.Tool.Version = "0.1.0" // a version is what one of its warnings is about
		put(sample, write(t, "sarif", r, report.Options{}))
		for _, f := range r.Findings {
			if f.Location.Line <= 0 {
				lineless[sample]++
			}
		}
	}
	put("broken", `{"version": "2.1.0", "runs": [{"results": []}]}`)

	cmd := exec.CommandContext(t.Context(), tool, append(args, "--rule-kind", "Sarif;Ghas", "--output", out, "--log", "ForceOverwrite")...)
	cmd.Env = append(os.Environ(), "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1")
	if said, err := cmd.CombinedOutput(); err != nil { // its status says whether it ran, not what it found
		t.Fatalf("%v: %s", err, said)
	}
	const noRegion = "SARIF2017"
	found := map[string]int{}
	broken := false
	for _, p := range problems(t, out) {
		switch {
		case p.file == "broken":
			broken = true
		case strings.HasPrefix(p.rule, noRegion):
			found[p.file]++
		default:
			t.Errorf("%s: %s %s: %s", p.file, p.level, p.rule, p.message)
		}
	}
	if !maps.Equal(found, lineless) {
		t.Errorf("results without a line: %v were reported, want %v: were all files read?", found, lineless)
	}
	if !broken {
		t.Error("the validator finds nothing wrong with a file that lacks its tool")
	}
}

// A problem is what the validator says of a file.
type problem struct{ file, rule, level, message string }

// problems reads the validator's own report, which is SARIF too.
func problems(t *testing.T, file string) []problem {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var log struct {
		Runs []struct {
			Results []struct {
				RuleID  string `json:"ruleId"`
				Level   string `json:"level"`
				Message struct {
					Text      string   `json:"text"`
					Arguments []string `json:"arguments"`
				} `json:"message"`
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct {
							URI string `json:"uri"`
						} `json:"artifactLocation"`
					} `json:"physicalLocation"`
				} `json:"locations"`
			} `json:"results"`
		} `json:"runs"`
	}
	if err := json.Unmarshal(data, &log); err != nil || len(log.Runs) == 0 {
		t.Fatalf("%d runs, %v", len(log.Runs), err)
	}
	var out []problem
	for _, r := range log.Runs[0].Results {
		p := problem{rule: r.RuleID, level: cmp.Or(r.Level, "warning"), message: fmt.Sprint(r.Message.Text, r.Message.Arguments)}
		if len(r.Locations) > 0 {
			p.file = strings.TrimSuffix(path.Base(r.Locations[0].PhysicalLocation.ArtifactLocation.URI), ".sarif")
		}
		out = append(out, p)
	}
	return out
}
