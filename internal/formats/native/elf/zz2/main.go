package main

import (
	delf "debug/elf"
	"fmt"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"os"
	"path/filepath"
)

func main() {
	v := len(os.Args) > 2
	fs, _ := filepath.Glob("/tmp/arm/*.so")
	if v {
		fs = os.Args[1:2]
	}
	for _, p := range fs {
		f, _ := delf.Open(p)
		sy, _ := f.Symbols()
		truth := map[uint64]string{}
		for _, s := range sy {
			if s.Info&15 == 2 && s.Section != 0 && int(s.Section) < len(f.Sections) && f.Sections[s.Section].Flags&4 != 0 {
				truth[s.Value&^1] = s.Name
			}
		}
		d, _ := os.ReadFile("/tmp/arm/strip/" + filepath.Base(p))
		m, _ := elf.Parse(d)
		tp := 0
		fp := 0
		got := map[uint64]bool{}
		for _, x := range m.Functions.List {
			got[x.Addr] = true
			if _, ok := truth[x.Addr]; ok {
				tp++
			} else {
				fp++
				if v {
					fmt.Printf("FP %x\n", x.Addr)
				}
			}
		}
		if v {
			for a, n := range truth {
				if !got[a] {
					fmt.Printf("MISS %x %s\n", a, n)
				}
			}
		}
		P := float64(tp) / float64(tp+fp)
		R := float64(tp) / float64(len(truth))
		fmt.Printf("%-50s truth %d count %d  ratio %.3f P %.3f R %.3f F1 %.3f %s\n", filepath.Base(p), len(truth), m.Functions.Count, float64(m.Functions.Count)/float64(len(truth)), P, R, 2*P*R/(P+R), m.Functions.Method)
	}
}
