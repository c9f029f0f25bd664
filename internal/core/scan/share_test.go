package scan_test

import (
	"context"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/scan"
)

func TestShare(t *testing.T) {
	type length int
	made, asked := 0, 0
	scanner := func(name string) *scan.Scanner {
		return &scan.Scanner{
			Name: name, Doc: "asks", Version: 1,
			Wants: func(*scan.File) bool { return true },
			File: func(_ context.Context, _ *scan.Pass, f *scan.File) error {
				asked++
				n, err := scan.Share(f, func(data []byte) length {
					made++
					return length(len(data))
				})
				if err != nil || int64(n) != f.Size {
					t.Errorf("%s: %d, %v", f.Path, n, err)
				}
				return nil
			},
		}
	}
	if _, err := scan.Run(t.Context(), []*scan.Scanner{scanner("one"), scanner("two")}, tree(t, many(2)), nil, scan.Options{Workers: 1}); err != nil {
		t.Fatal(err)
	}
	if made != 2 || asked != 4 {
		t.Errorf("made %d for %d who asked, want 2 for 4: one for each of two files", made, asked)
	}
}
