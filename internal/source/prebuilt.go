package source

import (
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/andybalholm/brotli"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/formats/prebuilt"
)

// Prebuilt says whether and from where to fetch what the installation of an
// npm package would fetch.
type Prebuilt struct {
	Fetch   bool
	Hosts   []string  // allowed besides DefaultPrebuiltHosts and the package's registry
	Records string    // folder that remembers what lay behind each address; "" remembers nothing
	Now     time.Time // for the records; zero means the clock
}

// DefaultPrebuiltHosts are the hosts of GitHub's releases and of the stores to
// which it redirects.
var DefaultPrebuiltHosts = []string{"github.com", "objects.githubusercontent.com", "release-assets.githubusercontent.com"}

const (
	maxPrebuilt     = 32        // assets of one package
	maxPrebuiltSize = 100 << 20 // bytes of one, packed and unpacked
)

// A wantedAsset is an asset that is to be fetched.
type wantedAsset struct {
	inventory.Asset
	unpack bool // it is one compressed file, whose hash is that of its content
}

// fetchPrebuilt fetches what the installation of the package would fetch, from
// allowed hosts and over https alone, and mounts it beside the package. What
// could not be fetched is a note.
func (c *npmClient) fetchPrebuilt(ctx context.Context, o *Opened, req Request) error {
	if !req.Prebuilt.Fetch {
		return nil
	}
	manifest, err := fs.ReadFile(o.Workspace.FS(), "package.json")
	if err != nil {
		return nil // which is said elsewhere
	}
	targets, err := prebuiltTargets(req.Platform)
	if err != nil || len(targets) == 0 {
		return err
	}
	found, err := prebuilt.Resolve(prebuilt.Package{Manifest: manifest, Open: opener(o.Workspace.FS())}, prebuilt.Options{Targets: targets})
	if err != nil {
		return nil // the manifest is no JSON: a scanner says so
	}
	allow := c.allowedHosts(o.Target.Name, req.Prebuilt.Hosts)
	wanted := o.choosePrebuilt(found, allow)
	if len(wanted) == 0 {
		return nil
	}
	if c.egress.Offline() {
		o.note("", "not looked at: what its installation downloads, because there is no network to be used (--offline): %s", enumerate(urlsOf(wanted), 3))
		return nil
	}
	ctx = egress.Only(ctx, func(u *url.URL) bool { return u.Scheme == "https" && allow(u) })
	return c.mountPrebuilt(ctx, o, wanted, openRecords(req.Prebuilt))
}

// prebuiltTargets are the machines of --platform.
func prebuiltTargets(list string) ([]prebuilt.Target, error) {
	wanted, err := parseChoice(list)
	if err != nil {
		return nil, err
	}
	var platforms []platform
	switch wanted.word {
	case "", "all":
		if wanted.list == nil {
			return prebuilt.Targets, nil
		}
	case "none":
		return nil, nil
	case "host":
		h := hostPlatform()
		return []prebuilt.Target{{Platform: h.os, Arch: h.cpu, Libc: h.libc}}, nil
	}
	for _, name := range wanted.list {
		if p, ok := parsePlatform(name); ok {
			platforms = append(platforms, p)
		}
	}
	var out []prebuilt.Target
	for _, p := range platforms {
		before := len(out)
		for _, t := range prebuilt.Targets {
			if matches(p.os, t.Platform) && matches(p.cpu, t.Arch) && matches(p.libc, t.Libc) && !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
		if len(out) == before && p.os != "" && p.cpu != "" { // a machine that is not among the usual ones
			libc := p.libc
			if p.os == "linux" {
				libc = cmp.Or(libc, "glibc")
			}
			out = append(out, prebuilt.Target{Platform: p.os, Arch: p.cpu, Libc: libc})
		}
	}
	return out, nil
}

func matches(wanted, have string) bool { return wanted == "" || wanted == have }

// opener reads the files of a package for the resolver.
func opener(fsys fs.FS) func(string) ([]byte, bool) {
	return func(name string) ([]byte, bool) {
		info, err := fs.Stat(fsys, name)
		if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
			return nil, false
		}
		data, err := fs.ReadFile(fsys, name)
		return data, err == nil
	}
}

// allowedHosts returns which hosts may be asked. An entry names a host, with a
// port if only that one is meant.
func (c *npmClient) allowedHosts(name string, more []string) func(*url.URL) bool {
	own := slices.Clone(DefaultPrebuiltHosts)
	if base, _, err := c.settings.registry(name); err == nil {
		own = append(own, hostOf(base))
	}
	return func(u *url.URL) bool {
		if u.User != nil {
			return false // a package names the address, and no password goes out for it
		}
		named := func(list []string, name string) bool {
			return slices.ContainsFunc(list, func(h string) bool { return h != "" && strings.EqualFold(h, name) })
		}
		usual := u.Port() == "" || u.Port() == "443" // other ports are other services
		return named(own, u.Host) || usual && named(own, u.Hostname()) || named(more, u.Host) || named(more, u.Hostname())
	}
}

// choosePrebuilt picks what can be fetched, and notes what is left.
func (o *Opened) choosePrebuilt(found []*inventory.Download, allow func(*url.URL) bool) []wantedAsset {
	var wanted []wantedAsset
	left := map[string][]string{} // addresses by why they are not fetched
	var seen []string
	for _, d := range found {
		for _, a := range d.Assets {
			if strings.HasPrefix(a.URL, "npm:") || slices.Contains(seen, a.URL) {
				continue
			}
			seen = append(seen, a.URL)
			u, err := url.Parse(a.URL)
			switch {
			case a.Open:
				left["their addresses depend on the machine that installs"] = append(left["their addresses depend on the machine that installs"], shownURL(a.URL))
			case err != nil || u.Host == "":
				left["their addresses cannot be read"] = append(left["their addresses cannot be read"], shownURL(a.URL))
			case u.Scheme != "https":
				left["only https is fetched"] = append(left["only https is fetched"], shownURL(a.URL))
			case !allow(u):
				why := fmt.Sprintf("%s is not among the hosts that may be asked (--fetch-host %s)", u.Hostname(), u.Hostname())
				left[why] = append(left[why], shownURL(a.URL))
			case len(wanted) == maxPrebuilt:
				why := fmt.Sprintf("more than %d", maxPrebuilt)
				left[why] = append(left[why], shownURL(a.URL))
			default:
				wanted = append(wanted, wantedAsset{a, d.Resolver == prebuilt.InstallArtifact})
			}
		}
	}
	for why, list := range left {
		o.note("", "not looked at: %d of the files that its installation downloads, because %s: %s", len(list), why, enumerate(list, 2))
	}
	return wanted
}

func urlsOf(list []wantedAsset) []string {
	var out []string
	for _, w := range list {
		out = append(out, shownURL(w.URL))
	}
	return out
}

// shownURL makes an address that a package names fit for a note.
func shownURL(u string) string { return finding.Printable(finding.Redact(u), 300) }

// An asset is what was found behind an address.
type asset struct {
	url     string
	blob    *blob
	content *blob // what blob unpacks to; blob itself if it is not to be unpacked
	left    error // why there is nothing
}

// mountPrebuilt fetches assets side by side and mounts them in order.
func (c *npmClient) mountPrebuilt(ctx context.Context, o *Opened, wanted []wantedAsset, kept *records) error {
	dir := "install-download"
	for n := 2; ; n++ { // a folder that the package does not have
		if _, err := fs.Stat(o.Workspace.FS(), dir); err != nil {
			break
		}
		dir = fmt.Sprintf("install-download-%d", n)
	}
	var absent, over []string
	failed := map[string][]string{} // addresses by why there is nothing
	names := map[string]bool{}
	var total int64
	err := inOrder(ctx, len(wanted), atOnce, func(ctx context.Context, i int) (asset, error) {
		a := c.fetchAsset(ctx, wanted[i])
		if a.left != nil && ctx.Err() != nil {
			return a, ctx.Err()
		}
		return a, nil
	}, func(i int, a asset) bool {
		w := wanted[i]
		if s, ok := errors.AsType[status](a.left); ok && (s.code == 404 || s.code == 410) {
			absent = append(absent, w.URL)
			return true
		}
		if a.left != nil {
			failed[a.left.Error()] = append(failed[a.left.Error()], w.URL)
			return true
		}
		if total += a.blob.size; total > maxFetched {
			over = urlsOf(wanted[i:])
			return false
		}
		o.mountAsset(dir, names, w, a, kept)
		return true
	})
	for why, list := range failed {
		o.note("", "not looked at: %d of the files that its installation downloads, because %s: %s", len(list), why, enumerate(list, 2))
	}
	if len(absent) > 0 {
		o.inform("", "%d of %d files that its installation asks for are not there: %s", len(absent), len(wanted), enumerate(absent, 3))
	}
	if len(over) > 0 {
		o.note("", "not looked at: %d files that its installation downloads, beyond the cap of %d MiB: %s", len(over), maxFetched>>20, enumerate(over, 3))
	}
	if err := kept.problem(); err != nil {
		o.note("", "what lies behind the addresses cannot be remembered: %v", withoutPath(err))
	}
	return err
}

// fetchAsset fetches an asset from the first of its addresses that has one.
func (c *npmClient) fetchAsset(ctx context.Context, w wantedAsset) asset {
	var left error
	for _, address := range append([]string{w.URL}, w.Then...) {
		b, err := c.file(ctx, remote{url: address, name: path.Base(address), max: maxPrebuiltSize})
		if s, ok := errors.AsType[status](err); ok && (s.code == 404 || s.code == 410) {
			left = err
			continue
		}
		if err != nil {
			return asset{left: err}
		}
		content := b
		if w.unpack {
			if content, err = c.unpacked(b, path.Ext(address)); err != nil {
				return asset{left: err}
			}
		}
		return asset{url: address, blob: b, content: content}
	}
	return asset{left: left}
}

// unpacked returns what a file compressed with Brotli or gzip holds, by its
// extension.
func (c *npmClient) unpacked(b *blob, ext string) (*blob, error) {
	var r io.Reader = io.NewSectionReader(b, 0, b.size)
	switch ext {
	case ".br":
		r = brotli.NewReader(r)
	case ".gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, broken("what was fetched", err.Error())
		}
		r = z
	default:
		return b, nil
	}
	s := &sink{f: c.fetcher, hash: sha256.New()}
	n, err := io.Copy(s, io.LimitReader(r, maxPrebuiltSize+1))
	if err == nil && n > maxPrebuiltSize {
		err = fault.New(fault.Exhausted, "it unpacks to more than %d MiB", maxPrebuiltSize>>20).Try("download it and scan it from disk")
	}
	if err != nil {
		s.discard()
		if fault.Is(err, fault.Exhausted) {
			return nil, err
		}
		return nil, broken("what was fetched", err.Error())
	}
	out, err := s.finish(checksum{}, s.hash.Sum(nil))
	if err != nil {
		return nil, spoolFault(err)
	}
	return c.own(out), nil
}

// mountAsset shows an asset, and compares it with what the package promises and
// with what lay behind its address before.
func (o *Opened) mountAsset(dir string, names map[string]bool, w wantedAsset, a asset, kept *records) {
	sum, err := sumOf(a.blob)
	if err != nil {
		o.note("", "not looked at: %s: %v", shownURL(a.url), withoutPath(err))
		return
	}
	f := &inventory.Fetched{URL: a.url, SHA256: sum, Size: a.blob.size, Part: o.Target.PURL(), Promise: w.Hash}
	if w.Hash != "" {
		have, err := sumOf(a.content)
		f.Broken = err != nil || !strings.EqualFold(w.Hash, "sha256:"+have)
	}
	f.Since, f.Before = kept.compare(a.url, sum, a.blob.size)
	name := safeName(a.url)
	if w.unpack {
		name = strings.TrimSuffix(strings.TrimSuffix(name, ".br"), ".gz")
	}
	for n := 2; names[name]; n++ {
		name = fmt.Sprintf("%d-%s", n, safeName(a.url))
	}
	names[name] = true
	part := workspace.Part{Prefix: dir, Origin: string(inventory.FromDownload), Label: o.Target.PURL()}
	if err := o.Workspace.MountFile(part, name, a.content.ReaderAt, a.content.size, nil); err != nil {
		o.note("", "not looked at: %s: %v", shownURL(a.url), err)
	} else {
		f.Path = path.Join(dir, name)
	}
	o.Fetched = append(o.Fetched, f)
}

// safeName is the last element of an address as the name of a file.
func safeName(address string) string {
	name := "asset"
	if u, err := url.Parse(address); err == nil && path.Base(u.Path) != "/" && path.Base(u.Path) != "." {
		name = path.Base(u.Path)
	}
	name = strings.Map(func(r rune) rune {
		if r <= ' ' || strings.ContainsRune(`/\:!*?"<>|`, r) || r == 0x7f {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(name, "_"))
	return name[max(0, len(name)-150):]
}

func sumOf(b *blob) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, io.NewSectionReader(b, 0, b.size))
	return hex.EncodeToString(h.Sum(nil)), err
}

// records remembers what lay behind addresses: a file each, named by the hash of
// the address. A nil *records remembers nothing.
type records struct {
	root *os.Root
	now  time.Time
	err  error
}

// A record is what lay behind one address, oldest first.
type record struct {
	URL  string `json:"url"`
	Seen []seen `json:"seen"`
}

type seen struct {
	SHA256 string    `json:"sha256"`
	Size   int64     `json:"size"`
	Since  time.Time `json:"since"`
}

func openRecords(p Prebuilt) *records {
	if p.Records == "" {
		return nil
	}
	now := p.Now
	if now.IsZero() {
		now = time.Now()
	}
	r := &records{now: now.UTC().Truncate(time.Second)}
	if r.err = os.MkdirAll(p.Records, 0o700); r.err == nil {
		r.root, r.err = os.OpenRoot(p.Records)
	}
	return r
}

// problem returns why records cannot be kept, and closes them.
func (r *records) problem() error {
	if r == nil {
		return nil
	}
	if r.root != nil {
		r.root.Close()
	}
	return r.err
}

// maxRecord bounds a record in bytes, and maxSeen the hashes in it.
const (
	maxRecord = 1 << 20
	maxSeen   = 100
)

// compare returns when an address was first asked, and the hash that it had
// then if it has another one now. What is new is written down.
func (r *records) compare(address, sum string, size int64) (since time.Time, before string) {
	if r == nil || r.root == nil {
		return time.Time{}, ""
	}
	name := prebuiltRecordName(address)
	rec, err := r.read(name)
	if err != nil {
		r.err = cmp.Or(r.err, err)
	}
	if rec.URL != address {
		rec = record{URL: address}
	}
	known := slices.ContainsFunc(rec.Seen, func(s seen) bool { return s.SHA256 == sum })
	if !known && len(rec.Seen) < maxSeen {
		rec.Seen = append(rec.Seen, seen{sum, size, r.now})
		if err := r.write(name, rec); err != nil {
			r.err = cmp.Or(r.err, err)
		}
	}
	if len(rec.Seen) == 0 {
		return r.now, ""
	}
	if first := rec.Seen[0]; first.SHA256 != sum {
		return first.Since, first.SHA256
	}
	return rec.Seen[0].Since, ""
}

func prebuiltRecordName(address string) string {
	sum := sha256.Sum256([]byte(address))
	return hex.EncodeToString(sum[:16]) + ".json"
}

func (r *records) read(name string) (record, error) {
	f, err := r.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return record{}, err
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return record{}, fmt.Errorf("%s is not a record: %w", name, err)
	}
	return rec, nil
}

// write writes a record whole or not at all.
func (r *records) write(name string, rec record) error {
	data, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	temp := fmt.Sprintf("%s.%d", name, os.Getpid())
	f, err := r.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = cmp.Or(err, f.Close()); err == nil {
		err = r.root.Rename(temp, name)
	}
	if err != nil {
		r.root.Remove(temp)
	}
	return err
}
