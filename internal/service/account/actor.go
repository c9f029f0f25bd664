// Package account knows who uses this Loupe: organisations and their members,
// the keys by which they are recognised, what each may do, what their plan
// allows, and what they changed.
package account

import (
	"slices"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// A Scope is one thing that a key lets its holder do.
type Scope string

// The scopes.
const (
	ScansTrigger  Scope = "scans:trigger" // start, cancel and delete scans
	ScansRead     Scope = "scans:read"
	FindingsRead  Scope = "findings:read"
	FindingsWrite Scope = "findings:write"
	OrgRead       Scope = "org:read"
	OrgWrite      Scope = "org:write"
	CIReview      Scope = "ci:review"
	Admin         Scope = "admin" // all of these, and keys, tokens and billing
	Staff         Scope = "staff" // admin of every organisation
)

// Scopes lists the scopes.
var Scopes = []Scope{ScansTrigger, ScansRead, FindingsRead, FindingsWrite, OrgRead, OrgWrite, CIReview, Admin, Staff}

// includes says whether who has s may do what needs t.
func (s Scope) includes(t Scope) bool {
	return s == t || s == Staff || s == Admin && t != Staff
}

// ParseScopes reads scopes with commas or spaces between them. It returns the
// first word that is none.
func ParseScopes(text string) (scopes []Scope, unknown string) {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		s := Scope(word)
		if !slices.Contains(Scopes, s) {
			return nil, word
		}
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes, ""
}

// A Role is what a member is in an organisation.
type Role string

// The roles, from the least to the most.
const (
	Viewer        Role = "VIEWER"
	Developer     Role = "DEVELOPER"
	Administrator Role = "ADMIN"
	Owner         Role = "OWNER"
)

// Roles lists the roles, from the least to the most.
var Roles = []Role{Viewer, Developer, Administrator, Owner}

// AtLeast says whether r is s or more. Of what is no role, nothing is.
func (r Role) AtLeast(s Role) bool {
	least := slices.Index(Roles, s)
	return least >= 0 && slices.Index(Roles, r) >= least
}

// allows says whether a member of this role may ever use a scope, whatever
// their key says.
func (r Role) allows(s Scope) bool {
	switch s {
	case ScansRead, FindingsRead, OrgRead:
		return r.AtLeast(Viewer)
	case ScansTrigger, FindingsWrite, CIReview:
		return r.AtLeast(Developer)
	}
	return r.AtLeast(Administrator)
}

// An Actor is who asks for something: the holder of a key or of a session.
type Actor struct {
	OrgID    string
	KeyID    string // empty for a session
	PersonID string // empty for a key that nobody in particular holds
	Role     Role
	Scopes   []Scope
	Plan     store.Plan // of the organisation

	// RepoPattern, Tier and MonthlyLimit bound code reviews.
	RepoPattern, Tier string
	MonthlyLimit      int64

	ExpiresAt time.Time // of the key; zero if it does not end

	RequestID string // of the request by which they ask, for the audit log
}

// May says whether the actor may do what needs s.
func (a *Actor) May(s Scope) bool {
	return a.Role.allows(s) && slices.ContainsFunc(a.Scopes, func(has Scope) bool { return has.includes(s) })
}

// Belongs says whether the actor may ask for what an organisation has.
func (a *Actor) Belongs(org string) bool { return a.OrgID == org || a.May(Staff) }

// Name says who it is, for the audit log.
func (a *Actor) Name() string {
	if a.PersonID != "" {
		return a.PersonID
	}
	return a.KeyID
}

// PerMinute is how many requests an actor may make by the plan, and who has no
// key by the least of them.
func (a *Actor) PerMinute() []Rate {
	if a == nil {
		return []Rate{{Limit: withoutKey, Window: time.Minute}}
	}
	return []Rate{{Limit: a.Plan.Minute, Window: time.Minute}}
}

// withoutKey is how many requests an address may make in a minute, as many as
// the free plan allows.
const withoutKey = 60
