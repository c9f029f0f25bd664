package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// SPDX is a bill of materials in the form of SPDX 2.3, as JSON. The same report
// gives the same bytes.
//
// A binary is a package of the purpose FILE there: an SPDX file must have a
// SHA-1 (section 8.4), and nothing of ours computes one.
var SPDX = Format{
	Name:      "spdx",
	Doc:       "bill of materials, SPDX 2.3",
	MediaType: "application/spdx+json",
	Ext:       ".spdx.json",
	Write: func(w io.Writer, r *Report, _ Options) error {
		text, err := indented(newSPDX(settled(r)))
		if err != nil {
			return err
		}
		_, err = w.Write(bytes.Replace(text, []byte(noUUID), []byte(uuid("spdx", text)), 1))
		return err
	},
}

// The objects of SPDX 2.3, as far as we use them.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		Namespace     string             `json:"documentNamespace"` // stands before all that comes from the target
		DataLicense   string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Comment       string             `json:"comment,omitempty"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Licenses      []spdxLicense      `json:"hasExtractedLicensingInfos,omitempty"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID               string         `json:"SPDXID"`
		Name             string         `json:"name"`
		Version          string         `json:"versionInfo,omitempty"`
		FileName         string         `json:"packageFileName,omitempty"`
		DownloadLocation string         `json:"downloadLocation"`
		FilesAnalyzed    bool           `json:"filesAnalyzed"`
		Homepage         string         `json:"homepage,omitempty"`
		SourceInfo       string         `json:"sourceInfo,omitempty"`
		LicenseConcluded string         `json:"licenseConcluded"`
		LicenseDeclared  string         `json:"licenseDeclared"`
		CopyrightText    string         `json:"copyrightText"`
		Description      string         `json:"description,omitempty"`
		Comment          string         `json:"comment,omitempty"`
		Purpose          string         `json:"primaryPackagePurpose,omitempty"`
		ReleaseDate      string         `json:"releaseDate,omitempty"`
		Checksums        []spdxChecksum `json:"checksums,omitempty"`
		ExternalRefs     []spdxRef      `json:"externalRefs,omitempty"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
		Comment  string `json:"comment,omitempty"`
	}
	spdxLicense struct {
		ID   string `json:"licenseId"`
		Name string `json:"name"`
		Text string `json:"extractedText"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const (
	spdxDocumentID = "SPDXRef-DOCUMENT"
	spdxRootID     = "SPDXRef-target"
	noAssertion    = "NOASSERTION"
)

// An spdxWriter is a bill of materials in the making.
type spdxWriter struct {
	r      *Report
	doc    spdxDocument
	byPURL map[string]int // from a package URL to an index of the packages
	taken  names          // SPDX ids
}

func newSPDX(r *Report) spdxDocument {
	s := &spdxWriter{r: r, byPURL: map[string]int{}, taken: names{}}
	s.doc = spdxDocument{
		Version: "SPDX-2.3", Namespace: home + "/spdx/" + noUUID, DataLicense: "CC0-1.0", ID: spdxDocumentID,
		Creation: spdxCreation{Created: seconds(r.CompletedAt), Creators: []string{"Tool: " + spdxTool(r.Tool)}},
	}
	var notes []string
	for _, n := range r.Notes {
		notes = append(notes, strings.TrimSpace(n.Path+" "+n.Text))
	}
	s.doc.Comment = strings.Join(notes, "\n")
	s.addRoot()
	s.addParts()
	s.addComponents()
	s.addBinaries()
	s.addAdvisories()
	return s.doc
}

// id returns an SPDX id for key that nothing else has: letters, digits, dots
// and dashes only (section 7.2).
func (s *spdxWriter) id(kind, key string) string {
	return s.taken.unique("SPDXRef-"+kind+"-"+digest(key), "-")
}

// add lists p, which the package of the id in contains.
func (s *spdxWriter) add(p spdxPackage, purl, in string) {
	p.DownloadLocation, p.LicenseConcluded, p.CopyrightText = noAssertion, noAssertion, noAssertion
	p.LicenseDeclared = cmp.Or(p.LicenseDeclared, noAssertion)
	p.Name = cmp.Or(p.Name, "unknown")
	if purlForm.MatchString(purl) {
		p.ExternalRefs = append(p.ExternalRefs, spdxRef{Category: "PACKAGE-MANAGER", Type: "purl", Locator: purl})
	}
	if _, dup := s.byPURL[purl]; purl != "" && !dup {
		s.byPURL[purl] = len(s.doc.Packages)
	}
	s.doc.Packages = append(s.doc.Packages, p)
	s.relate(in, p.ID)
}

func (s *spdxWriter) relate(from, to string) {
	kind := "CONTAINS"
	if from == spdxDocumentID {
		kind = "DESCRIBES"
	}
	s.doc.Relationships = append(s.doc.Relationships, spdxRelationship{From: from, Type: kind, To: to})
}

var purlForm = pattern.New(`^pkg:[A-Za-z][A-Za-z0-9.+-]*/[!-~]+$`)

// addRoot describes the target.
func (s *spdxWriter) addRoot() {
	r := s.r
	p := spdxPackage{ID: spdxRootID, Purpose: "APPLICATION", Name: targetName(r), Comment: riskComment("", "", r.Risk.Score, string(r.Risk.Level()))}
	s.taken.unique(p.ID, "-")
	purl := ""
	if rel := release(r); rel != nil {
		purl = rel.PURL()
		p.Purpose, p.Name, p.Version = "LIBRARY", rel.Name, rel.Version
		p.Description, p.Homepage, p.LicenseDeclared = rel.Description, webURL(rel.Homepage), s.license(rel.License)
		if u := webURL(rel.Repository); u != "" {
			p.SourceInfo = "repository: " + u
		}
		if !rel.Published.IsZero() {
			p.ReleaseDate = seconds(rel.Published)
		}
		var own int // archives of the release itself
		for _, part := range rel.Parts {
			if part.PURL == purl || part.PURL == "" {
				own++
				p.FileName, p.Checksums = part.Filename, spdxChecksums(part.Digest)
			}
		}
		if own > 1 { // each becomes a package below
			p.FileName, p.Checksums = "", nil
		}
	}
	s.doc.Name = strings.TrimSuffix(p.Name+"@"+p.Version, "@")
	s.add(p, purl, spdxDocumentID)
}

// addParts lists the archives besides a single one of the release itself, which
// is the root.
func (s *spdxWriter) addParts() {
	rel := release(s.r)
	if rel == nil {
		return
	}
	var own []spdxPackage
	for _, part := range rel.Parts {
		name, version := purlName(part.PURL)
		p := spdxPackage{
			Purpose: "LIBRARY", Name: name, Version: version, FileName: part.Filename,
			Checksums: spdxChecksums(part.Digest), Comment: part.Platform,
		}
		if part.PURL == rel.PURL() || part.PURL == "" {
			p.ID, p.Purpose, p.Name = s.id("archive", part.Filename), "ARCHIVE", cmp.Or(part.Filename, rel.Name)
			own = append(own, p)
		} else if _, dup := s.byPURL[part.PURL]; !dup {
			p.ID = s.id("package", part.PURL)
			s.add(p, part.PURL, spdxRootID)
		}
	}
	if len(own) > 1 {
		for _, p := range own {
			s.add(p, rel.PURL(), spdxRootID)
		}
	}
}

// addComponents lists the packages that were found in the target.
func (s *spdxWriter) addComponents() {
	for _, c := range s.r.Components {
		if _, dup := s.byPURL[c.PURL]; c.PURL != "" && dup {
			continue
		}
		p := spdxPackage{
			ID: s.id("package", cmp.Or(c.PURL, c.Name+"@"+c.Version)), Purpose: "LIBRARY",
			Name: cmp.Or(c.Name, c.PURL), Version: c.Version,
		}
		if len(c.Locations) > 0 {
			p.SourceInfo = "found in " + strings.Join(c.Locations, ", ")
		}
		s.add(p, c.PURL, spdxRootID)
	}
}

// addBinaries lists the native binaries, each in the package that holds it.
func (s *spdxWriter) addBinaries() {
	for i, id := range binaryIDs(s.r.Binaries) {
		b := s.r.Binaries[i]
		p := spdxPackage{
			ID: s.id("binary", id), Purpose: "FILE", Name: cmp.Or(b.Path, "binary"), FileName: b.Path,
			Comment: riskComment(b.Format, b.Arch, b.Risk.Score, string(b.Risk.Level())),
		}
		if isHex(b.SHA256, 32) {
			p.Checksums = []spdxChecksum{{Algorithm: "SHA256", Value: strings.ToLower(b.SHA256)}}
		}
		in := spdxRootID
		if i, known := s.byPURL[b.Part]; known && b.Part != "" {
			in = s.doc.Packages[i].ID
		}
		s.add(p, "", in)
	}
}

// addAdvisories refers from each package to the advisories about it.
func (s *spdxWriter) addAdvisories() {
	for _, f := range s.r.Findings {
		i, known := s.byPURL[f.PURL]
		if f.Advisory == "" || f.PURL == "" || !known {
			continue
		}
		for _, ref := range f.References {
			if u := webURL(ref); u != "" {
				p := &s.doc.Packages[i]
				p.ExternalRefs = append(p.ExternalRefs, spdxRef{Category: "SECURITY", Type: "advisory", Locator: u, Comment: f.Advisory})
				break
			}
		}
	}
}

// license returns the text of a license field as an expression. What is none
// becomes a license of this document, with the text as it stands.
func (s *spdxWriter) license(text string) string {
	l := newLicense(text)
	if l.words == "" {
		return l.expression
	}
	id := "LicenseRef-" + digest(l.words)
	s.doc.Licenses = append(s.doc.Licenses, spdxLicense{ID: id, Name: l.words, Text: l.words})
	return id
}

func riskComment(format, arch string, score int, level string) string {
	return strings.TrimSpace(fmt.Sprintf("%s risk %d (%s)", strings.TrimSpace(format+" "+arch), score, level))
}

func spdxChecksums(digest string) []spdxChecksum {
	alg, value := checksum(digest)
	if alg == "" {
		return nil
	}
	return []spdxChecksum{{Algorithm: alg, Value: value}}
}

// spdxTool returns a tool in the form of a creator: name-version.
func spdxTool(t Tool) string {
	return strings.TrimSuffix(t.Name+"-"+t.Version, "-")
}

// seconds returns t in the only form of dates that SPDX has.
func seconds(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
