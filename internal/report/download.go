package report

import (
	"cmp"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// A Download is one way in which the installation of the target fetches what
// its registry does not serve.
type Download struct {
	Path      string          `json:"path"`
	Line      int             `json:"line"`
	Part      string          `json:"part"`
	Resolver  string          `json:"resolver"` // node-pre-gyp, prebuild-install, install-artifact-from-github, script, npm, setup.py
	Tool      string          `json:"tool"`
	Stage     string          `json:"stage"`
	Command   string          `json:"command"`
	Pin       inventory.Pin   `json:"pin"`
	Owner     inventory.Owner `json:"owner"`
	Mutable   bool            `json:"mutable"`
	Insecure  bool            `json:"insecure"`
	Fallback  string          `json:"fallback"`
	Overrides []string        `json:"overrides"`
	Problem   string          `json:"problem"`
	Assets    []Asset         `json:"assets"`
	Omitted   int             `json:"omitted"` // assets that are not listed
}

// An Asset is a file that is fetched, for one platform.
type Asset struct {
	URL      string `json:"url"`
	Platform string `json:"platform"`
	Arch     string `json:"arch"`
	Libc     string `json:"libc"`
	ABI      string `json:"abi"`
	NAPI     int    `json:"napi"`
	Hash     string `json:"hash"` // that the package promises

	SHA256 string `json:"sha256"` // of what was fetched for this scan; empty if it was not
	Size   int64  `json:"size"`
	Before string `json:"before"` // the SHA-256 of an earlier scan, if it was another
}

const longestText = 1000 // bytes of other people's words in one field

func newDownloads(list []*inventory.Download) []Download {
	text := func(s string) string { return finding.Printable(finding.Redact(s), longestText) }
	out := make([]Download, 0, len(list))
	for _, d := range list {
		w := Download{
			Path: d.Path, Line: d.Line, Part: d.Part, Resolver: d.Resolver, Tool: text(d.Tool), Stage: d.Stage, Command: text(d.Command),
			Pin: cmp.Or(d.Pin, inventory.Unpinned), Owner: cmp.Or(d.Owner, inventory.UnknownOwner), Mutable: d.Mutable, Insecure: d.Insecure(),
			Fallback: text(d.Fallback), Overrides: texts(d.Overrides, text), Problem: text(d.Problem),
			Assets: make([]Asset, 0, len(d.Assets)), Omitted: d.Omitted,
		}
		for _, a := range d.Assets {
			one := Asset{URL: text(a.URL), Platform: text(a.Platform), Arch: text(a.Arch), Libc: text(a.Libc), ABI: text(a.ABI), NAPI: a.NAPI, Hash: text(a.Hash)}
			if f := a.Fetched; f != nil {
				one.SHA256, one.Size, one.Before = f.SHA256, f.Size, f.Before
			}
			w.Assets = append(w.Assets, one)
		}
		out = append(out, w)
	}
	return out
}

func texts(list []string, text func(string) string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, text(s))
	}
	return out
}
