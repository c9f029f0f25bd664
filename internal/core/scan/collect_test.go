package scan_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/loupe-sec/loupe/internal/core/scan"
)

// TestCollector makes a second result of the events of a scan.
func TestCollector(t *testing.T) {
	files := many(60)
	files["broken.zip"] = "PK\x03\x04 this is no archive"
	var c scan.Collector
	files["other"] = "unwanted"
	want, err := scan.Run(t.Context(), []*scan.Scanner{lister()}, tree(t, files), nil, scan.Options{Event: c.Event, Only: []string{"lister"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(want.Findings) != 60 || len(want.Notes) == 0 || len(want.Ran) != 1 {
		t.Fatalf("%+v is no example", want)
	}
	c.Counted(want.Files, want.Bytes)
	got := c.Result()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(scan.Result{})); diff != "" {
		t.Errorf("the events tell something else than the result: %s", diff)
	}
	if diff := cmp.Diff(words.Of(want), words.Of(got)); diff != "" {
		t.Errorf("the events tell of other facts: %s", diff)
	}
}

// TestLargeFilesHaveMoreTime has a scanner take as long for each file.
func TestLargeFilesHaveMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &scan.Scanner{
			Name:  "slow",
			Wants: func(*scan.File) bool { return true },
			File: func(ctx context.Context, _ *scan.Pass, _ *scan.File) error {
				select {
				case <-time.After(2 * time.Second):
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			},
		}
		files := map[string]string{"small": "x", "large": strings.Repeat("x", 1<<20)}
		res, err := scan.Run(t.Context(), []*scan.Scanner{slow}, tree(t, files), nil, scan.Options{Limits: scan.Limits{FileTime: time.Second}})
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Notes) != 1 || res.Notes[0].Path != "small" || !strings.Contains(res.Notes[0].Text, "1s were not enough") {
			t.Errorf("notes %v; want that the time was not enough for the small file alone", res.Notes)
		}
	})
}
