package source

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// maxCandidates bounds how many optional dependencies are asked about.
const maxCandidates = 128

// maxSpec bounds a version range in bytes, as the target package does.
const maxSpec = 256

// A candidate is an optional dependency that may be a platform package.
type candidate struct {
	installed string // the name that it is installed under
	dir       string // where in the workspace
	name      string // the name that the registry knows
	spec      string // version, range or tag
	version   string
	m         *manifest // nil if there is no such package
}

// addPlatforms mounts the platform packages of a package: optional dependencies
// that are for some systems only, and those of these (sharp names its add-on,
// which names the library that it links). Unless a choice was made, they are
// followed if the package itself has no native code.
func (c *npmClient) addPlatforms(ctx context.Context, o *Opened, m *manifest, wanted choice) error {
	if len(m.OptionalDependencies) == 0 {
		wanted.noteNone(o, m, nil)
		return nil
	}
	if wanted.word == "" && wanted.list == nil {
		native, err := hasNative(ctx, o.Workspace)
		if err != nil {
			return err
		}
		wanted.word = "all"
		if native {
			wanted.word = "none"
		}
	}
	accepts := wanted.npm()
	if accepts == nil {
		o.note("", "not looked at: its optional dependencies, which may be platform packages (--platform all looks at them): %s",
			enumerate(slices.Sorted(maps.Keys(m.OptionalDependencies)), 8))
		return nil
	}
	found, err := c.resolve(ctx, o, "", m, accepts, map[string]string{})
	if err != nil {
		return err
	}
	seen := map[string]string{}
	for _, f := range found {
		seen[f.installed] = f.version
	}
	for _, f := range found[:len(found):len(found)] {
		more, err := c.resolve(ctx, o, f.dir+"/", f.m, accepts, seen)
		if err != nil {
			return err
		}
		found = append(found, more...)
	}
	wanted.noteNone(o, m, found)
	slices.SortFunc(found, func(a, b candidate) int { return strings.Compare(a.dir, b.dir) })
	return c.mountPlatforms(ctx, o, found)
}

// npm returns which platform packages a choice takes; nil means none at all.
func (c choice) npm() func(constraint) bool {
	switch c.word {
	case "all":
		return func(constraint) bool { return true }
	case "none":
		return nil
	case "host":
		host := hostPlatform()
		return func(k constraint) bool { return k.admits(host) }
	}
	var platforms []platform
	for _, name := range c.list {
		if p, ok := parsePlatform(name); ok {
			platforms = append(platforms, p)
		}
	}
	return func(k constraint) bool {
		return slices.ContainsFunc(platforms, k.admits)
	}
}

// noteNone says which names of a list neither the package itself nor what was
// found of its platform packages is for.
func (c choice) noteNone(o *Opened, m *manifest, found []candidate) {
	builds := []constraint{m.constraint()}
	for _, f := range found {
		builds = append(builds, f.m.constraint())
	}
	var none []string
	for _, name := range c.list {
		p, _ := parsePlatform(name)
		if !slices.ContainsFunc(builds, func(k constraint) bool { return k.any() && k.admits(p) }) {
			none = append(none, name)
		}
	}
	if len(none) > 0 {
		looked := "the package itself"
		if len(found) > 0 {
			looked = "the package itself and its packages for the others"
		}
		o.note("", "this release has no platform package for %s, as chosen by --platform; looked at: %s", strings.Join(none, ", "), looked)
	}
}

// resolve finds the platform packages among the optional dependencies of a
// manifest. parent is the folder of the package that names them, with a slash,
// or empty; seen are the versions already chosen by name.
func (c *npmClient) resolve(ctx context.Context, o *Opened, parent string, m *manifest, accepts func(constraint) bool, seen map[string]string) ([]candidate, error) {
	var all []candidate
	for _, installed := range slices.Sorted(maps.Keys(m.OptionalDependencies)) {
		f := candidate{installed: installed, name: installed, spec: m.OptionalDependencies[installed], dir: "node_modules/" + installed}
		if alias, ok := strings.CutPrefix(f.spec, "npm:"); ok {
			t, err := target.Parse("npm:" + alias)
			if err != nil {
				o.note("", "not looked at: the optional dependency %s, which is no package of a registry", oneLine(installed))
				continue
			}
			f.name, f.spec = t.Name, t.Version
		}
		_, nameErr := target.NewPackage(target.NPM, installed, "")
		if nameErr != nil || len(f.spec) > maxSpec || strings.Contains(f.spec, "/") || strings.Contains(f.spec, ":") {
			o.note("", "not looked at: the optional dependency %s, which is no package of a registry", oneLine(installed))
			continue
		}
		if _, err := fs.Stat(o.Workspace.FS(), f.dir+"/package.json"); err == nil {
			continue // bundled with the package
		}
		if exact, ok := exactVersion(f.spec); ok && seen[installed] == exact {
			continue
		}
		all = append(all, f)
	}
	if len(all) > maxCandidates {
		o.note("", "not looked at: %d further optional dependencies, beyond the first %d: %s", len(all)-maxCandidates, maxCandidates, enumerate(names(all[maxCandidates:]), 8))
		all = all[:maxCandidates]
	}
	var found []candidate
	var missing, others []string
	err := inOrder(ctx, len(all), 2*atOnce, func(ctx context.Context, i int) (candidate, error) {
		f, err := c.ask(ctx, all[i])
		if c.egress.Offline() && fault.Is(err, fault.Unavailable) {
			f.m, err = nil, nil // not kept for a run without the network
		}
		return f, err
	}, func(_ int, f candidate) bool {
		switch {
		case f.m == nil:
			missing = append(missing, f.name+"@"+oneLine(f.spec))
		case seen[f.installed] == f.version:
		case f.m.constraint().any() && accepts(f.m.constraint()):
			if seen[f.installed] != "" {
				f.dir = parent + f.dir // another version of it is at the top
			}
			found = append(found, f)
		case f.m.constraint().any():
			others = append(others, f.installed)
		}
		return true
	})
	if len(others) > 0 {
		o.note("", "not looked at: packages for other platforms than those chosen by --platform: %s", strings.Join(others, ", "))
	}
	if len(missing) > 0 {
		why := "that the registry does not have"
		if c.egress.Offline() {
			why = "that were not kept for a run with --offline, or that the registry does not have"
		}
		o.note("", "not looked at: optional dependencies %s: %s", why, strings.Join(missing, ", "))
	}
	return found, err
}

func names(all []candidate) []string {
	var s []string
	for _, f := range all {
		s = append(s, f.installed)
	}
	return s
}

// ask gets the manifest of a candidate, by one small request if it names one
// version.
func (c *npmClient) ask(ctx context.Context, f candidate) (candidate, error) {
	if version, ok := exactVersion(f.spec); ok {
		m, err := c.oneManifest(ctx, f.name, version)
		if err != nil {
			return f, err
		}
		if m != nil {
			f.version, f.m = version, m
			return f, nil
		}
	}
	p, err := c.packument(ctx, f.name)
	if fault.Is(err, fault.NotFound) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	f.version, err = p.pick(f.name, f.spec)
	if fault.Is(err, fault.NotFound) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	if !p.whole { // the short document may not say for which C library it is
		if f.m, err = c.oneManifest(ctx, f.name, f.version); f.m != nil || err != nil {
			return f, err
		}
	}
	if f.m, err = p.manifest(f.version); err != nil {
		return f, c.garbled(f.name, err)
	}
	return f, nil
}

// mountPlatforms fetches platform packages side by side and mounts them in
// order, up to the caps.
func (c *npmClient) mountPlatforms(ctx context.Context, o *Opened, found []candidate) error {
	var out []string
	if len(found) > maxParts {
		out = names(found[maxParts:])
		found = found[:maxParts]
	}
	var total int64
	var failed error
	err := inOrder(ctx, len(found), atOnce, func(ctx context.Context, i int) (fetched, error) {
		b, err := c.tarball(ctx, found[i].name, found[i].version, found[i].m, maxFetched)
		// Listed but not there, above the cap by itself, or not kept for a
		// run without the network.
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Exhausted) || c.egress.Offline() && fault.Is(err, fault.Unavailable) {
			return fetched{nil, err}, nil
		}
		return fetched{b, nil}, err
	}, func(i int, got fetched) bool {
		f, b := found[i], got.blob
		if b == nil {
			o.note(f.dir, "not looked at: %v", got.left)
			return true
		}
		if total += b.size; total > maxFetched {
			out = append(names(found[i:]), out...)
			return false
		}
		t, err := target.NewPackage(target.NPM, f.name, f.version)
		if err != nil {
			failed = c.garbled(f.name, err)
			return false
		}
		part := npmPart(t.PURL(), f.dir, f.m, b)
		if !b.checked {
			o.note(f.dir, "not verified: the registry gives no hash for %s", part.Filename)
		}
		o.add(part, b)
		if err := o.mountArchive(part, b, npmStrip); err != nil {
			o.note(f.dir, "not looked at: %v", err)
		} else {
			o.compareManifest(f.dir, f.m)
		}
		return true
	})
	if len(out) > 0 {
		o.note("", "not looked at: %d platform packages beyond the caps of %d and %d MiB: %s", len(out), maxParts, maxFetched>>20, strings.Join(out, ", "))
	}
	return errors.Join(err, failed)
}

// hasNative reports whether a workspace holds a file that begins like native
// code: ELF, PE, Mach-O or WebAssembly.
func hasNative(ctx context.Context, ws *workspace.Workspace) (bool, error) {
	found := errors.New("found")
	err := ws.Walk(ctx, func(e workspace.Entry) error {
		if e.Size < nativeHead {
			return nil
		}
		f, err := e.OpenContext(ctx)
		if err != nil {
			return nil // the workspace has a note
		}
		defer f.Close()
		if sniffNative(f) {
			return found
		}
		return nil
	})
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

// nativeHead is how many bytes sniffNative needs.
const nativeHead = 64

// sniffNative looks at the first bytes only. Its mistakes are harmless: they
// decide what else is fetched.
func sniffNative(r io.Reader) bool {
	var head [nativeHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return false
	}
	switch string(head[:4]) {
	case "\x7fELF", "\x00asm",
		"\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe":
		return true
	case "\xca\xfe\xba\xbe": // a fat Mach-O counts its slices where a Java class has a version above 44
		return binary.BigEndian.Uint32(head[4:]) < 44
	}
	// A PE file's DOS header says at 0x3c where the real one begins.
	return string(head[:2]) == "MZ" && binary.LittleEndian.Uint32(head[0x3c:]) < 1<<20
}
