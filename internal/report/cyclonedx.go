package report

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// CycloneDX is a bill of materials in the form of CycloneDX 1.5. What it holds of a package is as the BinShield API promises. The same report
// gives the same bytes.
var CycloneDX = Format{
	Name:      "cyclonedx",
	Doc:       "bill of materials, CycloneDX 1.5",
	MediaType: "application/vnd.cyclonedx+json; version=1.5",
	Ext:       ".cdx.json",
	Write: func(w io.Writer, r *Report, _ Options) error {
		text, err := indented(newBOM(settled(r)))
		if err != nil {
			return err
		}
		_, err = w.Write(bytes.Replace(text, []byte(noUUID), []byte(uuid("cyclonedx", text)), 1))
		return err
	},
}

// SBOMName returns the file name of the bill of materials of a package:
// "sbom-bcrypt-5.1.1.cdx.json", and "sbom-a-b-1.0.cdx.json" for @a/b.
func SBOMName(name, version string) string {
	return "sbom-" + plain(name) + "-" + plain(version) + CycloneDX.Ext
}

var odd = pattern.New(`[^A-Za-z0-9._+-]+`)

func plain(s string) string { return odd.ReplaceAllString(strings.TrimLeft(s, "@"), "-") }

// A bom is a bill of materials in the making.
type bom struct {
	r          *Report
	root       cdx.Component
	components []cdx.Component
	depends    map[string][]string // from a reference to those that it depends on
	byPURL     map[string]string   // from a package URL to a reference
	byPath     map[string][]string // from a path to the references of its binaries
	taken      names               // references
}

func newBOM(r *Report) *cdx.BOM {
	b := &bom{r: r, depends: map[string][]string{}, byPURL: map[string]string{}, byPath: map[string][]string{}, taken: names{}}
	b.addRoot()
	b.addParts()
	b.addComponents()
	b.addBinaries()
	meta := &cdx.Metadata{
		Timestamp: stamp(r.CompletedAt),
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{
			Type: cdx.ComponentTypeApplication, Name: r.Tool.Name, Version: r.Tool.Version,
			ExternalReferences: &[]cdx.ExternalReference{{Type: cdx.ERTypeWebsite, URL: home}},
			Properties:         properties("loupe:rules", r.Tool.Rules),
		}}},
		Component: &b.root,
	}
	out := &cdx.BOM{
		JSONSchema:   "http://cyclonedx.org/schema/bom-1.5.schema.json",
		BOMFormat:    cdx.BOMFormat,
		SpecVersion:  cdx.SpecVersion1_5,
		SerialNumber: "urn:uuid:" + noUUID,
		Version:      1,
		Metadata:     meta,
		Components:   pointer(b.components),
		Dependencies: pointer(b.dependencies()),
	}
	out.Vulnerabilities = pointer(b.vulnerabilities())
	if len(r.Notes) > 0 { // a bill that leaves something out says so
		out.Compositions = &[]cdx.Composition{{
			Aggregate: cdx.CompositionAggregateIncomplete, Assemblies: &[]cdx.BOMReference{cdx.BOMReference(b.root.BOMRef)},
		}}
		var notes []cdx.Property
		for _, n := range r.Notes {
			notes = append(notes, cdx.Property{Name: "loupe:note", Value: strings.Join(slices.DeleteFunc([]string{n.Scanner, n.Path, n.Text}, func(s string) bool { return s == "" }), ": ")})
		}
		meta.Properties = &notes
	}
	return out
}

// ref returns a reference that nothing else has, s if it can.
func (b *bom) ref(s string) string { return b.taken.unique(cmp.Or(s, "component"), "#") }

// addRoot describes the target.
func (b *bom) addRoot() {
	r := b.r
	rel := release(r)
	if rel == nil {
		name := targetName(r)
		b.root = cdx.Component{Type: cdx.ComponentTypeApplication, BOMRef: b.ref("target:" + name), Name: name}
		b.root.Properties = properties(
			"loupe:riskScore", strconv.Itoa(r.Risk.Score), "loupe:riskLevel", string(r.Risk.Level()), "loupe:summary", r.Summary)
		return
	}
	purl := rel.PURL()
	b.root = cdx.Component{
		Type: cdx.ComponentTypeLibrary, BOMRef: b.ref(purl), PackageURL: purl,
		Name: rel.Name, Version: rel.Version, Description: rel.Description,
		Licenses: cdxLicenses(rel.License),
		Properties: properties(
			"binshield:ecosystem", string(rel.Ecosystem),
			"binshield:riskScore", strconv.Itoa(r.Risk.Score),
			"binshield:riskLevel", string(r.Risk.Level()),
			"loupe:summary", r.Summary, "loupe:deprecated", rel.Deprecated, "loupe:yanked", rel.Yanked,
		),
	}
	b.byPURL[purl] = b.root.BOMRef
	var refs []cdx.ExternalReference
	if u := webURL(rel.Homepage); u != "" {
		refs = append(refs, cdx.ExternalReference{Type: cdx.ERTypeWebsite, URL: u})
	}
	if u := webURL(rel.Repository); u != "" {
		refs = append(refs, cdx.ExternalReference{Type: cdx.ERTypeVCS, URL: u})
	}
	for _, p := range rel.Parts { // archives of the release itself; those of other packages are components
		if p.PURL == purl || p.PURL == "" {
			refs = append(refs, cdx.ExternalReference{
				Type: cdx.ERTypeDistribution, URL: relativeURI(p.Filename), Comment: p.Platform, Hashes: cdxHashes(p.Digest),
			})
		}
	}
	b.root.ExternalReferences = pointer(distinct(refs, func(e cdx.ExternalReference) string { return e.URL + "\x00" + e.Comment }))
}

// addParts lists the packages besides the release that make it up.
func (b *bom) addParts() {
	if b.r.Release == nil {
		return
	}
	for _, p := range b.r.Release.Parts {
		if p.PURL == "" || b.byPURL[p.PURL] != "" {
			continue
		}
		name, version := purlName(p.PURL)
		c := cdx.Component{
			Type: cdx.ComponentTypeLibrary, BOMRef: b.ref(p.PURL), PackageURL: p.PURL, Name: name, Version: version,
			Hashes: cdxHashes(p.Digest), Evidence: occurrences(p.Path), Properties: properties("loupe:platform", p.Platform),
		}
		b.add(c, b.root.BOMRef)
		b.byPURL[p.PURL] = c.BOMRef
	}
}

// addComponents lists the packages that were found in the target.
func (b *bom) addComponents() {
	for _, p := range b.r.Components {
		if p.PURL != "" && b.byPURL[p.PURL] != "" {
			continue
		}
		c := cdx.Component{
			Type: cdx.ComponentTypeLibrary, PackageURL: p.PURL, Name: cmp.Or(p.Name, p.PURL), Version: p.Version,
			BOMRef: b.ref(cmp.Or(p.PURL, strings.TrimSuffix(p.Name+"@"+p.Version, "@"))), Evidence: occurrences(p.Locations...),
			Properties: properties("loupe:source", p.Source, "loupe:confidence", p.Confidence.String()),
		}
		b.add(c, b.root.BOMRef)
		if p.PURL != "" {
			b.byPURL[p.PURL] = c.BOMRef
		}
	}
}

// addBinaries lists the native binaries, each below the part that holds it.
func (b *bom) addBinaries() {
	ids := binaryIDs(b.r.Binaries)
	for i, bin := range b.r.Binaries {
		c := cdx.Component{
			Type: cdx.ComponentTypeFile, BOMRef: b.ref(ids[i]), Name: cmp.Or(bin.Path, "binary"), Evidence: occurrences(bin.Path),
			Properties: properties(
				"binshield:riskScore", strconv.Itoa(bin.Risk.Score),
				"binshield:riskLevel", string(bin.Risk.Level()),
				"binshield:format", cmp.Or(bin.Format, "unknown"),
				"binshield:architecture", cmp.Or(bin.Arch, "unknown"),
			),
		}
		for _, n := range inventory.BehaviorNames {
			*c.Properties = append(*c.Properties, cdx.Property{Name: "binshield:behavior:" + string(n), Value: strconv.FormatBool(len(bin.Behaviors[n]) > 0)})
		}
		*c.Properties = append(*c.Properties, *properties(
			"loupe:origin", string(bin.Origin), "loupe:offset", strconv.FormatInt(bin.Offset, 10), "loupe:size", strconv.FormatInt(bin.Size, 10),
			"loupe:os", bin.OS, "loupe:buildId", bin.BuildID)...)
		if isHex(bin.SHA256, 32) {
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: strings.ToLower(bin.SHA256)}}
		}
		b.add(c, cmp.Or(b.byPURL[bin.Part], b.root.BOMRef))
		b.byPath[bin.Path] = append(b.byPath[bin.Path], c.BOMRef)
	}
}

// add lists c, on which the component of the reference from depends.
func (b *bom) add(c cdx.Component, from string) {
	b.components = append(b.components, c)
	b.depends[from] = append(b.depends[from], c.BOMRef)
}

// dependencies returns an entry for each component, in their order.
func (b *bom) dependencies() []cdx.Dependency {
	ds := []cdx.Dependency{{Ref: b.root.BOMRef, Dependencies: pointer(b.depends[b.root.BOMRef])}}
	for _, c := range b.components {
		ds = append(ds, cdx.Dependency{Ref: c.BOMRef, Dependencies: pointer(b.depends[c.BOMRef])})
	}
	return ds
}

// vulnerabilities returns an entry for each finding. It affects the binaries in
// its file, else the package that it names, else the target.
func (b *bom) vulnerabilities() []cdx.Vulnerability {
	var vs []cdx.Vulnerability
	for _, f := range b.r.Findings {
		refs := b.byPath[f.Location.Path]
		if len(refs) == 0 || f.Advisory != "" && b.byPURL[f.PURL] != "" {
			refs = []string{cmp.Or(b.byPURL[f.PURL], b.root.BOMRef)}
		}
		v := cdx.Vulnerability{
			BOMRef:         b.ref("finding:" + cmp.Or(string(f.Fingerprint), f.Rule)),
			ID:             cmp.Or(f.Advisory, f.Rule),
			Source:         &cdx.Source{Name: "Loupe", URL: home},
			Ratings:        &[]cdx.VulnerabilityRating{{Severity: cdx.Severity(f.Severity.String()), Method: cdx.ScoringMethodOther}},
			CWEs:           pointer(slices.DeleteFunc(slices.Clone(f.CWE), func(n int) bool { return n < 1 })),
			Description:    cmp.Or(f.Title, f.Description),
			Detail:         f.Description,
			Recommendation: f.Remediation,
			Properties: properties(
				"loupe:fingerprint", string(f.Fingerprint), "loupe:rule", f.Rule, "loupe:confidence", f.Confidence.String(),
				"loupe:location", spot(f.Location), "loupe:symbol", f.Location.Symbol, "loupe:address", f.Location.Address,
				"loupe:attack", strings.Join(f.Attack, " "), "loupe:aliases", strings.Join(f.Aliases, " "),
				"loupe:fixedVersions", strings.Join(f.FixedVersions, " ")),
		}
		for _, e := range f.Evidence {
			*v.Properties = append(*v.Properties, cdx.Property{Name: "loupe:evidence:" + e.Kind, Value: e.Value})
		}
		var advisories []cdx.Advisory
		for _, ref := range f.References {
			if u := webURL(ref); u != "" {
				advisories = append(advisories, cdx.Advisory{URL: u})
			}
		}
		v.Advisories = pointer(advisories)
		var affects []cdx.Affects
		for _, ref := range refs {
			affects = append(affects, cdx.Affects{Ref: ref})
		}
		v.Affects = pointer(affects)
		vs = append(vs, v)
	}
	return vs
}

// targetName is what people call a target that is no package.
func targetName(r *Report) string {
	name := filepath.ToSlash(r.Target.Name)
	if i := strings.LastIndexByte(strings.TrimRight(name, "/"), '/'); r.Target.Kind == target.Path && i >= 0 {
		name = strings.TrimRight(name, "/")[i+1:]
	}
	if name == "" || name == "." || name == ".." {
		return "target"
	}
	return name
}

// purlName returns the name and version in a package URL.
func purlName(purl string) (name, version string) {
	t, err := target.Parse(purl)
	if err != nil || t.Kind != target.Package {
		return purl, ""
	}
	return t.Name, t.Version
}

// properties returns those of name, value, name, value, … that have a value.
func properties(pairs ...string) *[]cdx.Property {
	ps := []cdx.Property{}
	for p := range slices.Chunk(pairs, 2) {
		if p[1] != "" {
			ps = append(ps, cdx.Property{Name: p[0], Value: p[1]})
		}
	}
	return &ps
}

// occurrences is the evidence that something was found in these places.
func occurrences(paths ...string) *cdx.Evidence {
	var out []cdx.EvidenceOccurrence
	for _, p := range paths {
		if p != "" {
			out = append(out, cdx.EvidenceOccurrence{Location: p})
		}
	}
	if out == nil {
		return nil
	}
	out = distinct(out, func(o cdx.EvidenceOccurrence) string { return o.Location })
	return &cdx.Evidence{Occurrences: &out}
}

func cdxLicenses(text string) *cdx.Licenses {
	switch l := newLicense(text); {
	case l.id != "":
		return &cdx.Licenses{{License: &cdx.License{ID: l.id}}}
	case l.expression != "":
		return &cdx.Licenses{{Expression: l.expression}}
	case l.words != "":
		return &cdx.Licenses{{License: &cdx.License{Name: l.words}}}
	}
	return nil
}

func cdxHashes(digest string) *[]cdx.Hash {
	switch alg, value := checksum(digest); alg {
	case "SHA256":
		return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: value}}
	case "SHA512":
		return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA512, Value: value}}
	}
	return nil
}

// checksum reads a digest of an archive, "sha512-<base64>" or "sha256-<hex>",
// and returns its algorithm and value in hex, or nothing.
func checksum(digest string) (alg, value string) {
	kind, text, _ := strings.Cut(digest, "-")
	size := map[string]int{"sha256": 32, "sha512": 64}[kind]
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != size {
		raw, err = base64.StdEncoding.DecodeString(text)
	}
	if size == 0 || err != nil || len(raw) != size {
		return "", ""
	}
	return strings.ToUpper(kind), hex.EncodeToString(raw)
}

// pointer returns a pointer to s, nil for an empty one.
func pointer[T any](s []T) *[]T {
	if len(s) == 0 {
		return nil
	}
	return &s
}

// distinct returns s without those whose key came before.
func distinct[T any](s []T, key func(T) string) []T {
	seen := make(map[string]bool)
	return slices.DeleteFunc(s, func(x T) bool {
		old := seen[key(x)]
		seen[key(x)] = true
		return old
	})
}
