package main

import (
	"context"
	"fmt"
	"os"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/scanners/native"
)

func main() {
	root, err := os.OpenRoot(os.Args[1])
	if err != nil { panic(err) }
	ws := workspace.New(workspace.Limits{}, "")
	defer ws.Close()
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil { panic(err) }
	result, err := scan.Run(context.Background(), []*scan.Scanner{native.Scanner}, ws, nil, scan.Options{})
	if err != nil { panic(err) }
	n, dead, un := 0, 0, 0
	for _, b := range inventory.Binaries.Of(result) {
		for _, name := range inventory.BehaviorNames {
			for _, d := range b.Behaviors[name] {
				fmt.Printf("DET %s %s %s %s\n", b.Path, name, d.Rule, d.Text)
				for _, e := range d.Evidence {
					n++
					if e.Reachable == "" { un++ }
					if e.Reachable == finding.Unreached { dead++; fmt.Printf("DEAD %s %s %s %q %s %s\n", b.Path, d.Rule, e.Kind, e.Value, e.Address, e.Function) }
				}
			}
		}
	}
	fmt.Println("TOTAL", n, dead, un)
}
