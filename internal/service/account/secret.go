package account

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"math/big"
	"strings"

	"github.com/loupe-sec/loupe/internal/service/store"
)

// A Brand is the API after which a key is named. Any key works in any API.
type Brand struct {
	Name   string
	Prefix string
	Scopes []Scope // where nothing else is said
}

// Brands lists the brands.
var Brands = []Brand{
	{"binshield", "bsh_live_", []Scope{Admin}},
	{"securityscanner", "sk-sec-", []Scope{Admin}},
	{"cxray", "cxr_", []Scope{Admin}},
	{"bedefended", "bd_sk_", []Scope{CIReview}},
	{"breachlens", "blt_", []Scope{ScansTrigger, ScansRead, FindingsRead}},
}

// brandOf returns the brand of a name.
func brandOf(name string) (Brand, bool) {
	for _, b := range Brands {
		if b.Name == name {
			return b, true
		}
	}
	return Brand{}, false
}

const (
	base62   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	random   = 32 // letters of 190 bits
	checksum = 6  // letters of CRC-32, so that what is no key is refused without a query
)

// newSecret returns the text of a new key: prefix, random letters, checksum of
// both.
func newSecret(b Brand) string {
	letters := make([]byte, random)
	for i := range letters {
		n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(base62)))) // never fails (crypto/rand)
		letters[i] = base62[n.Int64()]
	}
	text := b.Prefix + string(letters)
	return text + sumOf(text)
}

// sumOf returns the CRC-32 (IEEE 802.3) of a text in base 62, the highest digit
// first.
func sumOf(text string) string {
	n := crc32.ChecksumIEEE([]byte(text))
	digits := make([]byte, checksum)
	for i := range digits {
		digits[checksum-1-i] = base62[n%62]
		n /= 62
	}
	return string(digits)
}

// wellFormed says whether a text can be a key that we gave out.
func wellFormed(key string) bool {
	for _, b := range Brands {
		if rest, ok := strings.CutPrefix(key, b.Prefix); ok && len(rest) == random+checksum && strings.Trim(rest, base62) == "" {
			at := len(key) - checksum
			return sumOf(key[:at]) == key[at:]
		}
	}
	return false
}

// hashed returns by what a key is found. There is no need for a slow hash, as
// nobody guesses 190 bits.
func hashed(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// shown returns what is kept of the text of a key to tell it from others: its
// first 12 letters and its last four.
func shown(key string) (prefix, last4 string) { return key[:12], key[len(key)-4:] }

// Masked shows enough of a key to tell it from others: its brand and its last
// four letters.
func Masked(k *store.Key) string {
	b, _ := brandOf(k.Brand)
	return b.Prefix + "****" + k.Last4
}
