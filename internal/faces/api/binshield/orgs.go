package binshield

import (
	"context"
	"net/http"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/service/app"
)

func (h handler) health(ctx context.Context, _ *struct{}) (Health, error) {
	mode, err := h.app.Mode(), h.app.Ready(ctx)
	out := Health{OK: err == nil, Service: "binshield-api", Mode: mode, DefaultFailOn: "high"}
	out.Repository = HealthRepository{Mode: mode, Ready: err == nil, Description: map[string]string{"sqlite": "SQLite in the data folder", "postgres": "Postgres"}[mode]}
	if err != nil {
		out.Repository.Description += ", which does not answer"
		dialect.SetStatus(ctx, http.StatusServiceUnavailable)
	}
	return out, nil
}

// OrgPath names an organisation.
type OrgPath struct {
	Org string `path:"org" doc:"id of the organization"`
}

type orgListIn struct {
	OrgPath
	Part
}

func (h handler) org(ctx context.Context, in *OrgPath) (Organization, error) {
	o, billing, err := h.app.Organization(ctx, dialect.Actor(ctx), in.Org)
	if err != nil {
		return Organization{}, err
	}
	return Organization{ID: o.ID, Name: o.Name, Slug: o.Slug, Plan: o.Plan, BillingStatus: billing, CreatedAt: stamp(o.CreatedAt.Time)}, nil
}

// items makes the answer of a list.
func items[Row, Out any](ctx context.Context, p Part, rows []Row, total int, err error, wire func(*Row) Out) (Items[Out], error) {
	if err != nil {
		return Items[Out]{}, err
	}
	dialect.SetPage(ctx, p.Limit, p.Offset, total)
	out := Items[Out]{Items: make([]Out, len(rows))}
	for i := range rows {
		out.Items[i] = wire(&rows[i])
	}
	return out, nil
}

func newRepo(r *app.Repo) Repo {
	return Repo{
		ID: r.ID, OrgID: r.OrgID, GithubRepo: r.GithubRepo, NativeDependencyCount: int64(r.NativeDependencies),
		AggregateRiskScore: int64(r.RiskScore), LastScanAt: stamp(r.LastScanAt.Time),
	}
}

func (h handler) repos(ctx context.Context, in *orgListIn) (Items[Repo], error) {
	rows, total, err := h.app.Repos(ctx, dialect.Actor(ctx), in.Org, in.of())
	return items(ctx, in.Part, rows, total, err, newRepo)
}

type addRepoIn struct {
	OrgPath
	Body struct {
		GithubRepo string `json:"githubRepo" doc:"owner/name" example:"ashlrai/new-service" minLength:"3" maxLength:"140"`
	}
}

func (h handler) addRepo(ctx context.Context, in *addRepoIn) (Repo, error) {
	r, err := h.app.AddRepo(ctx, dialect.Actor(ctx), in.Org, in.Body.GithubRepo)
	return newRepo(&r), err
}

// ItemPath names something of an organisation.
type ItemPath struct {
	OrgPath
	ID string `path:"id" doc:"what the list calls it"`
}

func (h handler) removeRepo(ctx context.Context, in *ItemPath) (Done, error) {
	return done, h.app.RemoveRepo(ctx, dialect.Actor(ctx), in.Org, in.ID)
}

func newKey(k *app.Key) APIKey {
	return APIKey{
		ID: k.ID, Label: k.Label, Prefix: app.MaskedKey(k), CreatedAt: stamp(k.CreatedAt.Time),
		LastUsedAt: stamp(k.LastUsedAt.Time), ExpiresAt: stamp(k.ExpiresAt.Time), Scopes: append([]string{}, k.Scopes...),
	}
}

func (h handler) keys(ctx context.Context, in *orgListIn) (Items[APIKey], error) {
	rows, total, err := h.app.Keys(ctx, dialect.Actor(ctx), in.Org, in.of())
	return items(ctx, in.Part, rows, total, err, newKey)
}

type addKeyIn struct {
	OrgPath
	Body struct {
		Label     string     `json:"label" doc:"what it is for" minLength:"1" maxLength:"100" example:"CI Pipeline"`
		Scopes    []string   `json:"scopes,omitempty" minItems:"1" maxItems:"20" example:"scans:read" doc:"what it may do; all that the key which makes it may, if there are none"`
		ExpiresAt *time.Time `json:"expiresAt,omitempty" doc:"after which it is useless"`
	}
}

func (h handler) addKey(ctx context.Context, in *addKeyIn) (APIKey, error) {
	req := app.KeyRequest{Label: in.Body.Label}
	for _, scope := range in.Body.Scopes {
		req.Scopes = append(req.Scopes, app.Scope(scope))
	}
	if at := in.Body.ExpiresAt; at != nil {
		if req.ExpiresAt = *at; at.IsZero() {
			return APIKey{}, fault.New(fault.Invalid, "expiresAt: in the past").In("expiresAt", at)
		}
	}
	k, text, err := h.app.CreateKey(ctx, dialect.Actor(ctx), in.Org, req)
	if err != nil {
		return APIKey{}, err
	}
	out := newKey(&k)
	out.Key = text
	return out, nil
}

func (h handler) revokeKey(ctx context.Context, in *ItemPath) (Done, error) {
	return done, h.app.RevokeKey(ctx, dialect.Actor(ctx), in.Org, in.ID)
}
