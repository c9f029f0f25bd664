package account

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// A KeyRequest says what a new key is to be.
type KeyRequest struct {
	Brand     string // binshield where nothing is said
	Label     string
	Scopes    []Scope // those of the brand where nothing is said
	Role      Role    // ADMIN, or that of who makes it if it is less, where nothing is said
	ExpiresAt time.Time

	RepoPattern, Tier string // of code reviews
	MonthlyLimit      int64  // of code reviews; 0 is no limit
}

// CreateKey makes a key for an organisation, and returns its text, which is
// never seen again. by is who makes it, or nil for the command line; nobody
// makes a key that may more than they do.
func (s *Service) CreateKey(ctx context.Context, org string, by *Actor, req KeyRequest) (store.Key, string, error) {
	brand, ok := brandOf(cmp.Or(req.Brand, Brands[0].Name))
	if !ok {
		var names []string
		for _, b := range Brands {
			names = append(names, b.Name)
		}
		return store.Key{}, "", fault.New(fault.Invalid, "there is no API %q", req.Brand).Try("choose from %s", strings.Join(names, ", ")).In("api", req.Brand)
	}
	label, err := CleanName("label", req.Label, 100)
	if err != nil {
		return store.Key{}, "", err
	}
	req.inherit(by)
	scopes, role, err := req.may(by, brand)
	if err != nil {
		return store.Key{}, "", err
	}
	now := s.now()
	if !req.ExpiresAt.IsZero() && !req.ExpiresAt.After(now) {
		return store.Key{}, "", fault.New(fault.Invalid, "expiresAt: in the past").In("expiresAt", req.ExpiresAt)
	}
	text := newSecret(brand)
	k := store.Key{
		Brand: brand.Name, Label: label, SHA256: hashed(text), Role: string(role), RepoPattern: cmp.Or(req.RepoPattern, "*"), Tier: req.Tier,
		MonthlyLimit: cmp.Or(req.MonthlyLimit, store.Unlimited), CreatedBy: CommandLine, CreatedAt: store.At(now), ExpiresAt: store.At(req.ExpiresAt),
	}
	k.Prefix, k.Last4 = shown(text)
	for _, sc := range scopes {
		k.Scopes = append(k.Scopes, string(sc))
	}
	requestID := ""
	if by != nil {
		k.CreatedBy, requestID = by.Name(), by.RequestID
	}
	err = s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.Org(org).Get(ctx); err != nil {
			return err
		}
		if err := tx.Org(org).CreateKey(ctx, &k); err != nil {
			return err
		}
		return Log(ctx, tx, org, k.CreatedBy, requestID, "key.create", k.ID, map[string]any{"label": label, "scopes": k.Scopes, "role": role, "api": brand.Name}, now)
	})
	if err != nil {
		return store.Key{}, "", err
	}
	return k, text, nil
}

// inherit bounds a new key by the one that makes it: it ends no later, and
// reviews no more.
func (req *KeyRequest) inherit(by *Actor) {
	if by == nil || by.May(Staff) {
		return
	}
	if !by.ExpiresAt.IsZero() && (req.ExpiresAt.IsZero() || req.ExpiresAt.After(by.ExpiresAt)) {
		req.ExpiresAt = by.ExpiresAt
	}
	if by.RepoPattern != "" && by.RepoPattern != "*" {
		req.RepoPattern = by.RepoPattern
	}
	if by.Tier != "" {
		req.Tier = by.Tier
	}
	if by.MonthlyLimit > 0 && (req.MonthlyLimit <= 0 || req.MonthlyLimit > by.MonthlyLimit) {
		req.MonthlyLimit = by.MonthlyLimit
	}
}

// may returns what the new key may do, if who makes it may make one that may
// that.
func (req KeyRequest) may(by *Actor, brand Brand) ([]Scope, Role, error) {
	for _, sc := range req.Scopes {
		if !slices.Contains(Scopes, sc) {
			return nil, "", fault.New(fault.Invalid, "scopes: there is no scope %q", sc).In("scopes", sc)
		}
	}
	if req.Role != "" && !slices.Contains(Roles, req.Role) {
		return nil, "", noRole(req.Role)
	}
	scopes, role := req.Scopes, cmp.Or(req.Role, Administrator)
	if len(scopes) == 0 {
		scopes = brand.Scopes
	}
	if by == nil {
		return scopes, role, nil
	}
	if len(req.Scopes) == 0 { // who may less makes keys that may less
		scopes = slices.DeleteFunc(slices.Clone(scopes), func(sc Scope) bool { return !by.May(sc) })
	}
	if !by.Role.AtLeast(role) {
		if req.Role != "" {
			return nil, "", fault.New(fault.Forbidden, "a key cannot make one that may more: the role %s is missing", role)
		}
		role = by.Role
	}
	for _, sc := range scopes {
		if !by.May(sc) {
			return nil, "", fault.New(fault.Forbidden, "a key cannot make one that may more: the scope %s is missing", sc)
		}
	}
	if len(scopes) == 0 {
		return nil, "", fault.New(fault.Forbidden, "a key cannot make one that may more, and of what keys of %s may do it may nothing", brand.Name)
	}
	return scopes, role, nil
}

// Keys lists the keys of an organisation that were not revoked, the oldest first.
func (s *Service) Keys(ctx context.Context, org string) ([]store.Key, error) {
	rows, _, err := s.store.Org(org).Keys(ctx, store.Page{Limit: 100_000})
	return rows, err
}

// RevokeKey makes a key useless, within a second on all servers.
func (s *Service) RevokeKey(ctx context.Context, org string, by *Actor, id string) error {
	now := s.now()
	who, requestID := CommandLine, ""
	if by != nil {
		who, requestID = by.Name(), by.RequestID
	}
	err := s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.Org(org).RevokeKey(ctx, id, store.At(now)); err != nil {
			return err
		}
		return Log(ctx, tx, org, who, requestID, "key.revoke", id, struct{}{}, now)
	})
	s.Forget()
	return err
}

// CleanName checks what people call something, which a field of a request says:
// it has 1 to most letters, none of which moves a cursor or turns the direction
// of others.
func CleanName(field, name string, most int) (string, error) {
	name = strings.TrimSpace(name)
	moves := func(r rune) bool {
		return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
	}
	if n := utf8.RuneCountInString(name); n < 1 || n > most || !utf8.ValidString(name) || strings.ContainsFunc(name, moves) {
		return "", fault.New(fault.Invalid, "%s: 1 to %d letters", field, most).In(field, name)
	}
	return name, nil
}
