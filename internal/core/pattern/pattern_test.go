package pattern_test

import (
	"testing"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

func TestPattern(t *testing.T) {
	digits := pattern.New(`[0-9]+`)
	if got := digits.ReplaceAllString("a1b22", "#"); got != "a#b#" || digits.MatchString("abc") {
		t.Errorf("replaced %q", got)
	}
	other, err := pattern.Compile(`^a(b*)$`)
	if err != nil || other.FindStringSubmatch("abb")[1] != "bb" {
		t.Errorf("%v, %v", other, err)
	}
	if _, err := pattern.Compile(`(`); err == nil {
		t.Error("no error for a parenthesis that is not closed")
	}
	defer func() {
		if recover() == nil {
			t.Error("New takes it")
		}
	}()
	pattern.New(`(`) // at once, as this is a test
}
