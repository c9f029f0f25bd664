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
	Role      Role    // ADMIN where nothing is said
	ExpiresAt time.Time

	RepoPattern, Tier string // of code reviews
	MonthlyLimit      int64  // of code reviews; 0 is that of the tier
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
	label, err := cleanLabel(req.Label)
	if err != nil {
		return store.Key{}, "", err
	}
	scopes := req.Scopes
	if len(scopes) == 0 {
		scopes = brand.Scopes
		if by != nil { // who may less makes keys that may less
			scopes = slices.DeleteFunc(slices.Clone(scopes), func(sc Scope) bool { return !by.May(sc) })
		}
	}
	role := cmp.Or(req.Role, Administrator)
	if by != nil {
		if !by.Role.AtLeast(role) {
			role = by.Role
		}
		for _, sc := range scopes {
			if !by.May(sc) {
				return store.Key{}, "", fault.New(fault.Forbidden, "a key cannot make one that may more: the scope %s is missing", sc)
			}
		}
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
		return Log(ctx, tx, org, k.CreatedBy, requestID, "key.create", k.ID, map[string]any{"label": label, "scopes": k.Scopes, "api": brand.Name}, now)
	})
	return k, text, err
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

// cleanLabel checks a label: 1 to 100 letters, none of which moves a cursor.
func cleanLabel(label string) (string, error) {
	label = strings.TrimSpace(label)
	if n := utf8.RuneCountInString(label); n < 1 || n > 100 || strings.ContainsFunc(label, unicode.IsControl) {
		return "", fault.New(fault.Invalid, "label: 1 to 100 letters").In("label", label)
	}
	return label, nil
}
