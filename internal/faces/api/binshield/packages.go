package binshield

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// Part is the part of a list that is asked for.
type Part struct {
	Limit  int `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"how many, at most"`
	Offset int `query:"offset" minimum:"0" default:"0" doc:"how many to leave out before them"`
}

func (p Part) of() app.Page { return app.Page{Limit: p.Limit, Offset: p.Offset} }

type searchIn struct {
	Part
	Q string `query:"q" maxLength:"214" doc:"a part of the name; all packages without it"`
}

func (h handler) search(ctx context.Context, in *searchIn) ([]PackageSummary, error) {
	rows, total, err := h.app.SearchPackages(ctx, in.Q, in.of())
	if err != nil {
		return nil, err
	}
	dialect.SetPage(ctx, in.Limit, in.Offset, total)
	out := make([]PackageSummary, len(rows))
	for i, p := range rows {
		out[i] = PackageSummary{
			Ecosystem: string(p.Ecosystem), PackageName: p.Name, LatestVersion: p.Version,
			RiskLevel: p.RiskLevel, RiskScore: int64(p.RiskScore), Summary: p.Summary, BinaryCount: int64(p.BinaryCount),
		}
	}
	return out, nil
}

// PackagePath names a package.
type PackagePath struct {
	Ecosystem string `path:"ecosystem" doc:"npm or pypi"`
	Name      string `path:"name" doc:"with its scope; the slash may be written as it is" example:"@swc/core"`
}

type versionsIn struct {
	PackagePath
	Part
}

func (h handler) versions(ctx context.Context, in *versionsIn) (PackageVersions, error) {
	rows, total, err := h.app.Versions(ctx, in.Ecosystem, in.Name, in.of())
	if err != nil {
		return PackageVersions{}, err
	}
	dialect.SetPage(ctx, in.Limit, in.Offset, total)
	out := PackageVersions{PackageName: in.Name, Ecosystem: in.Ecosystem, Versions: make([]PackageVersion, len(rows))}
	for i, a := range rows {
		out.PackageName, out.Ecosystem = a.Name, string(a.Ecosystem)
		out.Versions[i] = PackageVersion{
			ID: a.ID, Ecosystem: string(a.Ecosystem), PackageName: a.Name, Version: a.Version, Status: "complete",
			RiskScore: int64(a.RiskScore), RiskLevel: a.RiskLevel, Summary: a.Summary, SourceMatchConfidence: published(a.SourceMatch),
			BinaryCount: int64(a.BinaryCount), TotalBinarySize: a.TotalSize, AIModel: a.Model, CreatedAt: stamp(a.CreatedAt.Time), Binaries: []string{},
		}
	}
	return out, nil
}

// published returns a confidence in the three words of the document. Where
// nothing can be said, there is little confidence; the binaries say which it is.
func published(level string) string {
	if level == "" || level == string(inventory.MatchUnknown) {
		return string(inventory.MatchLow)
	}
	return level
}

type versionIn struct {
	PackagePath
	Version string `path:"version" doc:"exactly this one"`
}

func (h handler) analysis(ctx context.Context, in *versionIn) (*dialect.Raw, error) {
	a, err := h.app.AnalysisOf(ctx, in.Ecosystem, in.Name, in.Version)
	if err != nil {
		return nil, err
	}
	return h.whole(ctx, a.ID)
}

// whole returns the JSON of an analysis, packed as well.
func (h handler) whole(ctx context.Context, id string) (*dialect.Raw, error) {
	return h.shelf.get(id, func() (*dialect.Raw, error) {
		r, err := h.app.Report(ctx, id)
		if err != nil {
			return nil, err
		}
		a := PackageAnalysis{Analysis: *report.NewAnalysis(r), Binaries: report.NewBinaries(r)}
		a.ID, a.SourceMatchConfidence = id, published(a.SourceMatchConfidence)
		data, err := json.Marshal(a)
		if err != nil {
			return nil, err
		}
		var packed bytes.Buffer
		w, _ := gzip.NewWriterLevel(&packed, gzip.DefaultCompression) // fails for unknown levels only
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		return &dialect.Raw{MediaType: "application/json", Data: data, Gzip: packed.Bytes(), Tag: dialect.TagOf(data)}, nil
	})
}

// sbomType is the media type of CycloneDX (its specification, "Media Types").
const sbomType = "application/vnd.cyclonedx+json; version=1.5"

func (h handler) sbom(ctx context.Context, in *versionIn) (*dialect.Raw, error) {
	a, err := h.app.AnalysisOf(ctx, in.Ecosystem, in.Name, in.Version)
	if err != nil {
		return nil, err
	}
	r, err := h.app.Report(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := report.CycloneDX.Write(&out, r, report.Options{}); err != nil {
		return nil, err
	}
	return &dialect.Raw{MediaType: sbomType, Data: out.Bytes(), Name: sbomName(a.Name, a.Version), Tag: dialect.TagOf(out.Bytes())}, nil
}

// sbomName returns under which name an SBOM is saved: what could lead elsewhere
// is left out of it.
func sbomName(name, version string) string {
	clean := func(s string) string {
		return strings.Map(func(r rune) rune {
			switch {
			case r == '/', r == '!', r == '+':
				return '-'
			case r < '!', r > '~', strings.ContainsRune(`@"\*:<>?|;,%`, r):
				return -1
			}
			return r
		}, s)
	}
	return "sbom-" + clean(name) + "-" + clean(version) + ".cdx.json"
}

type diffIn struct {
	PackagePath
	From string `query:"from" required:"true" doc:"source version" example:"5.1.0"`
	To   string `query:"to" required:"true" doc:"target version" example:"5.1.1"`
}

func (h handler) diff(ctx context.Context, in *diffIn) (VersionDiff, error) {
	d, err := h.app.Compare(ctx, in.Ecosystem, in.Name, in.From, in.To)
	if err != nil {
		return VersionDiff{}, err
	}
	return VersionDiff{
		PackageName: d.PackageName, Ecosystem: string(d.Ecosystem), FromVersion: d.FromVersion, ToVersion: d.ToVersion,
		RiskDelta: d.RiskDelta, Summary: d.Summary,
		AddedBehaviors: append([]string{}, d.AddedBehaviors...), RemovedBehaviors: append([]string{}, d.RemovedBehaviors...),
	}, nil
}
