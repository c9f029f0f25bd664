package enrich_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/enrich"
)

func TestExpect(t *testing.T) {
	hashing := inventory.Purpose{Name: "fasthash", Description: "A fast hashing library", Keywords: []string{"hash"}}
	client := inventory.Purpose{Name: "pg", Description: "PostgreSQL client"}
	silent := inventory.Purpose{Name: "x"}
	platform := inventory.Purpose{Folder: "node_modules/@fasthash/linux-x64", Name: "@fasthash/linux-x64"}
	const inPlatform = "node_modules/@fasthash/linux-x64/x.node"
	for _, test := range []struct {
		name     string
		purposes []inventory.Purpose
		path     string
		behavior inventory.BehaviorName
		tier     inventory.Tier
		from, to finding.Severity
	}{
		{"crypto of a hashing library", []inventory.Purpose{hashing}, "x.node", inventory.Crypto, inventory.Use, finding.Low, finding.Info},
		{"network of a hashing library", []inventory.Purpose{hashing}, "x.node", inventory.Network, inventory.Use, finding.Low, finding.Medium},
		{"network that no code uses", []inventory.Purpose{hashing}, "x.node", inventory.Network, inventory.Capability, finding.Low, finding.Low},
		{"files of a hashing library", []inventory.Purpose{hashing}, "x.node", inventory.Filesystem, inventory.Use, finding.Low, finding.Low},
		{"a high finding stays", []inventory.Purpose{hashing}, "x.node", inventory.Network, inventory.Intent, finding.High, finding.High},
		{"network of a client", []inventory.Purpose{client}, "x.node", inventory.Network, inventory.Use, finding.Low, finding.Info},
		{"a medium finding is not expected away", []inventory.Purpose{client}, "x.node", inventory.Network, inventory.Intent, finding.Medium, finding.Medium},
		{"nothing said", []inventory.Purpose{silent}, "x.node", inventory.Network, inventory.Use, finding.Low, finding.Low},
		{"nobody speaks", nil, "x.node", inventory.Network, inventory.Use, finding.Low, finding.Low},
		{"the parent speaks for a platform package", []inventory.Purpose{hashing, platform}, inPlatform, inventory.Network, inventory.Use, finding.Low, finding.Medium},
		{"an application does not speak for what it depends on", []inventory.Purpose{hashing, {Folder: "node_modules/other", Name: "other"}}, "node_modules/other/x.node", inventory.Network, inventory.Use, finding.Low, finding.Low},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &inventory.Binary{Path: test.path, Slice: "x86_64", Behaviors: inventory.Behaviors{
				test.behavior: {{Rule: "native/r", Tier: test.tier}},
			}}
			fs := []finding.Finding{{Rule: "native/r", Severity: test.from, Description: "Does it.", Location: finding.Location{Path: test.path}, Anchor: "x86_64"}}
			got := enrich.Expect(test.purposes, []*inventory.Binary{b}, fs)
			if got[0].Severity != test.to || fs[0].Severity != test.from {
				t.Errorf("%v became %v, want %v", fs[0].Severity, got[0].Severity, test.to)
			}
			if said := strings.TrimPrefix(got[0].Description, "Does it."); (said != "") != (test.from != test.to) {
				t.Errorf("the reason is %q", said)
			}
		})
	}
}

// What a package says of itself is read once for each of its files, and not to
// the end.
func TestExpectManyKeywords(t *testing.T) {
	talker := inventory.Purpose{Name: "x", Keywords: slices.Repeat([]string{"a-b-c-d"}, 300_000)}
	b := &inventory.Binary{Path: "x.node", Behaviors: inventory.Behaviors{inventory.Network: {{Rule: "native/r"}}}}
	fs := slices.Repeat([]finding.Finding{{Rule: "native/r", Location: finding.Location{Path: "x.node"}}}, 3000)
	began := time.Now()
	enrich.Expect([]inventory.Purpose{talker}, []*inventory.Binary{b}, fs)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it takes %v", took)
	}
}
