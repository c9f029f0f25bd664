package scan

import (
	"path"

	"github.com/loupe-sec/loupe/internal/core/pattern"
)

var frame = pattern.New(`(?m)^\t(.+\.go:\d+)`)

// place returns the file and line where a panic arose, by its stack: the first
// frame below those of the runtime that raised it.
func place(stack []byte) string {
	raised := false
	for _, m := range frame.FindAllSubmatch(stack, -1) {
		at := string(m[1])
		dir := path.Base(path.Dir(at))
		if raised && dir != "runtime" {
			return dir + "/" + path.Base(at)
		}
		raised = raised || dir == "runtime"
	}
	return "an unknown place"
}
