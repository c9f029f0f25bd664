package scan

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A Cache keeps what pure scanners reported from scan to scan. Its methods are
// called from several goroutines at once.
type Cache interface {
	// Get returns what was kept under a key, if that is still whole.
	Get(k Key) (text []byte, ok bool)

	// Put keeps a text, and reports whether it did.
	Put(k Key, text []byte) (ok bool)
}

// A Key names what one scanner reports of one content.
type Key struct {
	Content string // SHA-256, hex
	Recipe  string // of what else it depends on: the scanner, its rules; hex, as long
}

// A DiskCache is a Cache in files of a folder: <2 hex>/<SHA-256 of the
// content>.<what else it depends on>. Processes may share one.
//
// It holds what reports hold, where secrets are redacted, and none of the bytes
// that were scanned. A file that is broken, or not of a cache, is as good as
// none, and is written anew.
type DiskCache struct {
	root    *os.Root
	program string
	most    int64 // bytes in one of the 256 folders
}

// CacheSize is how large all files of a cache should get together, in bytes.
const CacheSize = 512 << 20

const (
	// maxEntry is how much one call may have reported to be kept, in bytes:
	// no report comes near it.
	maxEntry = 64 << 20

	// refresh is how old a file may get before its use is noted.
	refresh = 24 * time.Hour

	// abandoned is after what time a file that somebody began to write, and
	// did not give its name, is taken for left behind.
	abandoned = time.Hour

	cacheMagic = "loupe results 1\n"
)

// OpenCache opens the cache in a folder, which is made if need be. The program
// is a text that changes whenever equal input could give other results: what
// another program wrote is never read. The size is of all files together, more
// or less: each folder has an equal share, and drops what was not used for
// longest to stay below it.
func OpenCache(dir, program string, size int64) (*DiskCache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &DiskCache{root: root, program: program, most: size / 256}, nil
}

// Close lets go of the folder.
func (c *DiskCache) Close() error { return c.root.Close() }

// place returns the file of a key, and what it begins with, up to the checksum
// of the rest. A part of a hash is enough for the name: the whole is inside.
func (c *DiskCache) place(k Key) (name string, header []byte) {
	rest := sha256.Sum256(fmt.Appendf(nil, "%q %q", c.program, k.Recipe))
	name = path.Join(k.Content[:2], k.Content+"."+hex.EncodeToString(rest[:8]))
	return name, fmt.Appendf(nil, "%s%s\n%x\n", cacheMagic, k.Content, rest)
}

// Get implements [Cache].
func (c *DiskCache) Get(k Key) ([]byte, bool) {
	name, header := c.place(k)
	info, err := c.root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxEntry {
		return nil, false
	}
	data, err := c.root.ReadFile(name)
	if err != nil {
		return nil, false
	}
	rest, ok := bytes.CutPrefix(data, header)
	if !ok || len(rest) < sha256.Size {
		return nil, false
	}
	packed := rest[sha256.Size:]
	if sum := sha256.Sum256(packed); !bytes.Equal(sum[:], rest[:sha256.Size]) {
		return nil, false
	}
	text, err := unpack(packed)
	if err != nil {
		return nil, false
	}
	if now := time.Now(); now.Sub(info.ModTime()) > refresh {
		_ = c.root.Chtimes(name, now, now) // else it goes a little early
	}
	return text, true
}

// Put implements [Cache].
func (c *DiskCache) Put(k Key, text []byte) bool {
	if len(text) > maxEntry {
		return false
	}
	name, header := c.place(k)
	packed := pack(text)
	sum := sha256.Sum256(packed)
	data := slices.Concat(header, sum[:], packed)
	if int64(len(data)) > c.most/2 {
		return false
	}
	dir := path.Dir(name)
	if err := c.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return false
	}
	if err := c.write(name, data); err != nil {
		return false
	}
	c.trim(dir)
	return true
}

// write writes a file whole or not at all. There is no need to wait for the
// disk: what a crash leaves half written has the wrong checksum.
func (c *DiskCache) write(name string, data []byte) error {
	tmp := path.Join(path.Dir(name), "."+rand.Text())
	f, err := c.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = cmp.Or(err, f.Close()); err == nil {
		err = c.root.Rename(tmp, name)
	}
	if err != nil {
		_ = c.root.Remove(tmp) // it is dropped as abandoned otherwise
	}
	return err
}

// trim drops the oldest files of one folder until the rest is within its share.
func (c *DiskCache) trim(dir string) {
	entries, err := fs.ReadDir(c.root.FS(), dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	var size int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if e.Name()[0] == '.' && time.Since(info.ModTime()) < abandoned {
			continue // somebody is writing it
		}
		files = append(files, info)
		size += info.Size()
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if f.Name()[0] != '.' && size <= c.most {
			continue
		}
		if c.root.Remove(path.Join(dir, f.Name())) == nil {
			size -= f.Size()
		}
	}
}

// packers are made when first needed: many scans have nothing to keep.
var (
	packer = sync.OnceValue(func() *zstd.Encoder {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(256<<10), zstd.WithEncoderCRC(false))
		if err != nil {
			panic(err) // the options are constant
		}
		return z
	})
	unpacker = sync.OnceValue(func() *zstd.Decoder {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxEntry))
		if err != nil {
			panic(err) // the options are constant
		}
		return z
	})
)

func pack(text []byte) []byte { return packer().EncodeAll(text, nil) }

func unpack(packed []byte) ([]byte, error) {
	text, err := unpacker().DecodeAll(packed, nil)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", errEncoded, err)
	}
	return text, err
}
