package account

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// A Service answers who somebody is and changes what they are. It is safe for
// concurrent use.
type Service struct {
	*Limiter
	store *store.Store
	now   func() time.Time

	mu    sync.Mutex
	known map[[32]byte]recent   // keys by their SHA-256
	used  map[string]store.Time // keys by id, since the last Flush
}

// New returns a service.
func New(st *store.Store, now func() time.Time) *Service {
	return &Service{Limiter: NewLimiter(st, now), store: st, now: now, known: map[[32]byte]recent{}, used: map[string]store.Time{}}
}

// CommandLine is who changes something from the command line of the server's
// machine, where there are no keys.
const CommandLine = "command line"

// Log adds to the audit log, in the transaction of the change. The detail is
// written as JSON, and must hold no secret.
func Log(ctx context.Context, tx *store.Tx, org, actor, requestID, action, object string, detail any, at time.Time) error {
	text, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	return tx.Org(org).Audit(ctx, store.Audit{
		Actor: actor, Action: action, Object: object, Detail: string(text), RequestID: requestID, CreatedAt: store.At(at),
	})
}
