package groundtruth

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// atOnce is how many files one call of a tool gets.
const atOnce = 100

// locate finds the plants of programs by the linker's symbols, and then takes
// these off the programs that are to have none.
func locate(ctx context.Context, folder string, programs []*built, truths []Truth) error {
	byFile := map[string]int{}
	files := map[string][]string{} // by tool
	strip := map[string][]string{} // by tool
	for i, p := range programs {
		file := filepath.Join(folder, filepath.FromSlash(p.file()))
		byFile[file] = i
		if p.target.os == "wasi" {
			text, err := os.ReadFile(file + ".map")
			if err != nil {
				return err
			}
			truths[i].Plant = plants(fromMap(string(text)), p.target)
			if err := os.Remove(file + ".map"); err != nil {
				return err
			}
			continue
		}
		files[p.target.binutil("nm")] = append(files[p.target.binutil("nm")], file)
		if p.stripped {
			strip[p.target.binutil("strip")] = append(strip[p.target.binutil("strip")], file)
		}
	}
	for tool, files := range files {
		for part := range slices.Chunk(files, atOnce) {
			text, err := output(ctx, append([]string{tool, "-A", "-S", "-p", "--defined-only"}, part...))
			if err != nil {
				return err
			}
			for file, symbols := range fromNM(string(text)) {
				i, ok := byFile[file]
				if !ok {
					return fmt.Errorf("%s names %s, which it was not asked about", tool, file)
				}
				truths[i].Plant = plants(symbols, programs[i].target)
			}
		}
	}
	for tool, files := range strip {
		for part := range slices.Chunk(files, atOnce) {
			if err := run(ctx, append([]string{tool}, part...)); err != nil {
				return err
			}
		}
	}
	for i := range truths {
		if truths[i].Behavior != "" && len(truths[i].Plant) == 0 {
			return fmt.Errorf("%s: the plant has no symbol", truths[i].File)
		}
	}
	return nil
}

// A symbol is a function of a linked program.
type symbol struct {
	name       string
	addr, size uint64 // no size: up to the next
}

// fromNM reads the functions that nm prints, by file.
func fromNM(text string) map[string][]symbol {
	out := map[string][]symbol{}
	for line := range strings.Lines(text) {
		file, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 3 {
			continue
		}
		addr, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			continue
		}
		s := symbol{addr: addr}
		fields = fields[1:]
		if len(fields) == 3 {
			if size, err := strconv.ParseUint(fields[0], 16, 64); err == nil {
				s.size = size
			}
			fields = fields[1:]
		}
		if strings.ContainsAny(fields[0], "tTwW") {
			s.name = fields[1]
			out[file] = append(out[file], s)
		}
	}
	return out
}

// fromMap reads the functions of a module from the map of wasm-ld: their
// offsets in the file.
func fromMap(text string) []symbol {
	var out []symbol
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 4 || strings.Contains(fields[3], ":") {
			continue
		}
		off, err := strconv.ParseUint(fields[1], 16, 64)
		size, err2 := strconv.ParseUint(fields[2], 16, 64)
		if err == nil && err2 == nil {
			out = append(out, symbol{fields[3], off, size})
		}
	}
	return out
}

// plants returns where the plant and its wrappers lie.
func plants(symbols []symbol, t *target) []Range {
	slices.SortFunc(symbols, func(a, b symbol) int { return cmp.Or(cmp.Compare(a.addr, b.addr), strings.Compare(a.name, b.name)) })
	var out []Range
	for i, s := range symbols {
		name := s.name
		if t.os == "darwin" || t.os == "windows" && t.arch == "x86" {
			name = strings.TrimPrefix(name, "_")
		}
		if !strings.HasPrefix(name, "plant_") && !strings.HasPrefix(name, "wrap_") {
			continue
		}
		if t.arch == "arm" {
			s.addr &^= 1 // Thumb
		}
		end := s.addr + s.size
		for j := i + 1; s.size <= 1 && j < len(symbols); j++ {
			if symbols[j].addr > s.addr+1 {
				end, s.size = symbols[j].addr, 2
			}
		}
		if end <= s.addr+1 { // the last of them
			end = s.addr + 4096
		}
		out = append(out, Range{name, s.addr, end})
	}
	return out
}
