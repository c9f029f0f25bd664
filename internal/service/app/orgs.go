package app

import (
	"context"
	"regexp"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// own refuses who asks for another organisation. It is the same answer whether
// that exists or not, less to those who may see it.
func (s *Server) own(ctx context.Context, by *Actor, org string) error {
	switch {
	case !by.Belongs(org):
		return fault.New(fault.Forbidden, "not a member of this organization")
	case by.OrgID == org:
		return nil
	}
	_, err := s.store.Org(org).Get(ctx)
	return err
}

// Organization returns an organisation, and how its payments stand.
func (s *Server) Organization(ctx context.Context, by *Actor, org string) (Organization, string, error) {
	if err := s.own(ctx, by, org); err != nil {
		return Organization{}, "", err
	}
	o, err := s.store.Org(org).Get(ctx)
	if err != nil {
		return o, "", err
	}
	sub, err := s.store.Org(org).Subscription(ctx)
	if fault.Is(err, fault.NotFound) {
		return o, "active", nil
	}
	return o, sub.Status, err
}

// change makes a change to an organisation and writes it into the audit log, in
// one transaction. make returns what was changed and what to say of it.
func (s *Server) change(ctx context.Context, by *Actor, org, action string, do func(ctx context.Context, tx *store.Tx, o store.OrgTx) (object string, detail any, err error)) error {
	if err := s.own(ctx, by, org); err != nil {
		return err
	}
	return s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		object, detail, err := do(ctx, tx, tx.Org(org))
		if err != nil {
			return err
		}
		return account.Log(ctx, tx, org, by.Name(), by.RequestID, action, object, detail, s.now())
	})
}

// Repos lists the repositories of an organisation.
func (s *Server) Repos(ctx context.Context, by *Actor, org string, page Page) ([]Repo, int, error) {
	if err := s.own(ctx, by, org); err != nil {
		return nil, 0, err
	}
	return s.store.Org(org).Repos(ctx, page)
}

// githubRepo is owner/name by the rules of GitHub.
var githubRepo = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?/[A-Za-z0-9._-]{1,100}$`)

// AddRepo adds a repository of GitHub to an organisation.
func (s *Server) AddRepo(ctx context.Context, by *Actor, org, name string) (Repo, error) {
	if _, repo, _ := strings.Cut(name, "/"); !githubRepo.MatchString(name) || strings.Trim(repo, ".") == "" {
		return Repo{}, fault.New(fault.Invalid, "githubRepo: write it as owner/name").In("githubRepo", name)
	}
	r := Repo{GithubRepo: name, CreatedAt: store.At(s.now())}
	err := s.change(ctx, by, org, "repo.add", func(ctx context.Context, _ *store.Tx, o store.OrgTx) (string, any, error) {
		err := o.CreateRepo(ctx, &r)
		return r.ID, map[string]any{"repo": name}, err
	})
	return r, err
}

// RemoveRepo takes a repository from an organisation.
func (s *Server) RemoveRepo(ctx context.Context, by *Actor, org, id string) error {
	return s.change(ctx, by, org, "repo.remove", func(ctx context.Context, _ *store.Tx, o store.OrgTx) (string, any, error) {
		return id, nil, o.DeleteRepo(ctx, id)
	})
}

// Keys lists the keys of an organisation that were not revoked.
func (s *Server) Keys(ctx context.Context, by *Actor, org string, page Page) ([]Key, int, error) {
	if err := s.own(ctx, by, org); err != nil {
		return nil, 0, err
	}
	return s.store.Org(org).Keys(ctx, page)
}

// KeyRequest says what a new key is to be.
type KeyRequest = account.KeyRequest

// CreateKey makes a key, and returns its text, which is never seen again.
func (s *Server) CreateKey(ctx context.Context, by *Actor, org string, req KeyRequest) (Key, string, error) {
	if err := s.own(ctx, by, org); err != nil {
		return Key{}, "", err
	}
	return s.accounts.CreateKey(ctx, org, by, req)
}

// RevokeKey makes a key useless within a second.
func (s *Server) RevokeKey(ctx context.Context, by *Actor, org, id string) error {
	if err := s.own(ctx, by, org); err != nil {
		return err
	}
	return s.accounts.RevokeKey(ctx, org, by, id)
}
