package source

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// NPM gets a package from the npm registry that the user's settings name. The
// package itself is at the root of the workspace; the platform packages that
// carry its binaries lie in node_modules, where npm would install them.
var NPM = &Source{
	Name:  "npm",
	Doc:   "a version of an npm package, with the platform packages that carry its binaries",
	Takes: func(t target.Target) bool { return t.Kind == target.Package && t.Ecosystem == target.NPM },
	Open:  openNPM,
}

// abbreviated is the media type of the document that lists versions without
// their descriptions.
const abbreviated = "application/vnd.npm.install-v1+json"

const (
	acceptAbbreviated = abbreviated + "; q=1.0, application/json; q=0.8, */*"
	acceptFull        = "application/json"
)

// smallPackument is up to which size of the abbreviated document the full one
// is asked for, which has the publication times but is some times as large.
const smallPackument = 2 << 20

// npmStrip is how many folders npm takes off the names in a tarball: one,
// whatever it is called.
const npmStrip = 1

const npmPlaces = ".npmrc or npm_config_registry"

// npmClient asks npm registries.
type npmClient struct {
	*fetcher
	settings npmSettings

	unsetMu sync.Mutex
	unset   map[string]bool // hosts whose credentials name a variable that is not set
}

func openNPM(ctx context.Context, req Request) (opened *Opened, err error) {
	if err := CheckPlatform(target.NPM, req.Platform); err != nil {
		return nil, err
	}
	wanted, err := parseChoice(req.Platform)
	if err != nil {
		return nil, err
	}
	c := &npmClient{fetcher: newFetcher(req), settings: loadNPMSettings(req.ProjectDir), unset: map[string]bool{}}
	c.settings.trustCertificates(c.egress)
	o := newOpened(req, c.fetcher)
	defer func() {
		if err != nil {
			o.Close()
		}
	}()

	name := req.Target.Name
	p, err := c.packument(ctx, name)
	if err != nil {
		return nil, err
	}
	version, err := p.pick(name, req.Target.Version)
	if err != nil {
		return nil, err
	}
	m, published, err := c.manifest(ctx, name, version, p)
	if err != nil {
		return nil, err
	}
	b, err := c.tarball(ctx, name, version, m, maxFetched)
	if err != nil {
		return nil, err
	}
	if o.Target, err = target.NewPackage(target.NPM, name, version); err != nil {
		return nil, fault.New(fault.Corrupt, "the registry lists the version %q of %q, which is none", version, name).Try("name another version")
	}
	part := npmPart(o.Target.PURL(), "", m, b)
	o.Release = m.release(name, version)
	o.Release.Published = published
	o.add(part, b)
	if m.Deprecated != "" {
		o.inform("", "the package is deprecated: %s", oneLine(string(m.Deprecated)))
	}
	if !b.checked {
		o.note("", "not verified: the registry gives no hash for %s", part.Filename)
	}
	if err := o.mountArchive(part, b, npmStrip); err != nil {
		return nil, err
	}
	if err := o.checkReadable(".", part.Filename); err != nil {
		return nil, err
	}
	if _, err := fs.Stat(o.Workspace.FS(), "package.json"); err != nil {
		if notes := o.Workspace.Notes(); len(notes) > 0 {
			return nil, broken(part.Filename, notes[0].Text)
		}
	}
	o.compareManifest("", m)
	if err := c.addPlatforms(ctx, o, m, wanted); err != nil {
		return nil, err
	}
	if err := c.fetchPrebuilt(ctx, o, req); err != nil {
		return nil, err
	}
	for host := range c.unset {
		o.inform("", "the token for %s in .npmrc names an environment variable that is not set", host)
	}
	return o, nil
}

// packument asks for the versions of a package.
func (c *npmClient) packument(ctx context.Context, name string) (*packument, error) {
	d, err := c.get(ctx, acceptAbbreviated, name)
	if err != nil {
		return nil, err
	}
	if d.Missing {
		return nil, c.notFound(name)
	}
	p, err := parsePackument(d.Body, d.Type)
	if err != nil {
		return nil, c.garbled(name, err)
	}
	return p, nil
}

// manifest asks for the whole manifest of one version and when it was
// published, if the registry says. p is what is known of the package.
func (c *npmClient) manifest(ctx context.Context, name, version string, p *packument) (*manifest, time.Time, error) {
	known, err := p.manifest(version)
	if err != nil {
		return nil, time.Time{}, c.garbled(name, err)
	}
	size := 0
	for _, raw := range p.Versions {
		size += len(raw)
	}
	if !p.whole && size > smallPackument {
		m, err := c.oneManifest(ctx, name, version)
		if err != nil {
			return nil, time.Time{}, err
		}
		if m != nil {
			return m.withDist(known), time.Time{}, nil
		}
	}
	if !p.whole {
		d, err := c.get(ctx, acceptFull, name)
		if err != nil {
			return nil, time.Time{}, err
		}
		full, _ := parsePackument(d.Body, acceptFull)
		if full == nil || full.Versions[version] == nil {
			return known, time.Time{}, nil // unpublished since, or a registry that has only one document
		}
		p = full
	}
	m, err := p.manifest(version)
	if err != nil {
		return nil, time.Time{}, c.garbled(name, err)
	}
	return m.withDist(known), p.published(version), nil
}

// oneManifest asks for the document of a single version, which not every
// registry has and which may not have been kept: nil then.
func (c *npmClient) oneManifest(ctx context.Context, name, version string) (*manifest, error) {
	d, err := c.get(ctx, acceptFull, name, version)
	if _, refused := errors.AsType[status](err); refused || err != nil && c.egress.Offline() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if d.Missing {
		return nil, nil
	}
	m, _ := parseManifest(d.Body)
	if m == nil || string(m.Version) != version || m.Dist.Tarball == "" {
		return nil, nil
	}
	m.whole = true
	return m, nil
}

// withDist takes what m does not say about its tarball from another document.
func (m *manifest) withDist(other *manifest) *manifest {
	if m.Dist.Tarball == "" {
		m.Dist = other.Dist
	}
	m.Deprecated = cmp.Or(m.Deprecated, other.Deprecated)
	return m
}

// get asks the registry of a package for a document: of the package, or of one
// of its versions.
func (c *npmClient) get(ctx context.Context, accept, name string, version ...string) (*document, error) {
	base, authorization, err := c.settings.registry(name)
	if err != nil {
		return nil, err
	}
	if err := c.egress.Trust(base); err != nil {
		return nil, err
	}
	// npm asks for @scope%2fname; registries know that form best.
	address := base + "/" + strings.ReplaceAll(url.PathEscape(name), "%2F", "%2f")
	for _, v := range version {
		address += "/" + url.PathEscape(v)
	}
	authorization = cmp.Or(c.authorization(address), authorization)
	d, err := c.document(ctx, address, accept, authorization)
	if s, ok := errors.AsType[status](err); ok && len(version) == 0 {
		return nil, s.fault(c.places(address))
	}
	return d, err
}

// authorization returns the header for a URL, and remembers credentials that
// cannot be sent because a variable in them is not set. npm would send the name
// of the variable.
func (c *npmClient) authorization(rawURL string) string {
	header, unset := c.settings.authorization(rawURL)
	if unset {
		c.unsetMu.Lock()
		defer c.unsetMu.Unlock()
		c.unset[hostOf(rawURL)] = true
	}
	return header
}

// places says where the settings for a URL are.
func (c *npmClient) places(rawURL string) string {
	c.unsetMu.Lock()
	defer c.unsetMu.Unlock()
	if c.unset[hostOf(rawURL)] {
		return npmPlaces + ", where the token for it names an environment variable that is not set"
	}
	return npmPlaces
}

func (c *npmClient) notFound(name string) error {
	base, _, _ := c.settings.registry(name)
	help := "check the spelling, and the registry in " + npmPlaces
	if strings.HasPrefix(name, "@") {
		help = "check the spelling, and the registry and the token of its scope in .npmrc"
	}
	if places := c.places(base); places != npmPlaces {
		help = "check the spelling, and the registry in " + places
	}
	return fault.New(fault.NotFound, "there is no npm package %q at %s", name, hostOf(base)).Try("%s", help)
}

func (c *npmClient) garbled(name string, err error) error {
	base, _, _ := c.settings.registry(name)
	return fault.New(fault.Corrupt, "what %s says about %q is no npm registry's answer", hostOf(base), name).
		Try("check the registry in %s", npmPlaces).Because(err)
}

// tarball fetches the archive of a version.
func (c *npmClient) tarball(ctx context.Context, name, version string, m *manifest, maxBytes int64) (*blob, error) {
	address, authorization, err := c.tarballURL(name, version, string(m.Dist.Tarball))
	if err != nil {
		return nil, err
	}
	if err := c.egress.Trust(address); err != nil {
		return nil, noTarball(name, version).Because(err)
	}
	b, err := c.file(ctx, remote{
		url:           address,
		authorization: authorization,
		name:          path.Base(name) + "-" + version + ".tgz",
		want:          parseIntegrity(string(m.Dist.Integrity), string(m.Dist.Shasum)),
		max:           maxBytes,
	})
	if s, ok := errors.AsType[status](err); ok {
		if s.code == 404 || s.code == 410 {
			return nil, fault.New(fault.NotFound, "%s lists version %s of %q but does not have its file", s.host, version, name).
				Try("try another version or another registry")
		}
		return nil, s.fault(c.places(address))
	}
	return b, err
}

func noTarball(name, version string) *fault.Error {
	return fault.New(fault.Corrupt, "the registry gives no usable address for the tarball of %s@%s", name, version).
		Try("try another version, or check the registry in %s", npmPlaces)
}

// tarballURL returns where a tarball is and what authorizes the request. The
// registry says where; a registry that copies its answers from the public one
// names that host, which the user may be unable to reach, so npm asks the
// configured registry instead (replace-registry-host), and so do we.
func (c *npmClient) tarballURL(name, version, listed string) (address, authorization string, err error) {
	base, userinfo, err := c.settings.registry(name)
	if err != nil {
		return "", "", err
	}
	registry, err := url.Parse(base + "/")
	if err != nil {
		return "", "", c.garbled(name, err)
	}
	at, err := registry.Parse(listed)
	if err != nil || listed == "" || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return "", "", noTarball(name, version).Because(err)
	}
	at.User = nil
	replace := c.settings.replace
	if replace == "" || replace == "npmjs" {
		replace = hostOf(c.settings.public)
	}
	if at.Host != registry.Host && replace != "never" && (replace == "always" || replace == at.Host) {
		at.Scheme, at.Host = registry.Scheme, registry.Host
		at.Path, at.RawPath = strings.TrimSuffix(registry.Path, "/")+at.Path, ""
	}
	if at.Scheme == "http" && registry.Scheme == "https" && at.Hostname() == registry.Hostname() && at.Port() == "" {
		at.Scheme, at.Host = "https", registry.Host // a registry that does not know its proxy speaks TLS
	}
	if at.Scheme == "https" || registry.Scheme == "http" { // a token never goes out in clear that need not
		authorization = c.authorization(at.String())
		if authorization == "" && sameOrigin(at, registry) {
			authorization = userinfo
		}
	}
	return at.String(), authorization, nil
}

func npmPart(purl, dir string, m *manifest, b *blob) inventory.Part {
	p := inventory.Part{
		PURL:     purl,
		Path:     dir,
		Filename: path.Base(string(m.Name)) + "-" + string(m.Version) + ".tgz",
		Size:     b.size,
		Platform: m.constraint().String(),
	}
	if u, err := url.Parse(string(m.Dist.Tarball)); err == nil && path.Ext(u.Path) == ".tgz" {
		p.Filename = path.Base(u.Path)
	}
	if b.checked {
		p.Digest = sri(b.algorithm, b.sum)
	}
	return p
}

func (m *manifest) constraint() constraint { return constraint{m.OS, m.CPU, m.Libc} }

// release describes the version by its manifest.
func (m *manifest) release(name, version string) *inventory.Release {
	return &inventory.Release{
		Ecosystem:   target.NPM,
		Name:        name,
		Version:     version,
		Description: string(m.Description),
		Keywords:    m.Keywords,
		License:     cmp.Or(string(m.License), string(m.Licenses)),
		Homepage:    string(m.Homepage),
		Repository:  string(m.Repository),
		Deprecated:  string(m.Deprecated),
		Provenance:  string(m.Dist.Attestations.Provenance.PredicateType),
	}
}

// oneLine makes other people's text fit for a note.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "�")), " ")
	if r := []rune(s); len(r) > 300 {
		s = string(r[:300]) + "…"
	}
	return s
}
