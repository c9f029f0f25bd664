package store

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// A Key is what a program shows to be recognised. Its text is kept nowhere.
type Key struct {
	bun.BaseModel `bun:"table:api_key"`

	ID           string `bun:",pk"`
	OrgID        string
	Brand        string // binshield, securityscanner, cxray, bedefended, breachlens
	Label        string
	Prefix       string // the first 12 letters
	Last4        string
	SHA256       []byte `bun:"sha256"`
	Scopes       Words
	Role         string
	RepoPattern  string
	Tier         string
	MonthlyLimit int64  // of code reviews, or Unlimited
	CreatedBy    string // a person, a key or "command line"
	CreatedAt    Time
	ExpiresAt    Time
	RevokedAt    Time
	LastUsedAt   Time
}

// KeyAndPlan is a key with the plan of its organisation.
type KeyAndPlan struct {
	Key
	Plan Plan `bun:"embed:plan_"`
}

// CreateKey adds a key, and gives it an id if it has none.
func (o OrgTx) CreateKey(ctx context.Context, k *Key) error {
	k.ID, k.OrgID = cmp.Or(k.ID, NewID("key_")), o.id
	n, err := count(o.db.NewInsert().Model(k).On("CONFLICT DO NOTHING").Exec(ctx))
	return some(n, err, fault.Conflict, "there is such a key already")
}

// Keys lists the keys that were not revoked, the oldest first.
func (o Org) Keys(ctx context.Context, page Page) (rows []Key, total int, err error) {
	total, err = list(ctx, o.db.NewSelect().Model(&rows).Where("org_id = ?", o.id).Where("revoked_at IS NULL").Order("created_at", "id"), page, &rows)
	return rows, total, err
}

// Key returns a key, also if it was revoked.
func (o Org) Key(ctx context.Context, id string) (Key, error) {
	var k Key
	err := one(ctx, o.db.NewSelect().Model(&k).Where("org_id = ?", o.id).Where("id = ?", id), "no key %s", id)
	return k, err
}

// RevokeKey makes a key useless. One that was revoked is not found.
func (o OrgTx) RevokeKey(ctx context.Context, id string, at Time) error {
	n, err := count(o.db.NewUpdate().Model((*Key)(nil)).Set("revoked_at = ?", at).
		Where("org_id = ?", o.id).Where("id = ?", id).Where("revoked_at IS NULL").Exec(ctx))
	return some(n, err, fault.NotFound, "no key %s", id)
}

// KeyByHash returns the key whose text has a SHA-256, whatever became of it:
// the caller looks at RevokedAt and ExpiresAt.
func (r reads) KeyByHash(ctx context.Context, sha256 []byte) (KeyAndPlan, error) {
	var k KeyAndPlan
	err := r.db.NewRaw(`SELECT k.*, p.name AS plan_name, p.minute AS plan_minute, p.hour AS plan_hour, p.month AS plan_month,
  p.targets AS plan_targets, p.scans AS plan_scans, p.scans_seconds AS plan_scans_seconds, p.analyses AS plan_analyses,
  p.monitors AS plan_monitors, p.review_tier AS plan_review_tier, p.review_month AS plan_review_month, p.withheld AS plan_withheld
FROM api_key k JOIN org ON org.id = k.org_id JOIN plan p ON p.name = org.plan WHERE k.sha256 = ?`, sha256).Scan(ctx, &k)
	if none(err) {
		return k, fault.New(fault.NotFound, "no such key")
	}
	return k, failed(err)
}

// touched is how many keys one statement changes.
const touched = 500

// TouchKeys notes when keys were last used, by their ids. What is older than
// what is known changes nothing.
func (tx *Tx) TouchKeys(ctx context.Context, used map[string]Time) error {
	type at struct {
		ID string
		At int64 // as a Time is kept
	}
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(used)), touched) {
		rows := make([]at, len(ids))
		for i, id := range ids {
			rows[i] = at{id, used[id].UnixMilli()}
		}
		_, err := tx.db.NewRaw(`WITH used (id, at) AS (?) UPDATE api_key SET last_used_at = used.at FROM used
WHERE api_key.id = used.id AND (api_key.last_used_at IS NULL OR api_key.last_used_at < used.at)`, tx.db.NewValues(&rows)).Exec(ctx)
		if err != nil {
			return failed(err)
		}
	}
	return nil
}
