package app

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/loupe-sec/loupe/internal/core/scan"
)

// results opens the cache of what earlier scans found out. It is nil if there
// is none: a scan without it takes longer, and is none the worse.
func (a *App) results(req ScanRequest) (cache scan.Cache, done func()) {
	none := func() {}
	if a.opt.DataDir == "" || req.NoCache {
		return nil, none
	}
	program := build()
	if program == "" {
		return nil, none
	}
	c, err := scan.OpenCache(filepath.Join(a.opt.DataDir, "cache", "results"), a.opt.Version+" "+program, scan.CacheSize)
	if err != nil {
		return nil, none
	}
	return c, func() { c.Close() }
}

// build tells this program from all that were built from other source, which
// may have the same version: while it is developed, versions say little.
var build = sync.OnceValue(func() string {
	name, err := os.Executable()
	if err != nil {
		return ""
	}
	info, err := os.Stat(name)
	if err != nil {
		return ""
	}
	id := fmt.Sprintf("%d %d", info.Size(), info.ModTime().UnixNano())
	if b, ok := debug.ReadBuildInfo(); ok { // where builds give all files one time, the revision tells
		for _, setting := range b.Settings {
			if strings.HasPrefix(setting.Key, "vcs.") {
				id += " " + setting.Value
			}
		}
	}
	return id
})
