package report_test

import (
	"crypto/sha256"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/report"
)

// samples are the reports that every format is tested with, by name.
var samples = map[string]func() *report.Report{
	"package": pack,
	"parts":   platformParts,
	"folder":  func() *report.Report { return folder(2) },
	"vendor":  func() *report.Report { return folder(200) },
	"empty":   empty,
	"nothing": func() *report.Report { return &report.Report{} },
	"hostile": hostile,
}

var (
	started = time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)
	tool    = report.Tool{Name: "loupe", Version: "0.1.0", Rules: "sha256:5f0c1a"}

	connects = &rule.Rule{
		ID: "native/connects-out", Title: "The binary connects to hosts on the network", ScanType: finding.Binary,
		Severity: finding.High, Confidence: finding.Likely, CWE: []int{506}, Attack: []string{"T1071", "T1027.002"},
		References: []string{"https://docs.example/connect"},
		Fix:        "Find out to whom it talks and why, and pin the version before.",
		Text:       "A password hash needs no network.\n\nA binary that *opens* connections can send what it sees.",
	}
	entropy = &rule.Rule{
		ID: "native/entropy-source", Title: "Entropy source access", ScanType: finding.Binary,
		Severity: finding.Info, Confidence: finding.Confirmed, Fix: "No action needed.", Text: "Salts need random bytes.",
	}
	script = &rule.Rule{
		ID: "install/runs-script", Title: "A script runs when the package is installed", ScanType: finding.Binary,
		Severity: finding.Medium, Confidence: finding.Confirmed, CWE: []int{829}, Attack: []string{"T1195.002"},
		Fix: "Install with scripts switched off.", Text: "Install scripts run with the rights of whoever installs.",
	}
)

// report of a package like those found in the wild: one add-on for many
// platforms, one of the files with two slices.
func pack() *report.Report {
	var bins []*inventory.Binary
	for i, p := range []struct{ platform, format, arch, os string }{
		{"darwin-x64+arm64", "Mach-O", "x86_64", "macos"},
		{"darwin-x64+arm64", "Mach-O", "aarch64", "macos"},
		{"linux-arm", "ELF", "arm", "linux"},
		{"linux-arm64", "ELF", "aarch64", "linux"},
		{"linux-x64", "ELF", "x86_64", "linux"},
		{"win32-x64", "PE", "x86_64", "windows"},
	} {
		bins = append(bins, binary(i, fmt.Sprintf("prebuilds/%s/bcrypt.node", p.platform), p.format, p.arch, p.os))
	}
	bins[1].Offset = 65536
	bins[4].Behaviors[inventory.Network] = []inventory.Detail{{
		Rule: connects.ID, Tier: inventory.Use, Text: "Calls connect with an address that the binary holds.",
		Evidence: []finding.Evidence{{Kind: "import", Value: "connect", From: "libc.so.6", Address: "0x1a20"}},
	}}
	bins[4].Risk = finding.NewRisk([]finding.Term{
		{Points: 40, Reason: "connects to a host", Rule: connects.ID}, {Points: 12, Reason: "native code"}, {Points: -4, Reason: "symbols are kept"},
	})
	r := &report.Report{
		Target:    target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "bcrypt", Version: "6.0.0"},
		StartedAt: started, CompletedAt: started.Add(412 * time.Millisecond), Tool: tool,
		Release: &inventory.Release{
			Ecosystem: target.NPM, Name: "bcrypt", Version: "6.0.0",
			Description: "A bcrypt library for NodeJS.", License: "MIT", Homepage: "https://bcrypt.example/",
			Repository: "https://git.example/kelektiv/node.bcrypt.js", Published: started.AddDate(0, -10, 0),
			Parts: []inventory.Part{{
				PURL: "pkg:npm/bcrypt@6.0.0", Filename: "bcrypt-6.0.0.tgz",
				Digest: "sha512-" + strings.Repeat("q83v", 21) + "qw==", Size: 1129334,
			}},
		},
		Binaries: bins,
		Rules:    []*rule.Rule{script, connects, entropy},
		Risk: finding.NewRisk([]finding.Term{
			{Points: 40, Reason: "prebuilds/linux-x64/bcrypt.node connects to a host", Rule: connects.ID},
			{Points: 12, Reason: "native code", Rule: ""}, {Points: -4, Reason: "symbols are kept"},
		}),
		Summary: "Six native binaries for five platforms. One of them, prebuilds/linux-x64/bcrypt.node, opens a network connection that the other five do not have; hashing passwords needs none.",
		AIModel: "loupe-rules", Ran: []string{"install", "native"}, Files: 31, Bytes: 3_400_000,
		Notes: []finding.Note{
			{Scanner: "native", Path: "prebuilds/linux-arm/bcrypt.node", Text: "not looked at to the end: the section table lies outside of the file"},
		},
	}
	add := func(rl *rule.Rule, path, anchor, description string, ev ...finding.Evidence) {
		r.Findings = append(r.Findings, finding.Finding{
			Rule: rl.ID, ScanType: rl.ScanType, Severity: rl.Severity, Confidence: rl.Confidence, Title: rl.Title,
			Description: description, Remediation: rl.Fix, CWE: rl.CWE, Attack: rl.Attack, References: rl.References,
			Location: finding.Location{Path: path}, PURL: "pkg:npm/bcrypt@6.0.0", Evidence: ev, Tool: "native", Anchor: anchor,
		})
	}
	add(connects, bins[4].Path, "connect", "connect is called from init with the address of a host that is written in the binary.",
		finding.Evidence{Kind: "import", Value: "connect", From: "libc.so.6", Address: "0x1a20"},
		finding.NewEvidence("string", "https://collector.example/v1/hash"))
	r.Findings[0].Location.Symbol, r.Findings[0].Location.Address = "init", "0x1a20"
	add(script, "package.json", "install", "The install script is run by npm.", finding.NewEvidence("script", "node-gyp-build"))
	r.Findings[1].Location.Line, r.Findings[1].Location.EndLine = 21, 21
	for _, b := range bins[2:5] {
		add(entropy, b.Path, "/dev/urandom", "Reads system entropy for password hashing.", finding.NewEvidence("string", "/dev/urandom"))
	}
	finding.Arrange(r.Findings)
	return r
}

// binary returns the n-th binary of a package.
func binary(n int, path, format, arch, os string) *inventory.Binary {
	return &inventory.Binary{
		Path: path, Size: int64(60000 + 4321*n), SHA256: fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, path, n))), Origin: inventory.FromPackage,
		Part: "pkg:npm/bcrypt@6.0.0", Format: format, Arch: arch, OS: os, Kind: "shared library",
		Libraries: []string{"libc.so.6"}, Imports: []string{"connect", "memcpy", "open"}, Exports: []string{"napi_register_module_v1"},
		Demangled: []inventory.Name{{Mangled: "_ZN4Napi5ValueC1Ev", Readable: "Napi::Value::Value()"}},
		Functions: inventory.Functions{Count: 210 + n, Method: "eh_frame", Coverage: 0.98765},
		Sections:  []inventory.Section{{Name: ".text", Size: 40000, Access: "r-x", Entropy: 6.12345}},
		Linkage:   "dynamic", Stripped: true, Language: "C++", Toolchain: []string{"GCC 13.2.0"}, BuildID: "ab12",
		Strings: []inventory.String{{Value: "/dev/urandom", Kind: "path"}, {Value: "Invalid salt version"}},
		Behaviors: inventory.Behaviors{
			inventory.Filesystem: {{Rule: entropy.ID, Tier: inventory.Use, Text: "Reads /dev/urandom for entropy and salts.",
				Evidence: []finding.Evidence{finding.NewEvidence("string", "/dev/urandom")}}},
			inventory.Crypto: {{Rule: "native/hashing", Tier: inventory.Capability, Text: "Holds the tables of Blowfish."}},
		},
		Risk:        finding.NewRisk([]finding.Term{{Points: 12, Reason: "native code"}}),
		Explanation: "Hashes passwords.",
	}
}

// platformParts is a package whose binaries come in 30 packages of their own.
func platformParts() *report.Report {
	r := pack()
	r.Target.Name, r.Release.Name, r.Release.Deprecated = "@swift/press", "@swift/press", "use swiftpress instead"
	r.Target.Version, r.Release.Version = "0.25.1", "0.25.1"
	r.Binaries, r.Findings = nil, nil
	r.Release.Parts = r.Release.Parts[:0]
	for i := range 30 {
		p := fmt.Sprintf("@swift/press-%s-%s", []string{"linux", "darwin", "win32", "freebsd", "android"}[i%5], []string{"x64", "arm64", "ia32", "riscv64", "loong64", "s390x"}[i/5])
		purl := "pkg:npm/%40swift/" + p[len("@swift/"):] + "@0.25.1"
		r.Release.Parts = append(r.Release.Parts, inventory.Part{PURL: purl, Path: "node_modules/" + p, Filename: "press.tgz",
			Digest: "sha256-" + strings.Repeat("0f", 32), Platform: "linux-x64", Size: 9_000_000})
		b := binary(i, "node_modules/"+p+"/bin/press", "ELF", "x86_64", "linux")
		b.Size, b.Part = 10_400_000, purl
		r.Binaries = append(r.Binaries, b)
		r.Findings = append(r.Findings, finding.Finding{
			Rule: "native/starts-programs", ScanType: finding.Binary, Severity: finding.Medium, Confidence: finding.Confirmed,
			Title: "The binary starts other programs", Description: "execve is called with a path that comes from its arguments.",
			Remediation: "Check which programs it may start.", Location: finding.Location{Path: b.Path}, PURL: purl, Tool: "native",
		})
	}
	finding.Arrange(r.Findings)
	return r
}

// folder is a target that is no package, with n binaries, and components.
func folder(n int) *report.Report {
	r := &report.Report{
		Target:    target.Target{Kind: target.Path, Name: "/srv/app"},
		StartedAt: started, CompletedAt: started.Add(3 * time.Second), Tool: tool,
		Components: []report.Component{
			{PURL: "pkg:npm/left-pad@1.3.0", Name: "left-pad", Version: "1.3.0", Locations: []string{"package-lock.json"}},
			{PURL: "pkg:pypi/requests@2.19.0", Name: "requests", Version: "2.19.0", Locations: []string{"api/requirements.txt", "job/requirements.txt"}},
			{Name: "vendored", Locations: nil},
		},
		Summary: fmt.Sprintf("A folder with %d binaries.", n), AIModel: "loupe-rules", Ran: []string{"native", "sca"}, Files: 4211, Bytes: 1_200_000_000,
		Risk: finding.NewRisk([]finding.Term{{Points: 61, Reason: "a known vulnerability"}}),
	}
	for i := range n {
		b := binary(i, fmt.Sprintf("vendor/lib/deep/folder/%03d/build/Release/module_with_a_long_name_%03d.node", i, i), "ELF", "x86_64", "linux")
		b.Part, b.Risk = "", finding.NewRisk([]finding.Term{{Points: i % 40, Reason: "native code"}})
		r.Binaries = append(r.Binaries, b)
	}
	r.Findings = []finding.Finding{
		{
			Rule: "sca/known-vulnerability", ScanType: finding.SCA, Severity: finding.Critical, Confidence: finding.Confirmed,
			Title: "requests 2.19.0 sends credentials to other hosts", Description: "The Authorization header survives a redirect.",
			Remediation: "Update to 2.20.0.", CWE: []int{522}, References: []string{"https://advisories.example/GHSA-x84v-xcm2-53pg"},
			Location: finding.Location{Path: "api/requirements.txt", Line: 3, EndLine: 3}, PURL: "pkg:pypi/requests@2.19.0",
			Advisory: "GHSA-x84v-xcm2-53pg", Aliases: []string{"CVE-2018-18074"}, FixedVersions: []string{"2.20.0"}, Tool: "sca",
		},
		{
			Rule: "tls/certificate-expires-soon", ScanType: finding.DAST, Severity: finding.Low, Confidence: finding.Confirmed,
			Title: "Certificate expires soon", Description: "It ends in 9 days.", Remediation: "Renew it.",
			Location: finding.Location{URL: "https://host.example:8443/a b"}, Tool: "tls",
		},
		{Rule: "folder/no-lock", ScanType: finding.Config, Severity: finding.Info, Confidence: finding.Possible, Title: "No lock file", Tool: "sca"},
	}
	finding.Arrange(r.Findings)
	return r
}

// empty is a package without binaries.
func empty() *report.Report {
	r := pack()
	r.Target.Name, r.Release.Name = "left-pad", "left-pad"
	r.Binaries, r.Notes, r.Risk = nil, nil, finding.Risk{}
	r.Findings = r.Findings[1:2]
	r.Summary = "No native binaries."
	return r
}

// Hostile texts: what a name in a package, a string in a binary or a message of
// a registry may hold.
var hostileTexts = []string{
	"\x1b[31mred\x1b[0m\x1b]0;title\x07", "a|b||`code```|", "\u202egnp.exe\u202c", strings.Repeat("long/", 2000) + "x.node",
	"line\r\nbreak\ttab", "<script>alert(1)</script>", "[link](javascript:alert(1)) ![i](https://evil.example/x.png)",
	"@everyone #1 https://evil.example", "\xff\xfe\x80", "\u009b31mCSI", "a\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301", "漢字テスト/한국어.node",
	"\U000e0041\U000e0042tags", "\u061carabic mark", "</code></details></summary>", "--- \n# heading\n- item\n| a |", "", " ", "..", "a:b//c?d#e%zz", "\\|\\`\\",
	"\u2028\u2029\ufeff\u200b", "👩‍👩‍👧 family", "SPDXRef-x", "urn:cdx:1/2#3",
}

// hostile holds such texts wherever a text may stand.
func hostile() *report.Report {
	n := 0
	text := func() string { n++; return hostileTexts[n%len(hostileTexts)] }
	texts := func() []string { return []string{text(), text(), text()} }
	r := &report.Report{
		Target:    target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: text(), Version: text()},
		StartedAt: started, CompletedAt: started.Add(time.Second), Tool: tool,
		Release: &inventory.Release{
			Ecosystem: target.NPM, Name: "evil|`" + text(), Version: text(), Description: text(), Keywords: texts(), License: text(),
			Homepage: "javascript:alert(1)", Repository: "https://git.example/\x1b[31m a", Deprecated: text(), Yanked: text(),
		},
		Summary: strings.Join(hostileTexts[:3], " ") + strings.Join(hostileTexts[4:], " "), AIModel: text(), Ran: texts(),
		Risk: finding.Risk{Score: 100, Terms: []finding.Term{{Points: 100, Reason: text(), Rule: text()}}},
	}
	for i := range hostileTexts {
		path := text()
		r.Release.Parts = append(r.Release.Parts, inventory.Part{PURL: text(), Path: text(), Filename: text(), Digest: "sha512-" + text(), Platform: text()})
		r.Binaries = append(r.Binaries, &inventory.Binary{
			Path: path, SHA256: text(), Origin: inventory.Origin(text()), Part: text(), Format: text(), Arch: text(), OS: text(), Kind: text(),
			Libraries: texts(), Imports: texts(), Exports: texts(), Demangled: []inventory.Name{{Mangled: text(), Readable: text()}},
			Functions: inventory.Functions{Count: -1, Method: text(), Coverage: math.NaN()},
			Sections:  []inventory.Section{{Name: text(), Size: math.MaxUint64, Access: text(), Entropy: math.Inf(1)}},
			Linkage:   text(), Language: text(), Toolchain: texts(), BuildID: text(), Strings: []inventory.String{{Value: text(), Kind: text()}},
			Behaviors: inventory.Behaviors{inventory.Network: {{Rule: text(), Tier: inventory.Tier(text()), Text: text(), Evidence: []finding.Evidence{{Kind: text(), Value: text(), From: text(), Address: text()}}}}},
			Risk:      finding.Risk{Score: i * 4, Terms: []finding.Term{{Points: i * 4, Reason: text(), Rule: text()}}}, Explanation: text(), Preview: text(),
		}, nil)
		r.Components = append(r.Components, report.Component{PURL: text(), Name: text(), Version: text(), Locations: texts()})
		r.Findings = append(r.Findings, finding.Finding{
			Rule: text(), ScanType: finding.ScanType(text()), Severity: finding.Severity(i), Confidence: finding.Confidence(i), Title: text(), Description: text(),
			Remediation: text(), CWE: []int{-1, 0, i}, Attack: texts(), References: texts(), PURL: text(), Advisory: text(), Aliases: texts(), FixedVersions: texts(),
			Location: finding.Location{Path: path, Line: i - 3, EndLine: 3 - i, URL: text(), Symbol: text(), Address: []string{"0x1a20", "0xffffffffffffffff", text()}[i%3]},
			Evidence: []finding.Evidence{{Kind: text(), Value: text(), From: text(), Address: text()}}, Tool: text(),
		})
		r.Notes = append(r.Notes, finding.Note{Scanner: text(), Path: text(), Text: text()})
		r.Rules = append(r.Rules, &rule.Rule{ID: text(), Title: text(), Fix: text(), Text: text(), CWE: []int{-5, i}, Attack: texts(), References: texts()}, nil)
	}
	finding.Arrange(r.Findings)
	return r
}
