package source

import (
	"context"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// Newest asks the registry which version of a package is installed today if
// none is named. It fetches no files.
func Newest(ctx context.Context, req Request) (string, error) {
	f := newFetcher(req)
	defer f.close()
	version, err := newestOf(ctx, f, req)
	if err != nil {
		return "", explain(ctx, err)
	}
	return version, nil
}

func newestOf(ctx context.Context, f *fetcher, req Request) (string, error) {
	name := req.Target.Name
	switch req.Target.Ecosystem {
	case target.NPM:
		c := &npmClient{fetcher: f, settings: loadNPMSettings(req.ProjectDir), unset: map[string]bool{}}
		c.settings.trustCertificates(c.egress)
		p, err := c.packument(ctx, name)
		if err != nil {
			return "", err
		}
		return p.pick(name, "")
	case target.PyPI:
		settings, err := loadPipSettings()
		if err != nil {
			return "", err
		}
		if settings.noIndex {
			return "", noIndex()
		}
		settings.trustCertificates(f.egress)
		p, err := askIndexes(ctx, f, settings, target.NormalizePyPI(name))
		if err != nil {
			return "", err
		}
		files, err := p.pick("")
		if err != nil {
			return "", err
		}
		return files[0].version.text, nil
	}
	return "", fault.New(fault.Invalid, "%s has no registry", req.Target.Short())
}
