package store

import (
	"cmp"
	"context"
	"strings"

	"github.com/uptrace/bun"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// A Person may be a member of several organisations.
type Person struct {
	bun.BaseModel `bun:"table:person"`

	ID        string `bun:",pk"`
	Email     string // in small letters
	Name      string
	Password  string // argon2id in PHC string format; empty if there is none
	Staff     bool   // of whoever runs this Loupe
	CreatedAt Time
}

// CreatePerson adds a person, and gives them an id if they have none. It is a
// conflict if the address is taken.
func (tx *Tx) CreatePerson(ctx context.Context, p *Person) error {
	p.ID = cmp.Or(p.ID, NewID("user_"))
	p.Email = strings.ToLower(p.Email)
	n, err := count(tx.db.NewInsert().Model(p).On("CONFLICT DO NOTHING").Exec(ctx))
	return some(n, err, fault.Conflict, "there is somebody with the address %s already", p.Email)
}

// UpdatePerson changes the name, the password and whether somebody is staff.
func (tx *Tx) UpdatePerson(ctx context.Context, p *Person) error {
	n, err := count(tx.db.NewUpdate().Model(p).Column("name", "password", "staff").WherePK().Exec(ctx))
	return some(n, err, fault.NotFound, "nobody has the id %s", p.ID)
}

// Person returns the person of an id.
func (r reads) Person(ctx context.Context, id string) (Person, error) {
	var p Person
	err := one(ctx, r.db.NewSelect().Model(&p).Where("id = ?", id), "nobody has the id %s", id)
	return p, err
}

// PersonByEmail returns the person of an address, in letters of any case.
func (r reads) PersonByEmail(ctx context.Context, email string) (Person, error) {
	var p Person
	err := one(ctx, r.db.NewSelect().Model(&p).Where("email = ?", strings.ToLower(email)), "nobody has the address %s", email)
	return p, err
}

// People lists everybody by their addresses.
func (r reads) People(ctx context.Context, page Page) (rows []Person, total int, err error) {
	total, err = list(ctx, r.db.NewSelect().Model(&rows).Order("email"), page, &rows)
	return rows, total, err
}
