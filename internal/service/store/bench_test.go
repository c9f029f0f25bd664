package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// each runs a benchmark on each engine.
func each(b *testing.B, f func(b *testing.B, st *store.Store)) {
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		b.Run(string(engine), func(b *testing.B) { f(b, storetest.Open(b, storetest.Options(b, engine))) })
	}
}

func BenchmarkKeyByHash(b *testing.B) {
	each(b, func(b *testing.B, st *store.Store) {
		org := makeOrg(b, st, "a")
		var keys []store.Key
		for i := range 10000 {
			k := key(fmt.Sprint(i), i)
			k.ID, k.OrgID = fmt.Sprint("key_", i), org
			keys = append(keys, k)
		}
		write(b, st, func(ctx context.Context, tx *store.Tx) error { return store.InsertAll(ctx, tx, keys) })
		for i := 0; b.Loop(); i++ {
			sum := sha256.Sum256([]byte(fmt.Sprint(i % 10000)))
			if _, err := st.KeyByHash(b.Context(), sum[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// processor reports how long a benchmark kept the processor busy, which on a
// machine with other work says more than the time that passed.
func processor(b *testing.B) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	b.Cleanup(func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") })
}

// names are like those of packages: words in several orders, some with a scope.
func names(n int) []string {
	words := []string{
		"node", "native", "bcrypt", "sqlite", "canvas", "sharp", "leveldb", "usb", "serial", "port", "crypto", "hash", "zip", "fast", "json", "parser", "image",
		"react", "addon", "bindings", "prebuilt", "linux", "win32", "darwin", "arm64", "x64", "musl", "core", "utils", "wasm", "rust", "grpc", "snappy", "kafka", "redis",
	}
	random := rand.New(rand.NewPCG(1, 2))
	word := func() string { return words[random.IntN(len(words))] }
	all := make([]string, n)
	for i := range all {
		name := word() + "-" + word()
		if random.IntN(3) > 0 {
			name += "-" + word()
		}
		if random.IntN(4) == 0 {
			name = "@" + word() + "/" + name
		}
		all[i] = fmt.Sprintf("%s%d", name, i%1000)
	}
	return all
}

// load puts many packages into a store.
func load(b *testing.B, st *store.Store, n int) {
	a := analyze(b, st, target.NPM, "zlib", "1.0.0")
	var rows []store.Package
	seen := map[string]bool{}
	for _, name := range names(n + n/4) {
		if !seen[name] && len(rows) < n {
			seen[name] = true
			rows = append(rows, store.Package{
				Ecosystem: target.NPM, Name: name, AnalysisID: a.ID, Version: "1.2.3", SortVersion: target.SortVersion(target.NPM, "1.2.3"), RiskLevel: "low", RiskScore: 12,
				Summary: "Standard native addon with expected entropy access and no suspicious network activity in " + name, BinaryCount: 3, Seq: int64(10 + len(rows)),
			})
		}
	}
	write(b, st, func(ctx context.Context, tx *store.Tx) error { return store.InsertAll(ctx, tx, rows) })
	if err := st.Analyze(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkSearch(b *testing.B) {
	each(b, func(b *testing.B, st *store.Store) {
		load(b, st, 100_000)
		if _, _, err := st.SearchPackages(b.Context(), "", store.Page{}); err != nil {
			b.Fatal(err)
		}
		for _, text := range []string{"", "s", "no", "node", "bcrypt", "crypto-hash", "@sharp/node", "7", "nowhere"} {
			b.Run("text="+text, func(b *testing.B) {
				processor(b)
				for b.Loop() {
					if _, _, err := st.SearchPackages(b.Context(), text, store.Page{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run("parts", func(b *testing.B) {
			processor(b)
			all, random := names(1000), rand.New(rand.NewPCG(3, 4))
			for b.Loop() {
				name := all[random.IntN(len(all))]
				from := random.IntN(len(name) - 1)
				text := name[from:min(len(name), from+1+random.IntN(8))]
				if _, total, err := st.SearchPackages(b.Context(), text, store.Page{}); err != nil || total == 0 {
					b.Fatal(text, total, err)
				}
			}
		})
	})
}

// BenchmarkFirstSearch opens a store and makes the first search, for which all
// names are read.
func BenchmarkFirstSearch(b *testing.B) {
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		b.Run(string(engine), func(b *testing.B) {
			opt := storetest.Options(b, engine)
			load(b, storetest.Open(b, opt), 100_000)
			for b.Loop() {
				st, err := store.Open(b.Context(), opt)
				if err != nil {
					b.Fatal(err)
				}
				if _, total, err := st.SearchPackages(b.Context(), "node", store.Page{}); err != nil || total == 0 {
					b.Fatal(total, err)
				}
				if err := st.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAnalysis(b *testing.B) {
	each(b, func(b *testing.B, st *store.Store) {
		for i := range 100 {
			analyze(b, st, target.NPM, "bcrypt", fmt.Sprintf("1.0.%d", i))
		}
		b.Run("by version", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, err := st.AnalysisOf(b.Context(), target.NPM, "bcrypt", fmt.Sprintf("1.0.%d", i%100)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("document", func(b *testing.B) {
			a, err := st.AnalysisOf(b.Context(), target.NPM, "bcrypt", "1.0.1")
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := st.Document(b.Context(), a.ID, "report"); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("versions", func(b *testing.B) {
			for b.Loop() {
				if _, _, err := st.Versions(b.Context(), target.NPM, "bcrypt", store.Page{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// BenchmarkScan makes a scan, starts it, and ends it with an analysis and a
// document of 64 KiB, in three transactions.
func BenchmarkScan(b *testing.B) {
	each(b, func(b *testing.B, st *store.Store) {
		org, report := makeOrg(b, st, "a"), make([]byte, 64<<10)
		for i := range report {
			report[i] = byte(i * i >> 3)
		}
		for i := 0; b.Loop(); i++ {
			s := scan(fmt.Sprint("package-", i), i)
			write(b, st, func(ctx context.Context, tx *store.Tx) error {
				if _, _, err := tx.Org(org).Use(ctx, "package-scans", "2026-03", 1, store.Unlimited); err != nil {
					return err
				}
				return second(tx.Org(org).CreateScan(ctx, &s))
			})
			write(b, st, func(ctx context.Context, tx *store.Tx) error { return tx.StartScan(ctx, s.ID, "ingest", now) })
			a := analysis(target.NPM, s.Name, "1.0.0")
			write(b, st, func(ctx context.Context, tx *store.Tx) error {
				if _, err := tx.SaveAnalysis(ctx, &a, store.Document{Kind: "report", Data: report}); err != nil {
					return err
				}
				return tx.FinishScan(ctx, s.ID, store.ScanEnd{Status: store.ScanComplete, Stage: "persist", AnalysisID: a.ID, At: now})
			})
		}
	})
}

func BenchmarkLease(b *testing.B) {
	each(b, func(b *testing.B, st *store.Store) {
		for b.Loop() {
			if _, _, err := st.LeaseWindow(b.Context(), "key_1", now, 6, 60); err != nil {
				b.Fatal(err)
			}
		}
	})
}
