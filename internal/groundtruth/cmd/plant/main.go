// Command plant writes programs with planted behaviours, and what is known
// about each, into a folder, and on demand says how much of it is found.
//
//	go run ./internal/groundtruth/cmd/plant -share 0.1 -score /tmp/planted
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/groundtruth"
)

func main() {
	share := flag.Float64("share", 0.1, "share of all programs to build, 0 to 1")
	only := flag.String("only", "", "targets to build for, with commas; empty: all")
	score := flag.Bool("score", false, "scan the programs and print what is found of them")
	misses := flag.Bool("misses", false, "with -score: list every program of which something was missed")
	languages := flag.Bool("languages", false, "build Go and Rust programs as well")
	again := flag.Bool("again", false, "score what an earlier run built")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: plant [flags] FOLDER")
		flag.PrintDefaults()
		os.Exit(2)
	}
	o := groundtruth.Options{Share: *share, Keep: true}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	if err := plant(context.Background(), flag.Arg(0), o, *languages, *score, *misses, *again); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func plant(ctx context.Context, folder string, o groundtruth.Options, languages, score, misses, again bool) error {
	programs := filepath.Join(folder, "programs")
	known := filepath.Join(folder, "truth.json")
	var truths []groundtruth.Truth
	if again {
		data, err := os.ReadFile(known)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &truths); err != nil {
			return fmt.Errorf("%s: %w", known, err)
		}
	} else {
		if err := os.MkdirAll(programs, 0o700); err != nil {
			return err
		}
		var err error
		if truths, err = groundtruth.Build(ctx, programs, o); err != nil {
			return err
		}
		if languages {
			inGo, err := groundtruth.BuildGo(ctx, programs, 4)
			if err != nil {
				return err
			}
			inRust, err := groundtruth.BuildRust(ctx, programs, true)
			if err != nil {
				return err
			}
			truths = slices.Concat(truths, inGo, inRust)
		}
		data, err := json.MarshalIndent(truths, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(known, data, 0o600); err != nil {
			return err
		}
	}
	fmt.Printf("%d programs in %s\n", len(truths), programs)
	if !score {
		return nil
	}
	outcomes, err := groundtruth.Score(ctx, programs, truths)
	if err != nil {
		return err
	}
	for i := range outcomes {
		if m := outcomes[i].Miss(); misses && m != "" {
			fmt.Println(m)
		}
	}
	fmt.Print(groundtruth.Report(outcomes))
	return nil
}
