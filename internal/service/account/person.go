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
		return store.Person{}, noRole(req.Role)
	}
	name := ""
	if strings.TrimSpace(req.Name) != "" {
		if name, err = CleanName("name", req.Name, 100); err != nil {
			return store.Person{}, err
		}
	}
	now := store.At(s.now())
	p := store.Person{Email: address.Address, Name: name, Staff: req.Staff, CreatedAt: now}
	if req.Password != "" {
		if p.Password, err = hashPassword(req.Password); err != nil {
			return store.Person{}, err
		}
	}
	var known store.Person
	err = s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.Org(org).Get(ctx); err != nil {
			return err
		}
		known, err = s.person(ctx, tx, p)
		if err != nil {
			return err
		}
		if err := tx.Org(org).AddMember(ctx, &store.Member{PersonID: known.ID, Role: string(req.Role), CreatedAt: now}); err != nil {
			return err
		}
		return Log(ctx, tx, org, CommandLine, "", "member.add", known.ID, map[string]any{"role": req.Role, "staff": known.Staff}, now.Time)
	})
	if err != nil {
		return store.Person{}, err
	}
	return known, nil
}

// person returns who has the address of p, who may become staff by this and
// stays as they are else, or makes p known.
func (s *Service) person(ctx context.Context, tx *store.Tx, p store.Person) (store.Person, error) {
	known, err := tx.PersonByEmail(ctx, p.Email)
	switch {
	case fault.Is(err, fault.NotFound):
		err = tx.CreatePerson(ctx, &p)
		return p, err
	case err == nil && p.Staff && !known.Staff:
		known.Staff = true
		err = tx.UpdatePerson(ctx, &known)
	}
	return known, err
}

func noRole(role Role) error {
	return fault.New(fault.Invalid, "there is no role %q", role).Try("choose from VIEWER, DEVELOPER, ADMIN, OWNER").In("role", role)
}
