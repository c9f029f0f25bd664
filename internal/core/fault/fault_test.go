package fault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

func TestOf(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.7: token=hunter2")
	wrapped := fmt.Errorf("npm: %w", fault.New(fault.NotFound, "no package %q", "x").Try("check the spelling").Because(secret))
	for _, test := range []struct {
		name string
		err  error
		kind fault.Kind
		text string
	}{
		{"unclassified text stays inside", secret, fault.Internal, "internal error"},
		{"classified text is shown, its cause is not", wrapped, fault.NotFound, `no package "x"; check the spelling`},
	} {
		t.Run(test.name, func(t *testing.T) {
			kind, text := fault.Of(test.err)
			if kind != test.kind || text != test.text {
				t.Errorf("Of = %v, %q; want %v, %q", kind, text, test.kind, test.text)
			}
			if strings.Contains(text, "hunter2") {
				t.Errorf("the cause leaked: %q", text)
			}
		})
	}
	if !errors.Is(wrapped, secret) {
		t.Error("the cause is lost for the log")
	}
}
