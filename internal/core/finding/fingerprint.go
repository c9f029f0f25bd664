package finding

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// A Fingerprint names the same problem across scans: "1:" and 32 hex digits.
// The number is the version of the scheme, so that it can change once,
// knowingly.
type Fingerprint string

const scheme = "1"

// Identify computes the fingerprint of f from its rule, its place without line
// numbers, its anchor, and n, its index among equals in the same scan. The
// parts are length-prefixed, so that no two lists of parts can be confused.
func Identify(f Finding, n int) Fingerprint {
	h := sha256.New()
	for _, part := range []string{
		scheme, f.Rule, f.Location.Path, f.Location.URL, f.Location.Symbol,
		f.PURL, f.Advisory, strings.Join(strings.Fields(f.Anchor), " "), strconv.Itoa(n),
	} {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	return Fingerprint(scheme + ":" + hex.EncodeToString(h.Sum(nil)[:16]))
}

// Arrange sorts findings and gives each its fingerprint, so that the result
// does not depend on the order in which they were found.
func Arrange(fs []Finding) {
	slices.SortStableFunc(fs, Compare)
	seen := make(map[Fingerprint]int, len(fs))
	for i := range fs {
		base := Identify(fs[i], 0)
		fs[i].Fingerprint = Identify(fs[i], seen[base])
		seen[base]++
	}
}

// Digest returns a short digest of a value that must not be stored itself, for
// use as an anchor.
func Digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:8])
}
