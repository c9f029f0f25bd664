// Package rules holds the built-in rules, one file each, and what is known of
// the runtimes that compilers link into everything. A rule's file is the rule,
// its page in the documentation and its test; see package rule for its form.
package rules

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/loupe-sec/loupe/internal/core/rule"
)

//go:embed native install download layout signature embedded runtime
var files embed.FS

var load = sync.OnceValues(func() ([]*rule.Rule, error) { return rule.Load(files) })

// All returns every built-in rule, sorted by ID.
func All() []*rule.Rule {
	all, err := load()
	if err != nil {
		panic(fmt.Sprintf("rules: a built-in rule is broken: %v", err)) // a test has already read them all
	}
	return all
}

// Area returns the rules whose ID begins with the area's name and a slash.
func Area(name string) []*rule.Rule {
	return slices.DeleteFunc(slices.Clone(All()), func(r *rule.Rule) bool { return !strings.HasPrefix(r.ID, name+"/") })
}

// Get returns the rule of that ID, for a scanner whose check is code. It
// panics if there is none: that is a mistake of the program.
func Get(id string) *rule.Rule {
	i := slices.IndexFunc(All(), func(r *rule.Rule) bool { return r.ID == id })
	if i < 0 {
		panic("rules: there is no rule " + id)
	}
	return All()[i]
}

// Runtimes returns the files that describe runtimes.
func Runtimes() fs.FS {
	sub, err := fs.Sub(files, "runtime")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return sub
}

// Digest names a set of rules in reports and caches: 12 hexadecimal digits of
// a SHA-256 over their files and over the runtimes.
func Digest(set []*rule.Rule) string {
	h := sha256.New()
	for _, r := range set {
		fmt.Fprintf(h, "%d\n", len(r.Source))
		h.Write(r.Source)
	}
	runtimes := Runtimes()
	names, err := fs.Glob(runtimes, "*")
	if err != nil {
		panic(err) // only a bad pattern is an error
	}
	for _, name := range names {
		data, err := fs.ReadFile(runtimes, name)
		if err != nil {
			panic(err) // the files are embedded
		}
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
