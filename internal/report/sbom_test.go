package report_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/report"
)

func TestSBOMName(t *testing.T) {
	for _, test := range []struct{ name, version, want string }{
		{"bcrypt", "5.1.1", "sbom-bcrypt-5.1.1.cdx.json"},
		{"@a/b", "1.0", "sbom-a-b-1.0.cdx.json"},
		{"x\"\r\ny", "1.0+cu118", "sbom-x-y-1.0+cu118.cdx.json"},
	} {
		if got := report.SBOMName(test.name, test.version); got != test.want {
			t.Errorf("SBOMName(%q, %q) = %q; want %q", test.name, test.version, got, test.want)
		}
	}
}

// props returns the properties of a component.
func props(t *testing.T, c map[string]any) map[string]string {
	t.Helper()
	out := map[string]string{}
	if c["properties"] != nil {
		for _, p := range objects(t, c, "properties") {
			out[p["name"].(string)], _ = p["value"].(string)
		}
	}
	return out
}

// TestCycloneDX holds the bill of materials to the rules of the BinShield API.
func TestCycloneDX(t *testing.T) {
	for sample, make := range samples {
		t.Run(sample, func(t *testing.T) {
			d, r := object(t, "cyclonedx", sample), make()
			root := d["metadata"].(map[string]any)["component"].(map[string]any)
			refs := map[string]bool{root["bom-ref"].(string): true}
			files := 0
			var components []map[string]any
			if d["components"] != nil {
				components = objects(t, d, "components")
			}
			for _, c := range components {
				ref := c["bom-ref"].(string)
				if refs[ref] {
					t.Errorf("bom-ref %q is used twice", ref)
				}
				refs[ref] = true
				if c["type"] == "file" {
					files++
					p := props(t, c)
					for _, want := range []string{"riskScore", "riskLevel", "format", "architecture", "behavior:network", "behavior:filesystem",
						"behavior:process", "behavior:crypto", "behavior:obfuscation", "behavior:dataExfiltration"} {
						if p["binshield:"+want] == "" {
							t.Errorf("%v has no property %s", c["name"], want)
						}
					}
				}
			}
			if want := len(report.NewBinaries(r)); files != want {
				t.Errorf("%d file components; want %d", files, want)
			}
			var vulns []map[string]any
			if d["vulnerabilities"] != nil {
				vulns = objects(t, d, "vulnerabilities")
			}
			if len(vulns) != len(r.Findings) {
				t.Errorf("%d vulnerabilities; want %d", len(vulns), len(r.Findings))
			}
			for _, v := range vulns {
				if objects(t, v, "ratings")[0]["severity"] == "" {
					t.Errorf("%v is not rated", v["id"])
				}
				for _, a := range objects(t, v, "affects") {
					if !refs[a["ref"].(string)] {
						t.Errorf("%v affects %q, which does not exist", v["id"], a["ref"])
					}
				}
			}
			for _, dep := range objects(t, d, "dependencies") {
				on, _ := dep["dependsOn"].([]any)
				for _, ref := range append(on, dep["ref"]) {
					if !refs[ref.(string)] {
						t.Errorf("a dependency names %q, which does not exist", ref)
					}
				}
			}
		})
	}
}

func TestCycloneDXOfAPackage(t *testing.T) {
	d := object(t, "cyclonedx", "package")
	root := d["metadata"].(map[string]any)["component"].(map[string]any)
	if root["type"] != "library" || root["purl"] != "pkg:npm/bcrypt@6.0.0" || d["specVersion"] != "1.5" {
		t.Errorf("root is %v", root)
	}
	p := props(t, root)
	if p["binshield:ecosystem"] != "npm" || p["binshield:riskScore"] != "48" || p["binshield:riskLevel"] != "medium" {
		t.Errorf("properties are %v", p)
	}
	refs := objects(t, root, "externalReferences")
	hashes := objects(t, refs[len(refs)-1], "hashes")
	if hashes[0]["alg"] != "SHA-512" || hashes[0]["content"] != strings.Repeat("abcdef", 21)+"ab" {
		t.Errorf("hash of the archive is %v", hashes[0])
	}
	for i, c := range objects(t, d, "components") {
		hash := objects(t, c, "hashes")[0]
		if hash["alg"] != "SHA-256" || hash["content"] != pack().Binaries[i].SHA256 {
			t.Errorf("hash of %v is %v", c["name"], hash)
		}
	}
	serial := d["serialNumber"].(string)
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(serial) {
		t.Errorf("serial number is %s", serial)
	}
	changed := pack()
	changed.Binaries[0].SHA256 = strings.Repeat("0", 64)
	if other := write(t, "cyclonedx", changed, report.Options{}); strings.Contains(other, serial) {
		t.Error("another content has the same serial number")
	}
}

// Every package of which a target is made is in both bills, with its package URL.
func TestSBOMKeepsPURLs(t *testing.T) {
	for _, format := range []string{"cyclonedx", "spdx"} {
		for _, sample := range []string{"package", "parts", "folder"} {
			r := samples[sample]()
			text := write(t, format, r, report.Options{})
			var want []string
			for _, c := range r.Components {
				want = append(want, c.PURL)
			}
			if r.Release != nil {
				want = append(want, r.Release.PURL())
				for _, p := range r.Release.Parts {
					want = append(want, p.PURL)
				}
			}
			for _, purl := range want {
				if purl != "" && !strings.Contains(text, `"`+purl+`"`) {
					t.Errorf("%s of %s lacks %s", format, sample, purl)
				}
			}
		}
	}
}

func TestSBOMLicense(t *testing.T) {
	for _, test := range []struct{ text, cyclonedx, spdx string }{
		{"MIT", `"id": "MIT"`, `"licenseDeclared": "MIT"`},
		{"apache-2.0", `"id": "Apache-2.0"`, `"licenseDeclared": "Apache-2.0"`},
		{"(MIT OR Apache-2.0) AND ISC", `"expression": "(MIT OR Apache-2.0) AND ISC"`, `"licenseDeclared": "(MIT OR Apache-2.0) AND ISC"`},
		{"MIT OR", `"name": "MIT OR"`, `"extractedText": "MIT OR"`},
		{"SEE LICENSE IN x", `"name": "SEE LICENSE IN x"`, `"extractedText": "SEE LICENSE IN x"`},
		{"", "", `"licenseDeclared": "NOASSERTION"`},
	} {
		r := pack()
		r.Release.License = test.text
		if text := write(t, "cyclonedx", r, report.Options{}); !strings.Contains(text, test.cyclonedx) || test.text == "" && strings.Contains(text, `"licenses"`) {
			t.Errorf("%q: CycloneDX does not hold %s", test.text, test.cyclonedx)
		}
		if text := write(t, "spdx", r, report.Options{}); !strings.Contains(text, test.spdx) {
			t.Errorf("%q: SPDX does not hold %s", test.text, test.spdx)
		}
	}
}

// A package of PyPI is several archives of one package URL.
func TestSBOMOfWheels(t *testing.T) {
	r := pack()
	for i := range 3 {
		r.Release.Parts = append(r.Release.Parts, inventory.Part{
			PURL: r.Release.PURL(), Filename: fmt.Sprintf("wheel-%d.whl", i), Digest: "sha256-" + strings.Repeat("ab", 32), Platform: "manylinux",
		})
	}
	for _, format := range []string{"cyclonedx", "spdx"} {
		text := write(t, format, r, report.Options{})
		if strings.Count(text, strings.Repeat("ab", 32)) != 3 || !strings.Contains(text, "wheel-2.whl") {
			t.Errorf("%s does not hold the archives", format)
		}
	}
}

// python runs a script over files, or skips the test if a module is missing.
func python(t *testing.T, module, script string, files []string) {
	t.Helper()
	py, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	if exec.CommandContext(t.Context(), py, "-c", "import "+module).Run() != nil {
		t.Skipf("the Python module %s is not installed", module)
	}
	out, err := exec.CommandContext(t.Context(), py, append([]string{"-c", script}, files...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// written writes every sample in a format and returns the files.
func written(t *testing.T, format string) []string {
	t.Helper()
	f, _ := report.Find(format)
	dir := t.TempDir()
	var files []string
	for sample, make := range samples {
		file := filepath.Join(dir, sample+f.Ext)
		if err := os.WriteFile(file, []byte(write(t, format, make(), report.Options{})), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	slices.Sort(files)
	return files
}

// TestCycloneDXSchema asks the official schema, strictly. The module is
// cyclonedx-python-lib[json-validation].
func TestCycloneDXSchema(t *testing.T) {
	python(t, "cyclonedx.validation.json, jsonschema", `
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
bad = 0
validator = JsonStrictValidator(SchemaVersion.V1_5)
for f in sys.argv[1:]:
    error = validator.validate_str(open(f, encoding="utf-8").read())
    if error is not None:
        bad = 1
        print(f, str(error)[:2000])
if validator.validate_str('{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [{}]}') is None:
    bad = 1
    print("the validator takes anything")
sys.exit(bad)
`, written(t, "cyclonedx"))
}

// TestSPDXValidator asks the validator of the SPDX project. The module is
// spdx-tools.
func TestSPDXValidator(t *testing.T) {
	python(t, "spdx_tools.spdx", `
import sys
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
bad = 0
for f in sys.argv[1:]:
    document = parse_file(f)
    for m in validate_full_spdx_document(document):
        bad = 1
        print(f, m.validation_message)
    if not document.packages or not document.relationships:
        bad = 1
        print(f, "holds no packages or relationships")
sys.exit(bad)
`, written(t, "spdx"))
}
