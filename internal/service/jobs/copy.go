package jobs

import (
	"context"
	"time"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// Tables are what a copy of the database takes of the queue: the jobs. Who leads
// and who is notified is about processes, and the rest the queue makes itself.
func Tables() []store.Table {
	return []store.Table{{Name: "river_job", Serial: "id", Columns: []store.Column{
		{Name: "id", Type: store.TypeInt},
		{Name: "state", Type: store.TypeWord},
		{Name: "attempt", Type: store.TypeInt},
		{Name: "max_attempts", Type: store.TypeInt},
		{Name: "attempted_at", Type: store.TypeMoment},
		{Name: "created_at", Type: store.TypeMoment},
		{Name: "finalized_at", Type: store.TypeMoment},
		{Name: "scheduled_at", Type: store.TypeMoment},
		{Name: "priority", Type: store.TypeInt},
		{Name: "args", Type: store.TypeJSON},
		{Name: "attempted_by", Type: store.TypeTexts},
		{Name: "errors", Type: store.TypeJSONs},
		{Name: "kind", Type: store.TypeText},
		{Name: "metadata", Type: store.TypeJSON},
		{Name: "queue", Type: store.TypeText},
		{Name: "tags", Type: store.TypeTexts},
		{Name: "unique_key", Type: store.TypeBytes},
		{Name: "unique_states", Type: store.TypeMask},
	}}}
}

// Alive returns where processes do jobs: host and process, for people. It
// listens for signs of life for some beats, unless there is no trace of anybody.
func Alive(ctx context.Context, st *store.Store) (places []string, err error) {
	type row struct {
		ID, Place string
		Beats     int64
	}
	look := func() (rows []row, err error) {
		return rows, st.Raw().NewRaw("SELECT id, place, beats FROM job_worker ORDER BY place").Scan(ctx, &rows)
	}
	before, err := look()
	if err != nil || len(before) == 0 {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(3 * beat):
	}
	now, err := look()
	if err != nil {
		return nil, err
	}
	seen := map[string]int64{}
	for _, r := range before {
		seen[r.ID] = r.Beats
	}
	for _, r := range now {
		if beats, ok := seen[r.ID]; !ok || beats != r.Beats {
			places = append(places, r.Place)
		}
	}
	return places, nil
}
