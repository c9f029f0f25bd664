package store

import (
	"cmp"
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// A ScanStatus says how far a scan is.
type ScanStatus string

// The statuses. The first two are open, the others are ends.
const (
	ScanQueued    ScanStatus = "queued"
	ScanRunning   ScanStatus = "running"
	ScanComplete  ScanStatus = "complete"
	ScanFailed    ScanStatus = "failed"
	ScanCancelled ScanStatus = "cancelled"
)

// openScan is what the index of open scans is about, word for word: the planner
// takes it for nothing else.
const openScan = "status IN ('queued', 'running')"

// Open says whether the scan has not ended.
func (s ScanStatus) Open() bool { return s == ScanQueued || s == ScanRunning }

// A Scan is an organisation's request to look at something.
type Scan struct {
	bun.BaseModel `bun:"table:scan"`

	ID          string `bun:",pk"`
	OrgID       string
	Kind        string // "package"
	Ecosystem   target.Ecosystem
	Name        string
	Version     string
	Request     string // JSON of what was asked for
	Fresh       bool   // look again, whatever is known
	RequestedBy string
	Status      ScanStatus
	Stage       string
	JobID       int64  `bun:",nullzero"`
	AnalysisID  string `bun:",nullzero"`
	CacheHit    bool
	Error       string
	RequestedAt Time
	StartedAt   Time
	CompletedAt Time
	CancelledAt Time // somebody asked for its end
}

// CreateScan adds a scan, and gives it an id if it has none. If one for the
// same is open, s becomes that one, and created is false.
func (o OrgTx) CreateScan(ctx context.Context, s *Scan) (created bool, err error) {
	s.ID, s.OrgID = cmp.Or(s.ID, NewID("scan_")), o.id
	for range 3 { // the one in the way may end at any moment
		n, err := count(o.db.NewInsert().Model(s).On("CONFLICT (org_id, kind, ecosystem, name, version) WHERE " + openScan + " DO NOTHING").Exec(ctx))
		if err != nil || n > 0 {
			return n > 0, err
		}
		var other Scan
		err = o.db.NewSelect().Model(&other).Where("org_id = ?", o.id).Where("kind = ?", s.Kind).
			Where("ecosystem = ?", s.Ecosystem).Where("name = ?", s.Name).Where("version = ?", s.Version).Where(openScan).Scan(ctx)
		if !none(err) {
			if err == nil {
				*s = other
			}
			return false, failed(err)
		}
	}
	return false, fmt.Errorf("store: scans of %s %s come and go", s.Name, s.Version)
}

// SetScanJob notes the job that runs a scan.
func (tx *Tx) SetScanJob(ctx context.Context, id string, jobID int64) error {
	n, err := count(tx.db.NewUpdate().Model((*Scan)(nil)).Set("job_id = ?", jobID).Where("id = ?", id).Where(openScan).Exec(ctx))
	return some(n, err, fault.Conflict, "scan %s is not open", id)
}

// StartScan marks a scan as running. One that was running before its worker
// died keeps the time of its first start. It is a conflict if it has ended.
func (tx *Tx) StartScan(ctx context.Context, id, stage string, at Time) error {
	n, err := count(tx.db.NewUpdate().Model((*Scan)(nil)).Set("status = ?", ScanRunning).Set("stage = ?", stage).
		Set("started_at = coalesce(started_at, ?)", at).Where("id = ?", id).Where(openScan).Exec(ctx))
	return some(n, err, fault.Conflict, "scan %s is not open", id)
}

// SetScanStage notes how far a running scan is. It is a conflict if it has
// ended.
func (tx *Tx) SetScanStage(ctx context.Context, id, stage string) error {
	n, err := count(tx.db.NewUpdate().Model((*Scan)(nil)).Set("stage = ?", stage).Where("id = ?", id).Where("status = ?", ScanRunning).Exec(ctx))
	return some(n, err, fault.Conflict, "scan %s is not running", id)
}

// A ScanEnd is how a scan ended.
type ScanEnd struct {
	Status     ScanStatus
	Stage      string // empty to leave it
	AnalysisID string // of a complete one
	CacheHit   bool
	Error      string // of a failed one
	At         Time
}

// FinishScan ends an open scan. It is a conflict if it has ended, so that the
// transaction of a second result leaves nothing.
func (tx *Tx) FinishScan(ctx context.Context, id string, end ScanEnd) error {
	if end.Status.Open() {
		return fmt.Errorf("store: %s is no end of a scan", end.Status)
	}
	q := tx.db.NewUpdate().Model((*Scan)(nil)).Set("status = ?", end.Status).Set("analysis_id = ?", bun.NullZero(end.AnalysisID)).
		Set("cache_hit = ?", end.CacheHit).Set("error = ?", end.Error).Set("completed_at = ?", end.At)
	if end.Stage != "" {
		q = q.Set("stage = ?", end.Stage)
	}
	n, err := count(q.Where("id = ?", id).Where(openScan).Exec(ctx))
	return some(n, err, fault.Conflict, "scan %s is not open", id)
}

// CancelScan asks for the end of a scan, and returns it. One that did not start
// ends at once; one that runs is ended by its worker; one that has ended stays
// as it is.
func (o OrgTx) CancelScan(ctx context.Context, id string, at Time) (Scan, error) {
	_, err := o.db.NewUpdate().Model((*Scan)(nil)).
		Set("cancelled_at = coalesce(cancelled_at, ?)", at).
		Set("completed_at = CASE WHEN status = ? THEN ? END", ScanQueued, at).
		Set("status = CASE WHEN status = ? THEN ? ELSE status END", ScanQueued, ScanCancelled).
		Where("org_id = ?", o.id).Where("id = ?", id).Where(openScan).Exec(ctx)
	if err != nil {
		return Scan{}, failed(err)
	}
	return o.Scan(ctx, id)
}

// DeleteScan forgets a scan that has ended; what it found stays.
func (o OrgTx) DeleteScan(ctx context.Context, id string) error {
	n, err := count(o.db.NewDelete().Model((*Scan)(nil)).Where("org_id = ?", o.id).Where("id = ?", id).Where("NOT (" + openScan + ")").Exec(ctx))
	return some(n, err, fault.NotFound, "no ended scan %s", id)
}

// Scan returns a scan of the organisation.
func (o Org) Scan(ctx context.Context, id string) (Scan, error) {
	var s Scan
	err := one(ctx, o.db.NewSelect().Model(&s).Where("org_id = ?", o.id).Where("id = ?", id), "no scan %s", id)
	return s, err
}

// Scans lists the scans of the organisation, the newest first.
func (o Org) Scans(ctx context.Context, page Page) (rows []Scan, total int, err error) {
	total, err = list(ctx, o.db.NewSelect().Model(&rows).Where("org_id = ?", o.id).Order("requested_at DESC", "id DESC"), page, &rows)
	return rows, total, err
}

// ScanByID returns a scan of whatever organisation, for the worker that runs it.
func (r reads) ScanByID(ctx context.Context, id string) (Scan, error) {
	var s Scan
	err := one(ctx, r.db.NewSelect().Model(&s).Where("id = ?", id), "no scan %s", id)
	return s, err
}

// OpenScans returns up to limit open scans of all organisations by their ids,
// after one, so that those whose job was lost can be given another. JobID is 0
// for those that never had one.
func (r reads) OpenScans(ctx context.Context, after string, limit int) ([]Scan, error) {
	var rows []Scan
	err := r.db.NewSelect().Model(&rows).Where(openScan).Where("id > ?", after).Order("id").Limit(int64(limit)).Scan(ctx)
	return rows, failed(err)
}
