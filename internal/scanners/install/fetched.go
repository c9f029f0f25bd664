package install

import (
	"context"
	"fmt"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/rules"
)

var (
	assetChanged     = rules.Get("download/asset-changed")
	assetNotPromised = rules.Get("download/asset-not-promised")
)

// Fetched judges what a source fetched as the installation of a package would:
// whether it is what the package promises, and what it was before. What is in
// it is for the scanners that read files.
var Fetched = &scan.Scanner{
	Name:    "download",
	Doc:     "compare what an installation downloads with what was promised and with what it was before",
	Version: 1,
	Rules:   rules.Area("download"),
	Needs:   []scan.Fact{inventory.Fetches},
	Run: func(_ context.Context, p *scan.Pass) error {
		for _, f := range inventory.Fetches.All(p) {
			reportFetched(p, f)
		}
		return nil
	},
}

func reportFetched(p *scan.Pass, f *inventory.Fetched) {
	at := finding.Finding{
		Location: finding.Location{Path: f.Path, URL: f.URL},
		PURL:     f.Part,
		Evidence: []finding.Evidence{finding.NewEvidence("url", f.URL), finding.NewEvidence("sha256", f.SHA256)},
		Anchor:   f.URL,
	}
	if f.Broken {
		broken := at
		broken.Evidence = append(broken.Evidence[:2:2], finding.NewEvidence("promised", f.Promise))
		broken.Description = fmt.Sprintf("The package promises %s for what its installation downloads from %s, but the file there has another hash.",
			printable(f.Promise), printable(f.URL))
		p.Report(assetNotPromised, broken)
	}
	if f.Before != "" {
		changed := at
		changed.Evidence = append(changed.Evidence[:2:2], finding.NewEvidence("sha256 before", f.Before))
		changed.Description = fmt.Sprintf("The file behind %s, which the installation downloads, changed since %s: its SHA-256 was %s… and is now %s….",
			printable(f.URL), f.Since.Format("2006-01-02"), f.Before[:min(12, len(f.Before))], f.SHA256[:min(12, len(f.SHA256))])
		p.Report(assetChanged, changed)
	}
}
