package account

import (
	"context"
	"crypto/sha256"
	"maps"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/store"
)

const (
	// remembered is how long a key is taken for what it was when it was last
	// looked up. Revocation and expiry work within a second.
	remembered = 500 * time.Millisecond

	// maxKnown bounds how many keys are remembered.
	maxKnown = 2000
)

// recent is a key that was looked up.
type recent struct {
	key *store.KeyAndPlan // nil if there is none
	at  time.Time
}

// Authenticate returns who holds a key. It says no more than that a key is no
// good: not whether it ever was.
func (s *Service) Authenticate(ctx context.Context, text string) (*Actor, error) {
	bad := fault.New(fault.Unauthenticated, "Invalid API key")
	if !wellFormed(text) {
		return nil, bad
	}
	r, err := s.lookUp(ctx, sha256.Sum256([]byte(text)))
	if err != nil {
		return nil, err
	}
	now := s.now()
	k := r.key
	if k == nil || !k.RevokedAt.IsZero() || !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt.Time) {
		return nil, bad
	}
	s.touch(k.ID, now)
	a := &Actor{
		OrgID: k.OrgID, KeyID: k.ID, Role: Role(k.Role), Plan: k.Plan,
		RepoPattern: k.RepoPattern, Tier: k.Tier, MonthlyLimit: k.MonthlyLimit,
		ExpiresAt: k.ExpiresAt.Time,
	}
	for _, scope := range k.Scopes {
		a.Scopes = append(a.Scopes, Scope(scope))
	}
	return a, nil
}

func (s *Service) lookUp(ctx context.Context, sum [32]byte) (recent, error) {
	now := s.now()
	s.mu.Lock()
	r, ok := s.known[sum]
	s.mu.Unlock()
	if ok && now.Sub(r.at) < remembered {
		return r, nil
	}
	key, err := s.store.KeyByHash(ctx, sum[:])
	if err != nil && !fault.Is(err, fault.NotFound) {
		return recent{}, err
	}
	r = recent{at: now}
	if err == nil {
		r.key = &key
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxKnown {
		maps.DeleteFunc(s.known, func(_ [32]byte, r recent) bool { return now.Sub(r.at) >= remembered })
		if len(s.known) >= maxKnown { // so many within half a second are an attack
			clear(s.known)
		}
	}
	s.known[sum] = r
	return r, nil
}

// Forget has keys looked up again at once.
func (s *Service) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
}

func (s *Service) touch(id string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[id] = store.At(now)
}

// Flush writes down when keys were last used. A server does so every few
// seconds, rather than at each request.
func (s *Service) Flush(ctx context.Context) error {
	s.mu.Lock()
	used := s.used
	s.used = map[string]store.Time{}
	s.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	err := s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error { return tx.TouchKeys(ctx, used) })
	if err != nil { // the next time
		s.mu.Lock()
		defer s.mu.Unlock()
		maps.Copy(used, s.used)
		s.used = used
	}
	return err
}
