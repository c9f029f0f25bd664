package source

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync/atomic"
	"time"
)

// maxCache bounds the cache folder, in bytes; the files that were not used for
// longest go first.
const maxCache = 1 << 30

// A cache keeps what registries served: files under their hash, which is
// checked again whenever one is read, and documents with the validators that
// let the registry say "unchanged". A nil cache keeps nothing, and a failure to
// keep something is no failure of a scan, but ends the keeping.
type cache struct {
	root   *os.Root
	failed atomic.Pointer[error] // the first failure to keep something
}

// openCache opens the cache in dir; without one there is none.
func openCache(dir string) (*cache, error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &cache{root: root}, nil
}

// fail records why nothing more is kept.
func (c *cache) fail(err error) { c.failed.CompareAndSwap(nil, &err) }

// problem returns why the cache could not be used, or nil.
func (c *cache) problem() error {
	if c == nil || c.failed.Load() == nil {
		return nil
	}
	return *c.failed.Load()
}

func (c *cache) close() {
	if c == nil {
		return
	}
	if c.due() {
		c.trim(maxCache)
	}
	c.root.Close()
}

// trimmed is the file whose time says when the cache was trimmed last. In a
// server scans come by the second, and to look at all files takes longer than a
// small scan once there are many.
const trimmed = "trimmed"

// due says whether the cache was not trimmed within a minute, and notes that it
// is now.
func (c *cache) due() bool {
	if info, err := c.root.Stat(trimmed); err == nil && time.Since(info.ModTime()).Abs() < time.Minute {
		return false
	}
	if err := c.root.WriteFile(trimmed, nil, 0o600); err != nil {
		return true
	}
	c.used(trimmed)
	return true
}

// create opens a new file that nobody else sees until keep renames it.
func (c *cache) create() (*os.File, string, error) {
	if err := c.problem(); err != nil {
		return nil, "", err
	}
	name := "new-" + rand.Text()
	f, err := c.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		c.fail(err)
	}
	return f, name, err
}

// keep gives a file its final name at once.
func (c *cache) keep(temp, name string) error {
	err := c.root.MkdirAll(path.Dir(name), 0o700)
	if err == nil {
		err = c.root.Rename(temp, name)
	}
	if err != nil {
		c.fail(err)
	}
	return err
}

func blobName(algorithm string, sum []byte) string {
	h := hex.EncodeToString(sum)
	return path.Join("files", algorithm, h[:2], h)
}

// open returns the kept file with one of the wanted hashes, after checking that
// it has it, or nil.
func (c *cache) open(want checksum) *blob {
	if c == nil {
		return nil
	}
	for _, sum := range want.sums {
		name := blobName(want.algorithm, sum)
		f, err := c.root.Open(name)
		if err != nil {
			continue
		}
		h := want.new()
		size, err := io.Copy(h, f)
		if err != nil || !bytes.Equal(h.Sum(nil), sum) {
			f.Close()
			c.root.Remove(name) // a disk failed, or somebody wrote to it
			continue
		}
		c.used(name)
		return &blob{ReaderAt: f, size: size, algorithm: want.algorithm, sum: sum, close: func() { f.Close() }}
	}
	return nil
}

func (c *cache) used(name string) {
	now := time.Now()
	_ = c.root.Chtimes(name, now, now) // at worst it goes too early
}

// A document is a registry's answer about a package.
type document struct {
	URL          string // after redirects: what relative links in it are relative to
	Type         string // media type
	ETag         string
	LastModified string
	Missing      bool   // the registry says that there is no such thing
	Body         []byte `json:"-"`
}

func documentName(url, accept string) string {
	sum := sha256.Sum256([]byte(url + "\n" + accept))
	return path.Join("documents", hex.EncodeToString(sum[:]))
}

// document returns the kept answer to a request, or nil.
func (c *cache) document(url, accept string) *document {
	if c == nil {
		return nil
	}
	name := documentName(url, accept)
	data, err := c.root.ReadFile(name)
	if err != nil {
		return nil
	}
	head, body, _ := bytes.Cut(data, []byte{'\n'})
	d := &document{Body: body}
	if json.Unmarshal(head, d) != nil {
		return nil
	}
	c.used(name)
	return d
}

func (c *cache) keepDocument(url, accept string, d *document) {
	if c == nil {
		return
	}
	head, err := json.Marshal(d)
	if err != nil {
		return
	}
	f, temp, err := c.create()
	if err != nil {
		return
	}
	_, err1 := f.Write(append(head, '\n'))
	_, err2 := f.Write(d.Body)
	if err := cmp.Or(err1, err2, f.Close()); err != nil {
		c.fail(err)
		c.root.Remove(temp)
	} else if c.keep(temp, documentName(url, accept)) != nil {
		c.root.Remove(temp)
	}
}

// trim removes the files that were used longest ago until all fit in limit
// bytes, and what an interrupted run left behind.
func (c *cache) trim(limit int64) {
	type file struct {
		name string
		size int64
		used time.Time
	}
	var files []file
	var total int64
	_ = fs.WalkDir(c.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() { // what cannot be looked at stays
			if info, err := d.Info(); err == nil {
				if path.Dir(name) == "." && time.Since(info.ModTime()) > time.Hour {
					c.root.Remove(name)
				} else {
					files = append(files, file{name, info.Size(), info.ModTime()})
					total += info.Size()
				}
			}
		}
		return nil
	})
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if total <= limit {
			return
		}
		if path.Dir(f.name) != "." && c.root.Remove(f.name) == nil {
			total -= f.size
		}
	}
}
