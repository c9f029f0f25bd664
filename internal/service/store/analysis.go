package store

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// An Analysis is what was found out about one version of a package. It is of
// nobody's: whoever asks for a package that was looked at gets it.
type Analysis struct {
	bun.BaseModel `bun:"table:analysis"`

	ID          string `bun:",pk"`
	Ecosystem   target.Ecosystem
	Name        string
	Version     string
	SortVersion []byte // target.SortVersion of Version; set when it is saved
	Rules       string // digest of the rules, with the version of the program
	Newest      bool   // of this version; set when it is saved
	RiskScore   int
	RiskLevel   string
	Summary     string
	BinaryCount int
	TotalSize   int64 // of the binaries, in bytes
	SourceMatch string
	Model       string // what wrote the texts
	CreatedAt   Time
}

// A Document is one form of the whole of an analysis, packed.
type Document struct {
	Kind string // "report", "marks"
	Data []byte
}

// SaveAnalysis adds an analysis as the newest of its version, with its
// documents, and gives it an id if it has none. It returns the one that was the
// newest before, which is nil for the first.
//
// Other transactions that save wait from here until this one ends: what takes
// long is done before.
func (tx *Tx) SaveAnalysis(ctx context.Context, a *Analysis, docs ...Document) (before *Analysis, err error) {
	a.ID, a.SortVersion, a.Newest = cmp.Or(a.ID, NewID("pkg_")), target.SortVersion(a.Ecosystem, a.Version), false
	if _, err := tx.db.NewInsert().Model(a).Exec(ctx); err != nil {
		return nil, failed(err)
	}
	for _, d := range docs {
		if err := tx.saveDocument(ctx, a.ID, d); err != nil {
			return nil, err
		}
	}
	seq, err := tx.next(ctx, "package")
	if err != nil {
		return nil, err
	}
	old, err := tx.AnalysisOf(ctx, a.Ecosystem, a.Name, a.Version)
	switch {
	case err == nil:
		before = &old
		_, err = tx.db.NewUpdate().Model((*Analysis)(nil)).Set("newest = ?", false).Where("id = ?", old.ID).Exec(ctx)
	case fault.Is(err, fault.NotFound):
		err = nil
	}
	if err != nil {
		return nil, failed(err)
	}
	a.Newest = true
	if _, err = tx.db.NewUpdate().Model(a).Column("newest").WherePK().Exec(ctx); err != nil {
		return nil, failed(err)
	}
	return before, tx.raisePackage(ctx, a, seq)
}

// saveDocument keeps a document. It is large, and so goes by itself rather than
// written into the text of a statement.
func (tx *Tx) saveDocument(ctx context.Context, analysisID string, d Document) error {
	data := d.Data
	if data == nil {
		data = []byte{} // which is not NULL
	}
	text := "INSERT INTO analysis_document (analysis_id, kind, data) VALUES ($1, $2, $3)"
	if tx.engine == SQLite {
		text = "INSERT INTO analysis_document (analysis_id, kind, data) VALUES (?, ?, ?)"
	}
	_, err := tx.tx.Tx.ExecContext(ctx, text, analysisID, d.Kind, data)
	return failed(err)
}

// Analysis returns the analysis of an id, also if it is not the newest.
func (r reads) Analysis(ctx context.Context, id string) (Analysis, error) {
	var a Analysis
	err := one(ctx, r.db.NewSelect().Model(&a).Where("id = ?", id), "no analysis %s", id)
	return a, err
}

// AnalysisOf returns the newest analysis of a version.
func (r reads) AnalysisOf(ctx context.Context, eco target.Ecosystem, name, version string) (Analysis, error) {
	var a Analysis
	err := one(ctx, r.db.NewSelect().Model(&a).Where("ecosystem = ?", eco).Where("name = ?", name).Where("version = ?", version).Where("newest"),
		"%s %s %s was not analyzed", eco, name, version)
	return a, err
}

// AnalysisBelow returns the newest analysis of the highest version that was
// looked at and is lower than another one.
func (r reads) AnalysisBelow(ctx context.Context, eco target.Ecosystem, name, version string) (Analysis, error) {
	var a Analysis
	err := one(ctx, r.db.NewSelect().Model(&a).Where("ecosystem = ?", eco).Where("name = ?", name).Where("newest").
		Where("sort_version < ?", target.SortVersion(eco, version)).Order("sort_version DESC", "id DESC").Limit(1),
		"no version of %s %s below %s was analyzed", eco, name, version)
	return a, err
}

// Versions lists the newest analysis of each version of a package, the highest
// version first.
func (r reads) Versions(ctx context.Context, eco target.Ecosystem, name string, page Page) (rows []Analysis, total int, err error) {
	total, err = list(ctx, r.db.NewSelect().Model(&rows).Where("ecosystem = ?", eco).Where("name = ?", name).Where("newest").
		Order("sort_version DESC", "id DESC"), page, &rows)
	return rows, total, err
}

// Document returns one form of an analysis.
func (r reads) Document(ctx context.Context, analysisID, kind string) (data []byte, err error) {
	err = r.db.NewRaw("SELECT data FROM analysis_document WHERE analysis_id = ? AND kind = ?", analysisID, kind).Scan(ctx, &data)
	if none(err) {
		return nil, fault.New(fault.NotFound, "analysis %s has no %s", analysisID, kind)
	}
	return data, failed(err)
}
