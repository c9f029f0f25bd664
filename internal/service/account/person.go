package account

import (
	"context"
	"net/mail"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// A PersonRequest says who a new member is.
type PersonRequest struct {
	Email, Name, Password string
	Role                  Role
	Staff                 bool
}

// CreatePerson makes somebody known and a member of an organisation. Who is
// known already becomes a member with the password that they have.
func (s *Service) CreatePerson(ctx context.Context, org string, req PersonRequest) (store.Person, error) {
	address, err := mail.ParseAddress(strings.TrimSpace(req.Email))
	if err != nil || address.Name != "" || len(address.Address) > 254 {
		return store.Person{}, fault.New(fault.Invalid, "%q is no e-mail address", req.Email).In("email", req.Email)
	}
	if !slices.Contains(Roles, req.Role) {
		return store.Person{}, fault.New(fault.Invalid, "there is no role %q", req.Role).Try("choose from VIEWER, DEVELOPER, ADMIN, OWNER").In("role", req.Role)
	}
	now := store.At(s.now())
	p := store.Person{Email: address.Address, Name: strings.TrimSpace(req.Name), Staff: req.Staff, CreatedAt: now}
	if req.Password != "" {
		if p.Password, err = hashPassword(req.Password); err != nil {
			return store.Person{}, err
		}
	}
	err = s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		known, err := tx.PersonByEmail(ctx, p.Email)
		switch {
		case err == nil:
			p = known
		case !fault.Is(err, fault.NotFound):
			return err
		default:
			p.ID = "" // the function may be called again
			if err := tx.CreatePerson(ctx, &p); err != nil {
				return err
			}
		}
		if err := tx.Org(org).AddMember(ctx, &store.Member{PersonID: p.ID, Role: string(req.Role), CreatedAt: now}); err != nil {
			return err
		}
		return Log(ctx, tx, org, CommandLine, "", "member.add", p.ID, map[string]any{"role": req.Role}, now.Time)
	})
	return p, err
}
