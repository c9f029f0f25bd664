package known_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
)

var corpus = flag.String("corpus", "", "a `folder` of binaries for the benchmark")

// BenchmarkLabel marks the functions of a folder of binaries, whose references
// and roots were asked for before.
func BenchmarkLabel(b *testing.B) {
	if *corpus == "" {
		b.Skip("no -corpus")
	}
	type program struct {
		code     *code.Code
		language string
	}
	var programs []program
	functions := 0
	err := filepath.WalkDir(*corpus, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		binaries, _ := native.Parse(data)
		for _, one := range binaries {
			c := code.Read(one.Image)
			c.Roots()
			c.Callers(0)
			programs = append(programs, program{c, one.Language})
			functions += len(c.Functions)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, p := range programs {
			known.Label(p.code, p.language)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(functions), "ns/function")
}
