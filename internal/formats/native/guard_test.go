package native

import (
	"strings"
	"testing"
)

// TestGuard panics as no parser should.
func TestGuard(t *testing.T) {
	err := guard("ELF", func() error { var b []byte; _ = b[len(b)]; return nil })
	if err == nil || !strings.Contains(err.Error(), "ELF") || !strings.Contains(err.Error(), "not looked at") {
		t.Errorf("error %v; want one that says what was not looked at", err)
	}
	if err := guard("ELF", func() error { return nil }); err != nil {
		t.Errorf("error %v; want none", err)
	}
}
