// Package pattern holds regular expressions that are compiled when they are
// first used: a start of the program does not pay for those of scanners that
// find nothing to do.
package pattern

import (
	"os"
	"regexp"
	"strings"
	"sync"
)

// A Pattern is a regular expression of the program. Its methods are those of
// [regexp.Regexp] and safe for concurrent use.
type Pattern struct {
	compiled func() *regexp.Regexp
}

// inTest is true in a test, which wants mistakes to be seen at once.
var inTest = len(os.Args) > 0 && strings.HasSuffix(strings.TrimSuffix(os.Args[0], ".exe"), ".test")

// Compile returns the pattern that is written so by someone else, or an error
// if that is no regular expression.
func Compile(text string) (*Pattern, error) {
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &Pattern{func() *regexp.Regexp { return re }}, nil
}

// New returns the pattern that is written so. It panics if that is no regular
// expression: in tests at once, otherwise when it is used.
func New(text string) *Pattern {
	p := &Pattern{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
	if inTest {
		p.compiled()
	}
	return p
}

func (p *Pattern) FindAllString(s string, n int) []string { return p.compiled().FindAllString(s, n) }

func (p *Pattern) FindAllStringIndex(s string, n int) [][]int {
	return p.compiled().FindAllStringIndex(s, n)
}

func (p *Pattern) FindAllStringSubmatch(s string, n int) [][]string {
	return p.compiled().FindAllStringSubmatch(s, n)
}

func (p *Pattern) FindAllStringSubmatchIndex(s string, n int) [][]int {
	return p.compiled().FindAllStringSubmatchIndex(s, n)
}

func (p *Pattern) FindAllSubmatch(b []byte, n int) [][][]byte {
	return p.compiled().FindAllSubmatch(b, n)
}

func (p *Pattern) FindString(s string) string { return p.compiled().FindString(s) }

func (p *Pattern) FindStringIndex(s string) []int { return p.compiled().FindStringIndex(s) }

func (p *Pattern) FindStringSubmatch(s string) []string { return p.compiled().FindStringSubmatch(s) }

func (p *Pattern) FindSubmatch(b []byte) [][]byte { return p.compiled().FindSubmatch(b) }

func (p *Pattern) Match(b []byte) bool { return p.compiled().Match(b) }

func (p *Pattern) MatchString(s string) bool { return p.compiled().MatchString(s) }

func (p *Pattern) ReplaceAllFunc(src []byte, f func([]byte) []byte) []byte {
	return p.compiled().ReplaceAllFunc(src, f)
}

func (p *Pattern) ReplaceAllLiteralString(src, with string) string {
	return p.compiled().ReplaceAllLiteralString(src, with)
}

func (p *Pattern) ReplaceAllString(src, with string) string {
	return p.compiled().ReplaceAllString(src, with)
}

func (p *Pattern) ReplaceAllStringFunc(src string, f func(string) string) string {
	return p.compiled().ReplaceAllStringFunc(src, f)
}
