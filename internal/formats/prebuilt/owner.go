package prebuilt

import (
	"net/url"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// A place is a host and, if the host names its users, a user.
type place struct {
	host, user string
	site       bool // a site of the user, where one looks for anything but releases
}

// forges are hosts whose paths begin with the name of a user.
var forges = []string{"github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "gitee.com", "gitea.com"}

// shared are domains below which anyone can have a host: it says nothing about
// whom it belongs to.
var shared = []string{
	"amazonaws.com", "cloudfront.net", "googleapis.com", "windows.net", "azureedge.net", "digitaloceanspaces.com", "r2.dev", "pages.dev", "workers.dev",
	"herokuapp.com", "netlify.app", "vercel.app", "web.app", "firebaseapp.com", "npmjs.com", "npmjs.org", "readthedocs.io", "surge.sh",
}

var shortRepository = pattern.New(`^(?:(github|gitlab|bitbucket):)?([\w.-]+)/[\w.-]+(?:#.*)?$`)

// placeOf reads a URL or the forms in which a package.json names a repository
// (npm, package.json, repository).
func placeOf(s string) place {
	s = strings.TrimSpace(s)
	if m := shortRepository.FindStringSubmatch(s); m != nil {
		host := "github.com"
		switch m[1] {
		case "gitlab":
			host = "gitlab.com"
		case "bitbucket":
			host = "bitbucket.org"
		}
		return place{host: host, user: strings.ToLower(m[2])}
	}
	s = strings.TrimPrefix(s, "git+")
	if rest, ok := strings.CutPrefix(s, "git@"); ok { // git@host:user/repository
		s = "ssh://" + strings.Replace(rest, ":", "/", 1)
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return place{}
	}
	host := strings.TrimPrefix(strings.ToLower(u.Hostname()), "www.")
	first, rest, _ := strings.Cut(strings.Trim(strings.ToLower(u.Path), "/"), "/")
	switch {
	case slices.Contains(forges, host):
		return place{host: host, user: first}
	case host == "raw.githubusercontent.com" || host == "codeload.github.com":
		return place{host: "github.com", user: first}
	case host == "api.github.com" && first == "repos":
		user, _, _ := strings.Cut(rest, "/")
		return place{host: "github.com", user: user}
	case strings.HasSuffix(host, ".github.io"):
		return place{"github.com", strings.TrimSuffix(host, ".github.io"), true}
	case strings.HasSuffix(host, ".gitlab.io"):
		return place{"gitlab.com", strings.TrimSuffix(host, ".gitlab.io"), true}
	}
	return place{host: host}
}

// owner compares the host of an address with what the package says of itself.
func (m *manifest) owner(address string) inventory.Owner {
	at, home, site := placeOf(address), placeOf(m.repository()), placeOf(m.text("homepage"))
	switch {
	case at.host == "" || strings.ContainsAny(at.user, "{}$"):
		return inventory.UnknownOwner
	case at.user != "":
		if home.user == "" {
			if site.user == "" {
				return inventory.UnknownOwner
			}
			home = site
		}
		switch {
		case at.host == home.host && at.user == home.user:
			return inventory.SameOwner
		case at.site:
			return inventory.UnknownOwner
		}
		return inventory.OtherOwner
	}
	for _, own := range []place{home, site} {
		if own.user == "" && own.host != "" && !isShared(own.host) && (at.host == own.host || strings.HasSuffix(at.host, "."+own.host)) {
			return inventory.SameOwner
		}
	}
	return inventory.UnknownOwner
}

func isShared(host string) bool {
	return !strings.Contains(host, ".") || slices.ContainsFunc(shared, func(s string) bool { return host == s || strings.HasSuffix(host, "."+s) })
}

// mutable reports whether the bytes behind an address can change: what a npm
// registry serves of a version cannot, everything else can.
func mutable(address string) bool {
	address = anyHolder.ReplaceAllLiteralString(address, "x")
	u, err := url.Parse(address)
	return err != nil || !registryPath.MatchString(u.Path)
}

var anyHolder = pattern.New(`\$?\{[^}]*\}`)

var registryPath = pattern.New(`^/(?:@[^/]+/)?[^/]+/-/[^/]+\.tgz$`)
