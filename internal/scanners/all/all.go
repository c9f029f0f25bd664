// Package all lists the scanners. To add one, put it here.
package all

import (
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/scanners/embedded"
	"github.com/loupe-sec/loupe/internal/scanners/install"
	"github.com/loupe-sec/loupe/internal/scanners/layout"
	"github.com/loupe-sec/loupe/internal/scanners/native"
	"github.com/loupe-sec/loupe/internal/scanners/signature"
	"github.com/loupe-sec/loupe/internal/scanners/sourcematch"
)

// Scanners is every scanner, in the order of the documentation.
var Scanners = []*scan.Scanner{
	native.Scanner,
	install.Scanner,
	install.Fetched,
	embedded.Scanner,
	layout.Scanner,
	signature.Scanner,
	sourcematch.Sources,
	sourcematch.Scanner,
}
