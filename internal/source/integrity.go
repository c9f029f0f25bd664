package source

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// algorithms lists the hashes that registries give, strongest first.
var algorithms = []struct {
	name string
	new  func() hash.Hash
}{
	{"sha512", sha512.New},
	{"sha384", sha512.New384},
	{"sha256", sha256.New},
	{"sha224", sha256.New224},
	{"sha1", sha1.New},
	{"md5", md5.New},
}

// A checksum is what a file must hash to: any one of sums, by one algorithm.
// The zero value means that the registry gave none that is known.
type checksum struct {
	algorithm string
	sums      [][]byte
}

func (c checksum) known() bool { return c.algorithm != "" }

func (c checksum) new() hash.Hash {
	for _, a := range algorithms {
		if a.name == c.algorithm {
			return a.new()
		}
	}
	return sha512.New()
}

func (c checksum) matches(sum []byte) bool {
	for _, s := range c.sums {
		if bytes.Equal(s, sum) {
			return true
		}
	}
	return false
}

// strongest picks from pairs of algorithm and sum those of the strongest
// algorithm; pairs that cannot be a hash are left out.
func strongest(pairs [][2]string, decode func(string) ([]byte, error)) checksum {
	for _, a := range algorithms {
		c := checksum{algorithm: a.name}
		for _, p := range pairs {
			sum, err := decode(p[1])
			if strings.EqualFold(p[0], a.name) && err == nil && len(sum) == a.new().Size() {
				c.sums = append(c.sums, sum)
			}
		}
		if c.sums != nil {
			return c
		}
	}
	return checksum{}
}

// parseIntegrity reads npm's dist: integrity is a list of hashes as in the W3C
// recommendation "Subresource Integrity" (section 3.5), shasum the SHA-1 in
// hexadecimal of packages from before it.
func parseIntegrity(integrity, shasum string) checksum {
	var pairs [][2]string
	for token := range strings.FieldsSeq(integrity) {
		token, _, _ = strings.Cut(token, "?") // options, none are defined
		if algorithm, sum, ok := strings.Cut(token, "-"); ok {
			pairs = append(pairs, [2]string{algorithm, sum})
		}
	}
	if c := strongest(pairs, base64.StdEncoding.DecodeString); c.known() {
		return c
	}
	return strongest([][2]string{{"sha1", shasum}}, hex.DecodeString)
}

// mismatch is the error for a file whose hash is not the promised one.
func mismatch(what string, want checksum, got []byte) error {
	return fault.New(fault.Corrupt, "%s is not what the registry promised: its %s should begin with %s but begins with %s",
		what, want.algorithm, short(want.sums[0]), short(got)).
		Try("do not install it, and tell the operator of the registry if it stays so")
}

func short(sum []byte) string { return hex.EncodeToString(sum[:min(len(sum), 6)]) }

// sri writes a digest as npm does, hexDigest as PyPI does.
func sri(algorithm string, sum []byte) string {
	return algorithm + "-" + base64.StdEncoding.EncodeToString(sum)
}

func hexDigest(algorithm string, sum []byte) string {
	return algorithm + "-" + hex.EncodeToString(sum)
}
