package account_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 31, 23, 58, 30, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// world is an organisation with its accounts.
type world struct {
	*account.Service
	store *store.Store
	clock *clock
	org   store.Organization
}

func newWorld(t *testing.T, st *store.Store) world {
	t.Helper()
	c := newClock()
	s := account.New(st, c.Now)
	org, err := s.CreateOrg(t.Context(), "Ashlr AI", "", "")
	if err != nil {
		t.Fatal(err)
	}
	return world{s, st, c, org}
}

func (w world) key(t *testing.T, by *account.Actor, req account.KeyRequest) (store.Key, string) {
	t.Helper()
	if req.Label == "" {
		req.Label = "test"
	}
	k, text, err := w.CreateKey(t.Context(), w.org.ID, by, req)
	if err != nil {
		t.Fatal(err)
	}
	return k, text
}

// good fails unless a key is one.
func good(t *testing.T, s *account.Service, text string) *account.Actor {
	t.Helper()
	a, err := s.Authenticate(t.Context(), text)
	if err != nil {
		t.Fatalf("Authenticate = %v; want that the key is good", err)
	}
	return a
}

// bad fails unless a key is refused.
func bad(t *testing.T, s *account.Service, text, why string) {
	t.Helper()
	if a, err := s.Authenticate(t.Context(), text); a != nil || !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("Authenticate of a key that is %s = %+v, %v; want it refused", why, a, err)
	}
}

var prefixes = map[string]string{"binshield": "bsh_live_", "securityscanner": "sk-sec-", "cxray": "cxr_", "bedefended": "bd_sk_", "breachlens": "blt_"}

func TestKeyText(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		if len(account.Brands) != len(prefixes) {
			t.Errorf("%d brands; want %d", len(account.Brands), len(prefixes))
		}
		for brand, prefix := range prefixes {
			k, text := w.key(t, nil, account.KeyRequest{Brand: brand})
			if !regexp.MustCompile(`^` + prefix + `[A-Za-z0-9]{38}$`).MatchString(text) {
				t.Errorf("the key of %s is %s", brand, text)
			}
			if k.Prefix != text[:12] || k.Last4 != text[len(text)-4:] || account.Masked(&k) != prefix+"****"+text[len(text)-4:] {
				t.Errorf("%s is shown as %s, %s, %s", text, k.Prefix, k.Last4, account.Masked(&k))
			}
			if sum := sha256.Sum256([]byte(text)); !slices.Equal(k.SHA256, sum[:]) {
				t.Errorf("%s is kept as %x; want its SHA-256", text, k.SHA256)
			}
			if a := good(t, w.Service, text); a.KeyID != k.ID || a.OrgID != w.org.ID || a.Plan.Name != "enterprise" {
				t.Errorf("the key of %s is of %+v", brand, a)
			}
		}
		for brand, scopes := range map[string]string{
			"binshield": "[admin]", "securityscanner": "[admin]", "cxray": "[admin]", "bedefended": "[ci:review]", "breachlens": "[scans:trigger scans:read findings:read]",
		} {
			if k, _ := w.key(t, nil, account.KeyRequest{Brand: brand}); fmt.Sprint([]string(k.Scopes)) != scopes || k.Role != "ADMIN" {
				t.Errorf("a key of %s has %v, %s; want %s, ADMIN", brand, k.Scopes, k.Role, scopes)
			}
		}
		if _, _, err := w.CreateKey(t.Context(), w.org.ID, nil, account.KeyRequest{Brand: "other", Label: "a"}); !fault.Is(err, fault.Invalid) {
			t.Errorf("a key of an unknown API: %v", err)
		}
		if _, text, err := w.CreateKey(t.Context(), "org_none", nil, account.KeyRequest{Label: "a"}); !fault.Is(err, fault.NotFound) || text != "" {
			t.Errorf("a key for nobody: %q, %v", text, err)
		}
	})
}

// checksummed completes 32 letters to a key that looks like one of ours.
func checksummed(prefix, letters string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text, sum := prefix+letters, ""
	for n := crc32.ChecksumIEEE([]byte(text)); len(sum) < 6; n /= 62 {
		sum = string(digits[n%62]) + sum
	}
	return text + sum
}

// What cannot be a key costs no query: it is refused though the database is gone.
func TestGarbageCostsNoQuery(t *testing.T) {
	st, err := store.Open(t.Context(), storetest.Options(t, store.SQLite))
	if err != nil {
		t.Fatal(err)
	}
	s := account.New(st, time.Now)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	letters := strings.Repeat("aB3", 11)[:32]
	real := checksummed("bsh_live_", letters)
	if _, err := s.Authenticate(t.Context(), real); err == nil || fault.Is(err, fault.Unauthenticated) {
		t.Fatalf("Authenticate of what may be a key, without a database = %v; want its failure", err)
	}
	last := "x"
	if strings.HasSuffix(real, last) {
		last = "y"
	}
	for name, text := range map[string]string{
		"nothing": "", "a word": "hunter2", "a prefix": "bsh_live_", "another brand": "cxr_" + real[len("bsh_live_"):],
		"another checksum": real[:len(real)-1] + last, "too long": real + "0", "too short": real[:len(real)-1],
		"upper case": strings.ToUpper(real), "space": " " + real, "other letters": checksummed("bsh_live_", strings.Repeat("é", 16)),
		"long": strings.Repeat("bsh_live_", 100_000), "NUL": checksummed("bsh_live_", letters[:31]+"\x00"),
	} {
		bad(t, s, text, name)
	}
}

func TestAuthenticate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		other := account.New(st, w.clock.Now) // another server
		bad(t, w.Service, checksummed("cxr_", strings.Repeat("z", 32)), "unknown")

		k, text := w.key(t, nil, account.KeyRequest{})
		good(t, w.Service, text)
		good(t, other, text)
		if err := w.RevokeKey(t.Context(), w.org.ID, nil, k.ID); err != nil {
			t.Fatal(err)
		}
		bad(t, w.Service, text, "revoked here")
		w.clock.pass(time.Second)
		bad(t, other, text, "revoked elsewhere a second ago")
		if err := w.RevokeKey(t.Context(), w.org.ID, nil, k.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("revoked again: %v", err)
		}

		_, text = w.key(t, nil, account.KeyRequest{ExpiresAt: w.clock.Now().Add(time.Minute)})
		w.clock.pass(time.Minute - time.Millisecond)
		good(t, w.Service, text)
		good(t, other, text)
		w.clock.pass(time.Millisecond)
		bad(t, w.Service, text, "expired")
		bad(t, other, text, "expired")

		// A key is good at once though it was unknown a moment ago, and its plan
		// is that of this second.
		_, text = w.key(t, nil, account.KeyRequest{})
		if a := good(t, other, text); a.Plan.Name != "enterprise" {
			t.Errorf("plan %s", a.Plan.Name)
		}
		if err := w.SetPlan(t.Context(), w.org.ID, "free"); err != nil {
			t.Fatal(err)
		}
		w.clock.pass(time.Second)
		if a := good(t, other, text); a.Plan.Name != "free" || a.Plan.Month != 50 {
			t.Errorf("plan %+v; want the new one", a.Plan)
		}
		if err := w.SetPlan(t.Context(), w.org.ID, "other"); !fault.Is(err, fault.Invalid) {
			t.Errorf("an unknown plan: %v", err)
		}
		if err := w.SetPlan(t.Context(), "org_none", "free"); !fault.Is(err, fault.NotFound) {
			t.Errorf("the plan of nobody: %v", err)
		}
	})
}

// A flood of keys that nobody has is not remembered without bound: it makes the
// server forget, even within the time for which it would remember.
func TestFloodOfKeys(t *testing.T) {
	st := storetest.Open(t, storetest.Options(t, store.SQLite))
	w := newWorld(t, st)
	k, text := w.key(t, nil, account.KeyRequest{})
	good(t, w.Service, text)
	other := account.New(st, w.clock.Now)
	if err := other.RevokeKey(t.Context(), w.org.ID, nil, k.ID); err != nil {
		t.Fatal(err)
	}
	good(t, w.Service, text) // is remembered: no time has passed
	for i := range 2100 {
		if _, err := w.Authenticate(t.Context(), checksummed("cxr_", fmt.Sprintf("%032d", i))); !fault.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
	}
	bad(t, w.Service, text, "revoked, and forgotten")
}

// The scopes of contract and what includes them; the roles that may have them.
func TestMay(t *testing.T) {
	least := map[account.Scope]account.Role{
		account.ScansRead: account.Viewer, account.FindingsRead: account.Viewer, account.OrgRead: account.Viewer,
		account.ScansTrigger: account.Developer, account.FindingsWrite: account.Developer, account.CIReview: account.Developer,
		account.OrgWrite: account.Administrator, account.Admin: account.Administrator, account.Staff: account.Administrator,
	}
	words := "scans:trigger scans:read findings:read findings:write org:read org:write ci:review admin staff"
	if got := fmt.Sprint(account.Scopes); got != "["+words+"]" {
		t.Errorf("scopes %s; want %s", got, words)
	}
	rank := map[account.Role]int{"": -1, "OTHER": -1, account.Viewer: 0, account.Developer: 1, account.Administrator: 2, account.Owner: 3}
	for role := range rank {
		for _, has := range account.Scopes {
			a := account.Actor{OrgID: "org_a", Role: role, Scopes: []account.Scope{has}}
			for _, needs := range account.Scopes {
				included := has == needs || has == account.Staff || has == account.Admin && needs != account.Staff
				want := included && rank[role] >= rank[least[needs]] && rank[role] >= 0
				if got := a.May(needs); got != want {
					t.Errorf("%q with %s may do what needs %s: %v", role, has, needs, got)
				}
			}
			staff := has == account.Staff && rank[role] >= 2
			if !a.Belongs("org_a") || a.Belongs("org_b") != staff || a.Belongs("") != staff {
				t.Errorf("%q with %s belongs to its own organization: %v, to another: %v", role, has, a.Belongs("org_a"), a.Belongs("org_b"))
			}
		}
		none := account.Actor{Role: role}
		if slices.ContainsFunc(account.Scopes, none.May) {
			t.Errorf("%q without scopes may do something", role)
		}
		for other := range rank {
			if want := rank[other] >= 0 && rank[role] >= rank[other]; role.AtLeast(other) != want {
				t.Errorf("%q is at least %q: %v", role, other, !want)
			}
		}
	}
}

func TestParseScopes(t *testing.T) {
	for _, test := range []struct{ in, want, unknown string }{
		{"", "[]", ""},
		{"scans:read", "[scans:read]", ""},
		{" scans:read, admin,,scans:read ", "[scans:read admin]", ""},
		{"scans:read,root", "[]", "root"},
		{"ADMIN", "[]", "ADMIN"},
	} {
		if got, unknown := account.ParseScopes(test.in); fmt.Sprint(got) != test.want || unknown != test.unknown {
			t.Errorf("ParseScopes(%q) = %v, %q; want %s, %q", test.in, got, unknown, test.want, test.unknown)
		}
	}
}

// No key makes one that may more than it may itself, whatever it is asked for.
func TestNoKeyMintsMore(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		for _, role := range account.Roles {
			for _, has := range account.Scopes {
				by := &account.Actor{OrgID: w.org.ID, KeyID: "key_by", Role: role, Scopes: []account.Scope{has}}
				for _, wants := range append([]account.Scope{""}, account.Scopes...) {
					for _, as := range append([]account.Role{""}, account.Roles...) {
						req := account.KeyRequest{Label: "a", Role: as}
						if wants != "" {
							req.Scopes = []account.Scope{wants}
						}
						k, text, err := w.CreateKey(t.Context(), w.org.ID, by, req)
						if err != nil {
							more := wants == "" && !by.May(account.Admin) || wants != "" && !by.May(wants) || as != "" && !role.AtLeast(as)
							if !fault.Is(err, fault.Forbidden) || !more || text != "" {
								t.Fatalf("%s with %s asks for %q as %q: %v", role, has, wants, as, err)
							}
							continue
						}
						made := &account.Actor{Role: account.Role(k.Role)}
						for _, s := range k.Scopes {
							made.Scopes = append(made.Scopes, account.Scope(s))
						}
						for _, s := range account.Scopes {
							if made.May(s) && !by.May(s) {
								t.Fatalf("%s with %s asks for %q as %q, and gets %s with %v", role, has, wants, as, k.Role, k.Scopes)
							}
						}
						if as != "" && k.Role != string(as) {
							t.Fatalf("%s asks for %s, and gets %s", role, as, k.Role)
						}
					}
				}
			}
		}
		for name, req := range map[string]account.KeyRequest{
			"an unknown scope": {Label: "a", Scopes: []account.Scope{"root"}},
			"an unknown role":  {Label: "a", Role: "GOD"},
		} {
			for _, by := range []*account.Actor{nil, {OrgID: w.org.ID, KeyID: "k", Role: account.Owner, Scopes: []account.Scope{account.Admin}}} {
				if _, _, err := w.CreateKey(t.Context(), w.org.ID, by, req); !fault.Is(err, fault.Invalid) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	})
}

// A key makes none that outlives it, or that reviews more than it does.
func TestKeysInheritBounds(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		end := w.clock.Now().Add(time.Hour).UTC()
		_, text := w.key(t, nil, account.KeyRequest{ExpiresAt: end, RepoPattern: "acme/*", Tier: "essentials", MonthlyLimit: 5})
		by := good(t, w.Service, text)
		for name, test := range map[string]struct {
			req   account.KeyRequest
			end   time.Time
			limit int64
		}{
			"nothing said": {account.KeyRequest{}, end, 5},
			"more":         {account.KeyRequest{ExpiresAt: end.Add(time.Hour), RepoPattern: "*", Tier: "enterprise", MonthlyLimit: 500}, end, 5},
			"less":         {account.KeyRequest{ExpiresAt: end.Add(-time.Minute), MonthlyLimit: 3}, end.Add(-time.Minute), 3},
		} {
			k, _ := w.key(t, by, test.req)
			if !k.ExpiresAt.Equal(test.end) || k.RepoPattern != "acme/*" || k.Tier != "essentials" || k.MonthlyLimit != test.limit {
				t.Errorf("%s: it ends %v, reviews %s in %s, %d a month", name, k.ExpiresAt, k.RepoPattern, k.Tier, k.MonthlyLimit)
			}
		}
	})
}

func TestKeyRequests(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		now := w.clock.Now()
		for _, test := range []struct {
			name string
			req  account.KeyRequest
			ok   bool
		}{
			{"one letter", account.KeyRequest{Label: "a"}, true},
			{"100 letters", account.KeyRequest{Label: strings.Repeat("ä", 100)}, true},
			{"an emoji of several", account.KeyRequest{Label: "CI 👩‍🚀"}, true},
			{"no label", account.KeyRequest{}, false},
			{"spaces", account.KeyRequest{Label: " \t "}, false},
			{"101 letters", account.KeyRequest{Label: strings.Repeat("a", 101)}, false},
			{"a new line", account.KeyRequest{Label: "a\nb"}, false},
			{"an escape", account.KeyRequest{Label: "a\x1b[2Jb"}, false},
			{"NUL", account.KeyRequest{Label: "a\x00b"}, false},
			{"turned letters", account.KeyRequest{Label: "a\u202eb"}, false},
			{"a line separator", account.KeyRequest{Label: "a\u2028b"}, false},
			{"no UTF-8", account.KeyRequest{Label: "a\xffb"}, false},
			{"ends now", account.KeyRequest{Label: "a", ExpiresAt: now}, false},
			{"ended", account.KeyRequest{Label: "a", ExpiresAt: now.Add(-time.Hour)}, false},
			{"ends", account.KeyRequest{Label: "a", ExpiresAt: now.Add(time.Second)}, true},
		} {
			k, text, err := w.CreateKey(t.Context(), w.org.ID, nil, test.req)
			if (err == nil) != test.ok || err != nil && (!fault.Is(err, fault.Invalid) || text != "" || k.ID != "") {
				t.Errorf("%s: %v; want it to pass: %v", test.name, err, test.ok)
			}
		}
		if rows, err := w.Keys(t.Context(), w.org.ID); err != nil || len(rows) != 4 {
			t.Errorf("%d keys, %v; want those 4 that passed", len(rows), err)
		}
	})
}

func TestOrganizations(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		if w.org.Slug != "ashlr-ai" || w.org.Plan != "enterprise" || w.org.Number != 1 || !strings.HasPrefix(w.org.ID, "org_") {
			t.Errorf("organization %+v", w.org)
		}
		for _, test := range []struct {
			name, slug, plan string
			want             fault.Kind
			made             string // slug
		}{
			{"Ashlr AI", "", "", fault.Conflict, ""},
			{"Other", "ashlr-ai", "", fault.Conflict, ""},
			{"Ashlr  AI!", "ashlr", "free", 0, "ashlr"},
			{"  Größe & Söhne GmbH  ", "", "", 0, "gr-e-s-hne-gmbh"},
			{"", "", "", fault.Invalid, ""},
			{"日本", "", "", fault.Invalid, ""}, // of which no slug can be made
			{"日本", "nihon", "", 0, "nihon"},
			{strings.Repeat("a", 101), "", "", fault.Invalid, ""},
			{strings.Repeat("ab ", 33), "", "", 0, strings.Repeat("ab-", 21)[:62]},
			{"a\nb", "", "", fault.Invalid, ""},
			{"A", "A", "", fault.Invalid, ""},
			{"A", "-a", "", fault.Invalid, ""},
			{"A", "a-", "", fault.Invalid, ""},
			{"A", "a_b", "", fault.Invalid, ""},
			{"A", "a/b", "", fault.Invalid, ""},
			{"A", "a\n", "", fault.Invalid, ""},
			{"A", strings.Repeat("a", 65), "", fault.Invalid, ""},
			{"A", strings.Repeat("a", 64), "", 0, strings.Repeat("a", 64)},
			{"A", "x", "gold", fault.Invalid, ""},
		} {
			o, err := w.CreateOrg(t.Context(), test.name, test.slug, test.plan)
			kind, _ := fault.Of(err)
			if err == nil {
				kind = 0
			}
			if kind != test.want || (err == nil) != (test.made != "") || o.Slug != test.made && !strings.HasPrefix(test.made, "ab-") {
				t.Errorf("CreateOrg(%q, %q, %q) = %q, %v; want %q, %v", test.name, test.slug, test.plan, o.Slug, err, test.made, test.want)
			}
			if err == nil && (len(o.Slug) > 64 || strings.HasSuffix(o.Slug, "-")) {
				t.Errorf("CreateOrg(%q) made the slug %q", test.name, o.Slug)
			}
		}
	})
}

func TestPeople(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		const password = "correct horse battery"
		ada, err := w.CreatePerson(t.Context(), w.org.ID, account.PersonRequest{Email: " Ada@Example.com ", Name: " Ada ", Password: password, Role: account.Owner})
		if err != nil || ada.Email != "ada@example.com" || ada.Name != "Ada" || ada.Staff {
			t.Fatalf("CreatePerson = %+v, %v", ada, err)
		}
		parts := strings.Split(ada.Password, "$")
		if len(parts) != 6 || strings.Join(parts[:4], "$") != "$argon2id$v=19$m=65536,t=3,p=4" {
			t.Fatalf("a password is kept as %q; want the second choice of RFC 9106", ada.Password)
		}
		if sum := argon2.IDKey([]byte(password), unbase64(t, parts[4]), 3, 64<<10, 4, 32); !slices.Equal(sum, unbase64(t, parts[5])) {
			t.Error("a password is kept as something else than its hash")
		}
		if !account.CheckPassword(ada.Password, password) || account.CheckPassword(ada.Password, password+" ") || account.CheckPassword(ada.Password, "") {
			t.Error("a password is not told from others")
		}

		// Who is known becomes a member elsewhere, with the password that they have.
		second, err := w.CreateOrg(t.Context(), "Second", "", "")
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.CreatePerson(t.Context(), second.ID, account.PersonRequest{Email: "ADA@example.com", Password: "another password", Role: account.Viewer})
		if err != nil || again.ID != ada.ID || again.Password != ada.Password {
			t.Errorf("a known person joins: %+v, %v; want %s as she is", again, err, ada.ID)
		}
		if m, err := st.Org(second.ID).Member(t.Context(), ada.ID); err != nil || m.Role != "VIEWER" {
			t.Errorf("she is %+v, %v there", m, err)
		}
		if m, err := st.Org(w.org.ID).Member(t.Context(), ada.ID); err != nil || m.Role != "OWNER" {
			t.Errorf("she is %+v, %v here", m, err)
		}
		if _, err := w.CreatePerson(t.Context(), second.ID, account.PersonRequest{Email: ada.Email, Role: account.Owner}); !fault.Is(err, fault.Conflict) {
			t.Errorf("she joins again: %v", err)
		}
		third, err := w.CreateOrg(t.Context(), "Third", "", "")
		if err != nil {
			t.Fatal(err)
		}
		if p, err := w.CreatePerson(t.Context(), third.ID, account.PersonRequest{Email: ada.Email, Role: account.Owner, Staff: true}); err != nil || !p.Staff || p.Password != ada.Password {
			t.Errorf("she becomes staff: %+v, %v", p, err)
		}
		if p, err := st.PersonByEmail(t.Context(), ada.Email); err != nil || !p.Staff || p.Name != "Ada" {
			t.Errorf("she is kept as %+v, %v", p, err)
		}

		for name, req := range map[string]account.PersonRequest{
			"no address":                   {Role: account.Viewer},
			"no e-mail":                    {Email: "ada", Role: account.Viewer},
			"a name before it":             {Email: "Ada <a@b.example>", Role: account.Viewer},
			"two":                          {Email: "a@b.example, c@d.example", Role: account.Viewer},
			"a header":                     {Email: "a@b.example\r\nBcc: c@d.example", Role: account.Viewer},
			"long":                         {Email: strings.Repeat("a", 250) + "@b.example", Role: account.Viewer},
			"no role":                      {Email: "a@b.example"},
			"another role":                 {Email: "a@b.example", Role: "GOD"},
			"short password":               {Email: "a@b.example", Role: account.Viewer, Password: "123456789"},
			"long password":                {Email: "a@b.example", Role: account.Viewer, Password: strings.Repeat("a", 257)},
			"a name that moves the cursor": {Email: "a@b.example", Role: account.Viewer, Name: "a\x1b[2J"},
		} {
			if p, err := w.CreatePerson(t.Context(), w.org.ID, req); !fault.Is(err, fault.Invalid) || p.ID != "" {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
		}
		if _, err := w.CreatePerson(t.Context(), "org_none", account.PersonRequest{Email: "a@b.example", Role: account.Viewer}); !fault.Is(err, fault.NotFound) {
			t.Errorf("a member of nothing: %v", err)
		}
		if _, err := st.PersonByEmail(t.Context(), "a@b.example"); !fault.Is(err, fault.NotFound) {
			t.Errorf("somebody who was refused is known: %v", err)
		}
	})
}

// The vectors are those of the reference implementation of Argon2 (test.c).
func TestKnownPasswords(t *testing.T) {
	const known = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, test := range []struct {
		hash, password string
		want           bool
	}{
		{known, "password", true},
		{"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password", true},
		{"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password", true},
		{"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$C4TWUs9rDEvq7w3+J4umqA32aWKB1+DSiRuBfYxFj94", "differentpassword", true},
		{known, "Password", false},
		{known, "", false},
		{strings.Replace(known, "argon2id", "argon2i", 1), "password", false},
		{strings.Replace(known, "v=19", "v=16", 1), "password", false},
		{known[:len(known)-4], "password", false},
		{"$argon2id$v=19$m=65536,t=0,p=1$c29tZXNhbHQ$CTFh", "password", false},
		{"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$", "password", false},
		{"", "", false},
		{"password", "password", false},
	} {
		if got := account.CheckPassword(test.hash, test.password); got != test.want {
			t.Errorf("CheckPassword(%q, %q) = %v", test.hash, test.password, got)
		}
	}
}

// When keys were last used is known after a Flush, and never goes back.
func TestLastUsed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		k, text := w.key(t, nil, account.KeyRequest{})
		unused, _ := w.key(t, nil, account.KeyRequest{})
		used := func(id string) time.Time {
			t.Helper()
			row, err := st.Org(w.org.ID).Key(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			return row.LastUsedAt.Time
		}
		first := w.clock.Now()
		good(t, w.Service, text)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Flush(ended); err == nil {
			t.Error("Flush that was interrupted = nil")
		}
		if err := w.Flush(t.Context()); err != nil || !used(k.ID).Equal(first) {
			t.Errorf("used at %v, %v; want %v", used(k.ID), err, first)
		}
		if err := w.Flush(t.Context()); err != nil || !used(unused.ID).IsZero() {
			t.Errorf("a key that nobody used was used at %v, %v", used(unused.ID), err)
		}
		w.clock.pass(time.Hour)
		good(t, w.Service, text)
		late := account.New(st, func() time.Time { return first.Add(time.Minute) }) // another server, which is behind
		good(t, late, text)
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := late.Flush(t.Context()); err != nil || !used(k.ID).Equal(first.Add(time.Hour)) {
			t.Errorf("used at %v, %v; want %v", used(k.ID), err, first.Add(time.Hour))
		}
	})
}

// Each change is in the audit log with who made it, and without a secret.
func TestAudit(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		by := &account.Actor{OrgID: w.org.ID, KeyID: "key_by", Role: account.Owner, Scopes: []account.Scope{account.Admin}, RequestID: "req-1"}
		session := *by
		session.PersonID = "user_ada"
		first, text1 := w.key(t, nil, account.KeyRequest{Label: "first"})
		second, text2 := w.key(t, by, account.KeyRequest{Label: "second", Scopes: []account.Scope{account.ScansRead}})
		for _, err := range []error{
			w.RevokeKey(t.Context(), w.org.ID, &session, first.ID),
			w.RevokeKey(t.Context(), w.org.ID, nil, second.ID),
			w.SetPlan(t.Context(), w.org.ID, "free"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		person, err := w.CreatePerson(t.Context(), w.org.ID, account.PersonRequest{Email: "a@b.example", Password: "hunter2hunter2", Role: account.Viewer})
		if err != nil {
			t.Fatal(err)
		}
		// What fails leaves nothing.
		if _, err := w.CreatePerson(t.Context(), w.org.ID, account.PersonRequest{Email: "a@b.example", Role: account.Viewer}); err == nil {
			t.Fatal("twice a member")
		}
		if err := w.RevokeKey(t.Context(), w.org.ID, by, second.ID); err == nil {
			t.Fatal("revoked twice")
		}
		rows, total, err := st.Org(w.org.ID).AuditLog(t.Context(), store.Page{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range rows {
			got = append(got, fmt.Sprintf("%s %s %s %q", a.Actor, a.Action, a.Object, a.RequestID))
			for _, secret := range []string{text1, text2, "hunter2", person.Password, text1[len("bsh_live_"):]} {
				if strings.Contains(a.Detail, secret) {
					t.Errorf("%s holds a secret: %s", a.Action, a.Detail)
				}
			}
		}
		slices.Sort(got)
		want := []string{
			`command line key.create ` + first.ID + ` ""`,
			`command line key.revoke ` + second.ID + ` ""`,
			`command line member.add ` + person.ID + ` ""`,
			`command line org.create ` + w.org.ID + ` ""`,
			`command line org.plan ` + w.org.ID + ` ""`,
			`key_by key.create ` + second.ID + ` "req-1"`,
			`user_ada key.revoke ` + first.ID + ` "req-1"`,
		}
		if d := cmp.Diff(want, got); d != "" || total != len(want) {
			t.Errorf("%d rows: %s", total, d)
		}
	})
}

// TestConcurrently is for the race detector.
func TestConcurrently(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		_, text := w.key(t, nil, account.KeyRequest{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					if _, err := w.Authenticate(t.Context(), text); err != nil {
						t.Error(err)
					}
					w.clock.pass(50 * time.Millisecond)
				}
				w.Forget()
				if err := w.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// The database's password is in none of the errors of a database that is gone.
func TestErrorsHoldNoSecret(t *testing.T) {
	opt := storetest.Options(t, store.Postgres)
	u, err := url.Parse(opt.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), "hunter2")
	opt.URL = u.String()
	st, err := store.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	s := account.New(st, time.Now)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	text := checksummed("cxr_", strings.Repeat("q", 32))
	_, err = s.Authenticate(t.Context(), text)
	if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), text) {
		t.Errorf("Authenticate without a database = %v", err)
	}
}
