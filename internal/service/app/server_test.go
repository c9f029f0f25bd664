package app_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/report"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/app"
	"github.com/loupe-sec/loupe/internal/service/jobstest"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// registry is an npm registry on loopback, with packages of one binary each.
type registry struct {
	url string

	mu     sync.Mutex
	latest map[string]string
	files  map[string]map[string][]byte // tarballs by name and version
	asked  map[string]int               // by path
	status int                          // with which it answers all; 0 for what is right
	broken string                       // a package for which it has no answer
	gate   chan struct{}                // answers wait until it is closed; may be nil
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{latest: map[string]string{}, files: map[string]map[string][]byte{}, asked: map[string]int{}}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.url = s.URL
	t.Setenv("HOME", t.TempDir())
	t.Setenv("npm_config_registry", r.url)
	return r
}

// publish adds a version, which is the latest from then on. imports are what its
// binary imports.
func (r *registry) publish(t *testing.T, name, version, imports string) {
	t.Helper()
	data, err := synth.FromYAML([]byte("{format: elf, imports: [" + imports + "]}"))
	if err != nil {
		t.Fatal(err)
	}
	tarball := packed(t, "package/a.node", data)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files[name] == nil {
		r.files[name] = map[string][]byte{}
	}
	r.files[name][version], r.latest[name] = tarball, version
}

func (r *registry) set(change func(r *registry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// requests counts those for a path.
func (r *registry) requests(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[path]
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.asked[req.URL.Path]++
	gate, status := r.gate, r.status
	if strings.HasPrefix(req.URL.Path, "/"+r.broken) && r.broken != "" {
		status = http.StatusInternalServerError
	}
	r.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-req.Context().Done():
			return
		}
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	name, file, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/-/")
	versions, ok := r.files[name]
	switch {
	case !ok:
		http.NotFound(w, req)
	case file != "":
		w.Write(versions[strings.TrimSuffix(file, ".tgz")])
	default:
		list := map[string]any{}
		for version, data := range versions {
			sum := sha512.Sum512(data)
			list[version] = map[string]any{"name": name, "version": version, "dist": map[string]any{
				"tarball": r.url + "/" + name + "/-/" + version + ".tgz", "integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:]),
			}}
		}
		json.NewEncoder(w).Encode(map[string]any{"name": name, "dist-tags": map[string]string{"latest": r.latest[name]}, "versions": list})
	}
}

// place is a database on which servers are opened.
type place struct {
	opt   store.Options
	store *store.Store
	dir   string
}

// eachPlace runs a test on each engine.
func eachPlace(t *testing.T, f func(t *testing.T, p *place)) {
	t.Helper()
	for _, engine := range []store.Engine{store.SQLite, store.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			p := &place{opt: storetest.Options(t, engine), dir: t.TempDir()}
			if p.opt.URL == "" {
				p.dir = filepath.Dir(p.opt.Path)
			}
			p.store = storetest.Open(t, p.opt)
			f(t, p)
		})
	}
}

// open opens a server, and starts it if it has workers.
func (p *place) open(t *testing.T, opt app.ServerOptions) *app.Server {
	t.Helper()
	opt.DataDir, opt.DatabaseURL, opt.AllowPrivate, opt.Sandbox = p.dir, p.opt.URL, true, sandbox.Off
	s, err := app.OpenServer(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, s) })
	return s
}

// end stops a server at once, and closes it.
func end(t *testing.T, s *app.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// member makes an organisation, and somebody who may do everything there.
func member(t *testing.T, s *app.Server, name, plan string) *app.Actor {
	t.Helper()
	o, err := s.Accounts().CreateOrg(t.Context(), name, "", plan)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := s.Accounts().CreateKey(t.Context(), o.ID, nil, app.KeyRequest{Label: "test"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Authenticate(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func npm(name, version string) app.PackageRequest {
	return app.PackageRequest{Ecosystem: "npm", Name: name, Version: version}
}

func submit(t *testing.T, s *app.Server, by *app.Actor, req app.PackageRequest) *app.PackageScan {
	t.Helper()
	scan, err := s.Submit(t.Context(), by, req)
	if err != nil {
		t.Fatal(err)
	}
	return scan
}

// await polls a scan until it ends, and returns the stages that were seen.
func await(t *testing.T, s *app.Server, by *app.Actor, id string) (scan *app.PackageScan, stages []string) {
	t.Helper()
	for end := time.Now().Add(jobstest.Patience); ; time.Sleep(time.Millisecond) {
		scan, err := s.PackageScan(t.Context(), by, id)
		if err != nil {
			t.Fatal(err)
		}
		if len(stages) == 0 || stages[len(stages)-1] != scan.Stage {
			stages = append(stages, scan.Stage)
		}
		if !scan.Status.Open() {
			return scan, stages
		}
		if time.Now().After(end) {
			t.Fatalf("the scan does not end: %+v", scan)
		}
	}
}

func TestSubmitRefuses(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		s := p.open(t, app.ServerOptions{})
		by := member(t, s, "a", "")
		for _, test := range []struct {
			eco, name, version string
			ok                 bool
		}{
			{"npm", "bcrypt", "5.1.1", true},
			{"npm", "@swc/core", "1.0.0-rc.1+build.5", true},
			{"npm", "bcrypt", "0.0.0", true},
			{"pypi", "Ruamel.YAML", "1.0", true},
			{"pypi", "numpy", "1!2.0rc1.post1.dev2+local.1", true},
			{"pypi", "numpy", "2004d", false},
			{"NPM", "bcrypt", "5.1.1", false},
			{"cargo", "serde", "1.0.0", false},
			{"", "bcrypt", "5.1.1", false},
			{"npm", "", "5.1.1", false},
			{"npm", "../bcrypt", "5.1.1", false},
			{"npm", "a b", "5.1.1", false},
			{"npm", "a\x00", "5.1.1", false},
			{"npm", strings.Repeat("a", 300), "5.1.1", false},
			{"npm", "bcrypt", "", false},
			{"npm", "bcrypt", "latest", false},
			{"npm", "bcrypt", "^5.1.1", false},
			{"npm", "bcrypt", "5.1", false},
			{"npm", "bcrypt", "5.1.x", false},
			{"npm", "bcrypt", "v5.1.1", false},
			{"npm", "bcrypt", "05.1.1", false},
			{"npm", "bcrypt", "5.1.1 ", false},
			{"npm", "bcrypt", "5.1.1\n", false},
			{"npm", "bcrypt", "5.1.1 || 6.0.0", false},
			{"npm", "bcrypt", "5.1.1/../..", false},
			{"npm", "bcrypt", "5.1.1-ä", false},
			{"npm", "bcrypt", "５.1.1", false},
			{"npm", "bcrypt", "5.1.1-" + strings.Repeat("a", 300), false},
			{"npm", "bcrypt", "99999999999999999.0.0", false},
			{"pypi", "numpy", ">=1.0", false},
			{"pypi", "numpy", "1.*", false},
			{"pypi", "numpy", "1.0.poſt1", false}, // a long s, which folds to s
			{"pypi", "numpy", "1.0 ", false},
		} {
			scan, err := s.Submit(t.Context(), by, app.PackageRequest{Ecosystem: test.eco, Name: test.name, Version: test.version})
			if (err == nil) != test.ok || err != nil && !fault.Is(err, fault.Invalid) || test.ok && scan.Status != store.ScanQueued {
				t.Errorf("Submit(%q, %q, %q) = %v; want it to pass: %v", test.eco, test.name, test.version, err, test.ok)
			}
		}
		if scan := submit(t, s, by, app.PackageRequest{Ecosystem: "pypi", Name: "ruamel_yaml", Version: "1.0"}); scan.Name != "ruamel-yaml" {
			t.Errorf("the package is kept as %s", scan.Name)
		}
		kept := app.PackageRequest{Ecosystem: "npm", Name: "a", Version: "1.0.0", Repo: "o/r \x00", Source: "api", Force: true}
		if got := app.RequestOf(submit(t, s, by, kept)); got != kept {
			t.Errorf("the request is kept as %+v; want %+v", got, kept)
		}
	})
}

// Equal requests at once are one scan, which counts once.
func TestSubmitAtOnce(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		s, other := p.open(t, app.ServerOptions{}), p.open(t, app.ServerOptions{})
		by, foreign := member(t, s, "a", ""), member(t, s, "b", "")
		ids := make([]string, 20)
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() {
				if scan, err := []*app.Server{s, other}[i%2].Submit(t.Context(), by, npm("a", "1.0.0")); err != nil {
					t.Error(err)
				} else {
					ids[i] = scan.ID
				}
			})
		}
		wg.Wait()
		if slices.Sort(ids); ids[0] == "" || ids[0] != ids[19] {
			t.Errorf("scans %v; want one", ids)
		}
		if submit(t, s, foreign, npm("a", "1.0.0")).ID == ids[0] {
			t.Error("another organization shares the scan")
		}
		if used, err := p.store.Org(by.OrgID).Used(t.Context(), "package-scans", store.Month(time.Now())); err != nil || used != 1 {
			t.Errorf("%d scans count, %v; want 1", used, err)
		}
		figures, err := s.Figures(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waiting := 0
		for _, c := range figures.Classes {
			waiting += c.Waiting
		}
		if waiting != 2 {
			t.Errorf("%d jobs wait; want one for each organization", waiting)
		}
		if _, err := s.PackageScan(t.Context(), foreign, ids[0]); !fault.Is(err, fault.NotFound) {
			t.Errorf("another organization asks for the scan: %v", err)
		}
	})
}

func TestQuota(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		now := time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC)
		s := p.open(t, app.ServerOptions{Now: func() time.Time { return now }})
		by := member(t, s, "a", "free")
		kinds := make([]bool, 60)
		var wg sync.WaitGroup
		for i := range kinds {
			wg.Go(func() {
				_, err := s.Submit(t.Context(), by, npm("a", fmt.Sprintf("1.0.%d", i)))
				if kinds[i] = err == nil; err != nil && (!fault.Is(err, fault.Exhausted) || err.Error() != "Monthly scan limit exceeded") {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		passed := 0
		for i, ok := range kinds {
			if !ok {
				continue
			}
			if passed++; passed == 1 { // the same again counts nothing
				submit(t, s, by, npm("a", fmt.Sprintf("1.0.%d", i)))
			}
		}
		if passed != 50 {
			t.Errorf("%d of 60 at once pass; want 50", passed)
		}
		if _, rows, err := p.store.Org(by.OrgID).Scans(t.Context(), store.Page{}); err != nil || rows != 50 {
			t.Errorf("%d scans, %v; want 50", rows, err)
		}
		now = now.Add(time.Second)
		submit(t, s, by, npm("b", "1.0.0"))
		if err := s.Accounts().SetPlan(t.Context(), by.OrgID, "pro"); err != nil {
			t.Fatal(err)
		}
		if used, err := p.store.Org(by.OrgID).Used(t.Context(), "package-scans", "2026-02"); err != nil || used != 1 {
			t.Errorf("%d scans in the next month, %v; want 1", used, err)
		}
	})
}

// settled is a report as JSON, less what differs between two scans.
func settled(t *testing.T, r *report.Report) string {
	t.Helper()
	c := *r
	c.StartedAt, c.CompletedAt = time.Time{}, time.Time{}
	var out bytes.Buffer
	if err := report.JSON.Write(&out, &c, report.Options{}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func settledDiff(t *testing.T, d *report.Diff) string {
	t.Helper()
	data, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A scan runs through its stages to a result that everybody shares, and that is
// what the command line says of the same package.
func TestScanOfPackage(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		r := newRegistry(t)
		r.publish(t, "a", "1.0.0", "open")
		r.publish(t, "a", "2.0.0", "open, connect, send")
		s := p.open(t, app.ServerOptions{Workers: 2})
		by, other := member(t, s, "a", "free"), member(t, s, "b", "free")
		scan, stages := await(t, s, by, submit(t, s, by, npm("a", "1.0.0")).ID)
		if scan.Status != store.ScanComplete || scan.Stage != "persist" || scan.CacheHit || scan.StartedAt.IsZero() || scan.CompletedAt.IsZero() || scan.Error != "" {
			t.Fatalf("the scan ended as %+v", scan)
		}
		order := []string{"ingest", "extract", "decompile", "classify", "persist"}
		last := -1
		for _, stage := range stages {
			i := slices.Index(order, stage)
			if i <= last {
				t.Errorf("stages %v; want some of %v in order", stages, order)
			}
			last = i
		}

		// Somebody else asks for it, and it is not fetched again.
		fetched := r.requests("/a/-/1.0.0.tgz")
		hit := submit(t, s, other, npm("a", "1.0.0"))
		if hit.Status != store.ScanComplete || !hit.CacheHit || hit.AnalysisID != scan.AnalysisID || hit.Stage != "" || r.requests("/a/-/1.0.0.tgz") != fetched {
			t.Errorf("another organization gets %+v", hit)
		}
		if used, err := p.store.Org(other.OrgID).Used(t.Context(), "package-scans", store.Month(time.Now())); err != nil || used != 0 {
			t.Errorf("what was known counts %d, %v", used, err)
		}
		forced := npm("a", "1.0.0")
		forced.Force = true
		again, _ := await(t, s, by, submit(t, s, by, forced).ID)
		if again.Status != store.ScanComplete || again.CacheHit || again.AnalysisID == scan.AnalysisID {
			t.Errorf("made anew: %+v", again)
		}

		// Report and comparison are those of the command line.
		cli := app.New(app.Options{AllowPrivate: true})
		pkg := func(version string) target.Target {
			return target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "a", Version: version}
		}
		want, err := cli.Scan(t.Context(), app.ScanRequest{Target: pkg("1.0.0")})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Report(t.Context(), again.AnalysisID)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(settled(t, want), settled(t, got)); d != "" {
			t.Errorf("the report that is kept differs: %s", d)
		}
		await(t, s, by, submit(t, s, by, npm("a", "2.0.0")).ID)
		for _, v := range [][2]string{{"1.0.0", "2.0.0"}, {"2.0.0", "1.0.0"}, {"1.0.0", "1.0.0"}} {
			want, err := cli.Diff(t.Context(), app.DiffRequest{From: pkg(v[0]), To: pkg(v[1])})
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Compare(t.Context(), "npm", "a", v[0], v[1])
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(settledDiff(t, want), settledDiff(t, got)); d != "" {
				t.Errorf("the comparison of %v differs: %s", v, d)
			}
		}
		if _, err := s.Compare(t.Context(), "npm", "a", "1.0.0", "3.0.0"); !fault.Is(err, fault.NotFound) {
			t.Errorf("a comparison with what is not known: %v", err)
		}

		// To delete a scan that has ended forgets it, and not what it found.
		if err := s.CancelScan(t.Context(), by, scan.ID); err != nil {
			t.Error(err)
		}
		if _, err := s.PackageScan(t.Context(), by, scan.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("a deleted scan: %v", err)
		}
		if err := s.CancelScan(t.Context(), by, scan.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("deleted again: %v", err)
		}
		if err := s.CancelScan(t.Context(), other, again.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("deleted by somebody else: %v", err)
		}
		if _, err := s.AnalysisOf(t.Context(), "npm", "a", "1.0.0"); err != nil {
			t.Errorf("what a deleted scan found: %v", err)
		}

		// What another version of the program found is looked at anew.
		newer := p.open(t, app.ServerOptions{Options: app.Options{Version: "2"}})
		if scan := submit(t, newer, by, npm("a", "1.0.0")); scan.Status != store.ScanQueued {
			t.Errorf("a newer program takes what an older one found: %+v", scan)
		}
	})
}

func TestScanFails(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		r := newRegistry(t)
		r.publish(t, "a", "1.0.0", "open")
		s := p.open(t, app.ServerOptions{Workers: 2, ScanTime: time.Second})
		by := member(t, s, "a", "")
		for name, req := range map[string]app.PackageRequest{"a version": npm("a", "9.9.9"), "a package": npm("missing", "1.0.0")} {
			scan, _ := await(t, s, by, submit(t, s, by, req).ID)
			if scan.Status != store.ScanFailed || len(strings.Fields(scan.Error)) < 4 || scan.Error == "internal error" || scan.AnalysisID != "" {
				t.Errorf("%s that the registry lacks: %s, %q", name, scan.Status, scan.Error)
			}
		}
		// A registry that does not answer in time.
		gate := make(chan struct{})
		r.set(func(r *registry) { r.gate = gate })
		scan, _ := await(t, s, by, submit(t, s, by, npm("a", "1.0.0")).ID)
		if scan.Status != store.ScanFailed || !strings.Contains(scan.Error, "given up after 1s") {
			t.Errorf("out of time: %s, %q", scan.Status, scan.Error)
		}
		close(gate)
		// One that cannot answer is asked again, and comes back meanwhile.
		r.set(func(r *registry) { r.gate, r.status = nil, http.StatusServiceUnavailable })
		id := submit(t, s, by, npm("a", "1.0.0")).ID
		for before := r.requests("/a"); r.requests("/a") == before; time.Sleep(5 * time.Millisecond) {
		}
		time.Sleep(1500 * time.Millisecond) // in which the first attempt fails
		r.set(func(r *registry) { r.status = 0 })
		if scan, _ := await(t, s, by, id); scan.Status != store.ScanComplete {
			t.Errorf("after the registry came back: %s, %q", scan.Status, scan.Error)
		}
	})
}

// A registry that stays away fails a scan in the end, with the reason.
func TestRegistryStaysAway(t *testing.T) {
	p := &place{opt: storetest.Options(t, store.SQLite)}
	p.dir = filepath.Dir(p.opt.Path)
	r := newRegistry(t)
	r.set(func(r *registry) { r.status = http.StatusServiceUnavailable })
	s := p.open(t, app.ServerOptions{Workers: 1})
	by := member(t, s, "a", "")
	scan, _ := await(t, s, by, submit(t, s, by, npm("a", "1.0.0")).ID)
	if scan.Status != store.ScanFailed || !strings.Contains(scan.Error, "503") {
		t.Errorf("%s, %q; want that the registry answered 503", scan.Status, scan.Error)
	}
}

func TestCancelScan(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		r := newRegistry(t)
		r.publish(t, "a", "1.0.0", "open")
		gate := make(chan struct{})
		r.set(func(r *registry) { r.gate = gate })
		idle := p.open(t, app.ServerOptions{})
		by := member(t, idle, "a", "")
		queued := submit(t, idle, by, npm("a", "1.0.0"))
		if err := idle.CancelScan(t.Context(), by, queued.ID); err != nil {
			t.Fatal(err)
		}
		if scan, _ := await(t, idle, by, queued.ID); scan.Status != store.ScanCancelled || scan.CompletedAt.IsZero() {
			t.Errorf("cancelled while it waited: %+v", scan)
		}
		worker := p.open(t, app.ServerOptions{Workers: 1})
		running := submit(t, idle, by, npm("a", "1.0.0"))
		if running.ID == queued.ID {
			t.Fatal("a cancelled scan is taken for one that runs")
		}
		for r.requests("/a") == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		start := time.Now()
		if err := idle.CancelScan(t.Context(), by, running.ID); err != nil { // not where it runs
			t.Fatal(err)
		}
		if scan, _ := await(t, idle, by, running.ID); scan.Status != store.ScanCancelled {
			t.Errorf("cancelled while it ran: %+v", scan)
		}
		for free := false; !free; time.Sleep(5 * time.Millisecond) { // the worker has to stop, too
			figures, err := worker.Figures(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			free = true
			for _, c := range figures.Classes {
				free = free && (c.Class != "scan" || c.Running == 0)
			}
			if time.Since(start) > jobstest.Patience {
				t.Fatal("the worker goes on")
			}
		}
		if took := time.Since(start); took > 3*time.Second { // a second, and what a busy machine adds
			t.Errorf("it took %v", took)
		}
		close(gate)
		r.set(func(r *registry) { r.gate = nil })
		if scan, _ := await(t, idle, by, submit(t, idle, by, npm("a", "1.0.0")).ID); scan.Status != store.ScanComplete {
			t.Errorf("asked for anew: %+v", scan)
		}
	})
}

// What a worker leaves undone, another one does, once; and a scan whose job is
// gone gets another one.
func TestWorkersChange(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		r := newRegistry(t)
		r.publish(t, "a", "1.0.0", "open")
		gate := make(chan struct{})
		r.set(func(r *registry) { r.gate = gate })
		idle := p.open(t, app.ServerOptions{})
		by := member(t, idle, "a", "")
		orphan := submit(t, idle, by, npm("a", "1.0.0"))
		err := p.store.Write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Raw().NewRaw("DELETE FROM river_job").Exec(ctx)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		first, err := app.OpenServer(t.Context(), app.ServerOptions{
			Options: app.Options{DataDir: p.dir, AllowPrivate: true}, DatabaseURL: p.opt.URL, Workers: 1, Sandbox: sandbox.Off,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := first.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for r.requests("/a") == 0 { // it was adopted, and is at it
			time.Sleep(5 * time.Millisecond)
		}
		end(t, first)
		if scan, err := idle.PackageScan(t.Context(), by, orphan.ID); err != nil || !scan.Status.Open() {
			t.Errorf("after its worker stopped: %+v, %v", scan, err)
		}
		close(gate)
		r.set(func(r *registry) { r.gate = nil })
		p.open(t, app.ServerOptions{Workers: 1})
		if scan, _ := await(t, idle, by, orphan.ID); scan.Status != store.ScanComplete || scan.CacheHit {
			t.Errorf("another worker ended it as %+v", scan)
		}
		if _, total, err := idle.Versions(t.Context(), "npm", "a", app.Page{}); err != nil || total != 1 {
			t.Errorf("%d analyses, %v", total, err)
		}
	})
}

// Several organisations ask for the same at once, on several workers: all get
// one result.
func TestOneResult(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		r := newRegistry(t)
		r.publish(t, "a", "1.0.0", "open")
		s := p.open(t, app.ServerOptions{Workers: 2})
		p.open(t, app.ServerOptions{Workers: 2})
		results := map[string]bool{}
		var actors []*app.Actor
		var scans []string
		for i := range 6 {
			by := member(t, s, fmt.Sprint("org ", i), "")
			actors = append(actors, by)
			scans = append(scans, submit(t, s, by, npm("a", "1.0.0")).ID)
		}
		for i, id := range scans {
			scan, _ := await(t, s, actors[i], id)
			if scan.Status != store.ScanComplete {
				t.Errorf("scan %d: %+v", i, scan)
			}
			results[scan.AnalysisID] = true
		}
		if len(results) != 1 {
			t.Errorf("results %v; want one", results)
		}
	})
}

// Staff may see every organisation, and hears of one that there is not.
func TestStaff(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		s := p.open(t, app.ServerOptions{})
		by, other := member(t, s, "a", ""), member(t, s, "b", "")
		staff := *by
		staff.Scopes = []app.Scope{account.Staff}
		for name, ask := range map[string]func(a *app.Actor, org string) error{
			"organization": func(a *app.Actor, org string) error { _, _, err := s.Organization(t.Context(), a, org); return err },
			"repos": func(a *app.Actor, org string) error {
				_, _, err := s.Repos(t.Context(), a, org, app.Page{})
				return err
			},
			"add repo": func(a *app.Actor, org string) error {
				_, err := s.AddRepo(t.Context(), a, org, "o/"+strings.ToLower(a.OrgID[5:]))
				return err
			},
			"keys": func(a *app.Actor, org string) error { _, _, err := s.Keys(t.Context(), a, org, app.Page{}); return err },
			"create key": func(a *app.Actor, org string) error {
				_, _, err := s.CreateKey(t.Context(), a, org, app.KeyRequest{Label: "a"})
				return err
			},
			"watchlists": func(a *app.Actor, org string) error {
				_, _, err := s.Watchlists(t.Context(), a, org, app.Page{})
				return err
			},
			"watchlist": func(a *app.Actor, org string) error {
				_, err := s.CreateWatchlist(t.Context(), a, org, app.WatchlistRequest{Name: "a", Channel: "email", Destination: "a@b.example"})
				return err
			},
			"subscription": func(a *app.Actor, org string) error { _, err := s.Subscription(t.Context(), a, org); return err },
		} {
			if err := ask(other, by.OrgID); !fault.Is(err, fault.Forbidden) {
				t.Errorf("%s of others: %v", name, err)
			}
			if err := ask(other, "org_none"); !fault.Is(err, fault.Forbidden) {
				t.Errorf("%s of nobody: %v", name, err)
			}
			if err := ask(by, by.OrgID); err != nil {
				t.Errorf("%s of one's own: %v", name, err)
			}
			if err := ask(&staff, other.OrgID); err != nil {
				t.Errorf("%s of others, for staff: %v", name, err)
			}
			if err := ask(&staff, "org_none"); !fault.Is(err, fault.NotFound) {
				t.Errorf("%s of nobody, for staff: %v", name, err)
			}
		}
	})
}
