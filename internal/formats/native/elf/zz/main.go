package main

import (
	"encoding/json"
	"fmt"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"os"
	"time"
)

func main() {
	full := len(os.Args) > 2 && os.Args[1] == "-j"
	args := os.Args[1:]
	if full {
		args = args[1:]
	}
	for _, p := range args {
		d, _ := os.ReadFile(p)
		t := time.Now()
		m, err := elf.Parse(d)
		e := time.Since(t)
		if err != nil {
			fmt.Println(p, err)
			continue
		}
		if full {
			names := []string{}
			for _, x := range m.Functions.List {
				names = append(names, fmt.Sprintf("%x+%x %s", x.Addr, x.Size, x.Name))
			}
			m.Data = nil
			out := map[string]any{"m": m}
			b, _ := json.MarshalIndent(out, "", " ")
			fmt.Println(string(b))
			continue
		}
		s, sl := 0, 0
		for _, i := range m.Imports {
			if i.Stub != 0 {
				s++
			}
			if i.Slot != 0 {
				sl++
			}
		}
		fmt.Println(p, m.Arch, m.OS, m.Kind, m.Linkage, "imp", len(m.Imports), "slot", sl, "stub", s, "exp", len(m.Exports), "sym", len(m.Symbols), "fn", m.Functions.Count, m.Functions.Method, fmt.Sprintf("%.3f", m.Functions.Coverage), "strip", m.Stripped, "ovl", m.Overlay.Size, m.Versions, m.Notes, m.Compilers, e)
	}
}
