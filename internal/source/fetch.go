package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
)

const (
	// maxDocument bounds a registry's answer about one package. The largest
	// full ones of the public registries are near 60 MiB.
	maxDocument = 192 << 20

	// maxMemory is how much of the files of one target is held in memory;
	// the rest goes to temporary files.
	maxMemory = 32 << 20

	// maxFetched and maxParts bound what one package may make us download.
	maxFetched = 500 << 20
	maxParts   = 32

	// atOnce is how many files are fetched side by side.
	atOnce = 4
)

// A fetcher gets documents and files from registries for one target. What it
// trusts on the word of a registry it trusts alone.
type fetcher struct {
	egress   *egress.Client
	cache    *cache
	cacheDir string
	cacheErr error // why there is no cache though one is wanted
	tempDir  string
	progress func(done, total int64, what string)
	memory   atomic.Int64 // held by blobs

	mu    sync.Mutex // of progress and blobs
	blobs []*blob
}

func newFetcher(req Request) *fetcher {
	cache, err := openCache(req.CacheDir)
	return &fetcher{
		egress: req.Egress.Branch(), cache: cache, cacheDir: req.CacheDir, cacheErr: err,
		tempDir: req.TempDir, progress: req.Progress,
	}
}

// cacheNote says why the cache could not be used, or nothing.
func (f *fetcher) cacheNote() string {
	err := cmp.Or(f.cacheErr, f.cache.problem())
	if err == nil {
		return ""
	}
	return fmt.Sprintf("the cache in %s cannot be used: %v", oneLine(f.cacheDir), withoutPath(err))
}

// withoutPath is what the system says of a file without its name.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// close ends the readers of all files that were fetched.
func (f *fetcher) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.blobs {
		b.close()
	}
	f.blobs = nil
	f.egress.Close()
	f.cache.close()
	f.cache = nil
}

// A status is an answer other than success that its reader has to explain.
type status struct {
	code int
	host string
}

func (s status) Error() string { return s.host + " answers " + http.StatusText(s.code) }

// fault explains a status for which there is no better sentence.
func (s status) fault(settings string) error {
	switch s.code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return fault.New(fault.Forbidden, "%s refuses with %d %s", s.host, s.code, http.StatusText(s.code)).
			Try("check the credentials for it in %s", settings)
	}
	return fault.New(fault.Unavailable, "%s answers %d %s", s.host, s.code, http.StatusText(s.code)).
		Try("check the registry in %s", settings)
}

// document gets an answer about a package, from the cache if the registry says
// that it is unchanged or if there is no network to be used. An answer that
// there is no such thing is a document as well.
func (f *fetcher) document(ctx context.Context, rawURL, accept, authorization string) (*document, error) {
	kept := f.cache.document(rawURL, accept)
	if kept != nil && f.egress.Offline() {
		return kept, nil
	}
	header := http.Header{"Accept": {accept}}
	if authorization != "" {
		header.Set("Authorization", authorization)
	}
	if kept != nil && !kept.Missing {
		if kept.ETag != "" {
			header.Set("If-None-Match", kept.ETag)
		} else if kept.LastModified != "" {
			header.Set("If-Modified-Since", kept.LastModified)
		}
	}
	resp, err := f.egress.Get(ctx, rawURL, header, maxDocument)
	if fault.Is(err, fault.Exhausted) {
		return nil, fault.New(fault.Exhausted, "what %s says about the package is larger than the cap of %d MiB for metadata", hostOf(rawURL), maxDocument>>20).
			Try("check the registry in your settings, or download the package and scan it from disk").Because(err)
	}
	if err != nil {
		return nil, err
	}
	switch resp.Status {
	case http.StatusOK:
	case http.StatusNotModified:
		if kept != nil {
			return kept, nil
		}
		return nil, status{resp.Status, resp.URL.Host}
	case http.StatusNotFound, http.StatusGone:
		d := &document{Missing: true}
		f.cache.keepDocument(rawURL, accept, d)
		return d, nil
	default:
		return nil, status{resp.Status, resp.URL.Host}
	}
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	d := &document{
		URL:          clean(resp.URL),
		Type:         mediaType,
		ETag:         resp.Header.Get("ETag"),
		LastModified: resp.Header.Get("Last-Modified"),
		Body:         resp.Body,
	}
	f.cache.keepDocument(rawURL, accept, d)
	return d, nil
}

// clean writes a URL without credentials, query and fragment.
func clean(u *url.URL) string {
	c := *u
	c.User, c.RawQuery, c.Fragment, c.RawFragment = nil, "", "", ""
	return c.String()
}

// A blob is a file that was fetched whole and has the hash that was promised.
// It is open until its fetcher is closed.
type blob struct {
	io.ReaderAt
	size      int64
	algorithm string // of sum
	sum       []byte
	checked   bool // sum is what the registry promised
	close     func()
}

// A remote is a file of a registry.
type remote struct {
	url           string
	authorization string
	name          string // of the file, for progress and errors
	want          checksum
	max           int64 // bytes
}

// file downloads a file, checks its hash and keeps it in the cache, or takes it
// from there.
func (f *fetcher) file(ctx context.Context, r remote) (*blob, error) {
	if b := f.cache.open(r.want); b != nil {
		b.checked = true
		return f.own(b), nil
	}
	// Transparent decompression would hash something else than was published.
	header := http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"identity"}}
	if r.authorization != "" {
		header.Set("Authorization", r.authorization)
	}
	var s *sink
	err := f.egress.Fetch(ctx, r.url, header, r.max, func(resp *http.Response) error {
		if s != nil {
			s.discard() // an attempt that broke off
			s = nil
		}
		if resp.StatusCode != http.StatusOK {
			return status{resp.StatusCode, resp.Request.URL.Host}
		}
		s = &sink{f: f, hash: r.want.new()}
		_, err := io.CopyBuffer(s, &meter{resp.Body, f, 0, resp.ContentLength, r.name}, make([]byte, 64<<10))
		return err
	})
	if err != nil {
		if s != nil {
			s.discard()
		}
		if fault.Is(err, fault.Exhausted) {
			return nil, fault.New(fault.Exhausted, "%s is larger than the cap of %d MiB for one download", r.name, r.max>>20).
				Try("download it and scan it from disk").Because(err)
		}
		return nil, spoolFault(err)
	}
	sum := s.hash.Sum(nil)
	if r.want.known() && !r.want.matches(sum) {
		s.discard()
		return nil, mismatch(r.name, r.want, sum)
	}
	b, err := s.finish(r.want, sum)
	if err != nil {
		return nil, spoolFault(err)
	}
	return f.own(b), nil
}

func (f *fetcher) own(b *blob) *blob {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs = append(f.blobs, b)
	return b
}

// spoolFault explains a failure of the disk; other errors stay as they are.
func spoolFault(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return fault.New(fault.Unavailable, "a downloaded file cannot be stored: %v", path.Err).
			Try("make room in the temporary folder and the data folder").Because(err)
	}
	return err
}

func (f *fetcher) report(done, total int64, what string) {
	if f.progress != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.progress(done, total, what)
	}
}

// A meter reports what is read through it.
type meter struct {
	r     io.Reader
	f     *fetcher
	done  int64
	total int64 // -1 if unknown
	name  string
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.done += int64(n)
	m.f.report(m.done, m.total, m.name)
	return n, err
}

// A sink takes in a download: in a file of the cache if there is one, else in
// memory while there is room, else in a temporary file.
type sink struct {
	f    *fetcher
	hash hash.Hash
	mem  []byte
	file *os.File
	temp string // name of file in the cache; empty if it is elsewhere
	size int64
}

func (s *sink) Write(p []byte) (int, error) {
	s.hash.Write(p)
	s.size += int64(len(p))
	if s.size == int64(len(p)) && s.f.cache != nil {
		if file, name, err := s.f.cache.create(); err == nil {
			s.file, s.temp = file, name
		}
	}
	if s.temp != "" {
		n, err := s.file.Write(p)
		if err == nil {
			return n, nil
		}
		s.f.cache.fail(err)
		if err := s.leaveCache(s.size - int64(len(p))); err != nil {
			return 0, err
		}
	}
	return s.writeOutside(p)
}

// leaveCache moves the size bytes that came so far out of a cache that takes no
// more.
func (s *sink) leaveCache(size int64) error {
	file, temp := s.file, s.temp
	s.file, s.temp = nil, ""
	defer s.f.cache.root.Remove(temp)
	defer file.Close()
	_, err := io.Copy(writerFunc(s.writeOutside), io.NewSectionReader(file, 0, size))
	return err
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

// writeOutside takes bytes in without the cache.
func (s *sink) writeOutside(p []byte) (int, error) {
	if s.file == nil {
		if s.f.memory.Add(int64(len(p))) <= maxMemory {
			s.mem = append(s.mem, p...)
			return len(p), nil
		}
		s.f.memory.Add(-int64(len(p)))
		var err error
		if s.file, err = os.CreateTemp(s.f.tempDir, "loupe-*"); err != nil {
			return 0, err
		}
		os.Remove(s.file.Name()) // at once where the system allows it, else in close
		if _, err := s.file.Write(s.mem); err != nil {
			return 0, err
		}
		s.f.memory.Add(-int64(len(s.mem)))
		s.mem = nil
	}
	return s.file.Write(p)
}

func (s *sink) discard() {
	s.f.memory.Add(-int64(len(s.mem)))
	s.mem = nil
	if s.file != nil {
		s.file.Close()
		s.remove()
	}
}

func (s *sink) remove() {
	if s.temp != "" {
		s.f.cache.root.Remove(s.temp)
	} else {
		os.Remove(s.file.Name())
	}
}

// finish makes a blob of what came in. In the cache it gets its final name if
// its hash was promised; what was not promised cannot be asked for again.
func (s *sink) finish(want checksum, sum []byte) (*blob, error) {
	b := &blob{size: s.size, algorithm: cmp.Or(want.algorithm, "sha512"), sum: sum, checked: want.known()}
	if s.file == nil {
		mem := s.mem
		b.ReaderAt = bytes.NewReader(mem)
		b.close = sync.OnceFunc(func() { s.f.memory.Add(-int64(len(mem))) })
		return b, nil
	}
	if s.temp == "" || !want.known() {
		b.ReaderAt = s.file
		b.close = sync.OnceFunc(func() { s.file.Close(); s.remove() })
		return b, nil
	}
	// Closed first, because not every system renames open files.
	if err := s.file.Close(); err != nil {
		s.remove()
		return nil, err
	}
	name := blobName(want.algorithm, sum)
	kept := s.f.cache.keep(s.temp, name) == nil
	if !kept {
		name = s.temp
	}
	file, err := s.f.cache.root.Open(name)
	if err != nil {
		return nil, err
	}
	b.ReaderAt = file
	b.close = sync.OnceFunc(func() {
		file.Close()
		if !kept {
			s.remove()
		}
	})
	return b, nil
}

// inOrder runs do for each index below n, at most limit at once, and hands the
// results to take in order until take says no; what runs then is waited for.
// It ends at the first error in order.
func inOrder[T any](ctx context.Context, n, limit int, do func(context.Context, int) (T, error), take func(int, T) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	type result struct {
		value T
		err   error
	}
	results := make([]chan result, n)
	started := 0
	start := func() {
		i, done := started, make(chan result, 1)
		results[i] = done
		started++
		running.Go(func() {
			v, err := do(ctx, i)
			done <- result{v, err}
		})
	}
	for range min(limit, n) {
		start()
	}
	for i := range n {
		r := <-results[i]
		if r.err != nil {
			return r.err
		}
		if !take(i, r.value) {
			return nil
		}
		if started < n {
			start()
		}
	}
	return nil
}

// hostOf names the host of a URL for a message.
func hostOf(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil {
		return u.Host
	}
	return "the registry"
}

// sameOrigin reports whether two URLs have scheme, host and port in common.
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Host, b.Host)
}
