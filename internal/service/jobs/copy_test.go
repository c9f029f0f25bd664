package jobs_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// Who works gives signs of life, and who was killed leaves a trace but gives none.
func TestAlive(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		q, err := jobs.New(t.Context(), st, jobs.Options{
			Classes:  map[jobs.Class]int{jobs.Scan: 1},
			Handlers: []jobs.Handler{{Kind: "none", Run: func(context.Context, *jobs.Job) error { return nil }}},
		})
		if err != nil {
			t.Fatal(err)
		}
		alive := func() []string {
			places, err := jobs.Alive(t.Context(), st)
			if err != nil {
				t.Fatal(err)
			}
			return places
		}
		if got := alive(); len(got) != 0 {
			t.Errorf("before anybody starts: %q", got)
		}
		err = st.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Raw().NewRaw("INSERT INTO job_worker (id, place, beats) VALUES ('worker_killed', 'elsewhere 1', 7)").Exec(ctx)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		host, _ := os.Hostname()
		if got := alive(); len(got) != 1 || !strings.HasPrefix(got[0], host) {
			t.Errorf("while one works: %q", got)
		}
		if err := q.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
