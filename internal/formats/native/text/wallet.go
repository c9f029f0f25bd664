package text

import (
	"bytes"
	"crypto/sha256"
	"math/big"
	"strings"
)

// onion looks at what stands before ".onion": 56 characters of base 32 for
// today's services (Tor rend-spec-v3), 16 for those before.
func (s *search) onion(b []byte, start, end int) {
	from := start
	for from > 0 && start-from < 57 && (b[from-1] >= 'a' && b[from-1] <= 'z' || b[from-1] >= '2' && b[from-1] <= '7') {
		from--
	}
	switch n := start - from; {
	case n >= 56:
		s.keep(Onion, 98, b, start-56, end)
	case n == 16:
		s.keep(Onion, 85, b, from, end)
	}
}

const bech32Letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// bech32 checks a segwit address: BIP 173 and, from version 1 on, BIP 350.
func (s *search) bech32(b []byte, start, end int) {
	from := start
	if isAlnum(at(b, from-1)) {
		return
	}
	stop := from + len("bc1")
	sum := uint32(1)
	for _, v := range []byte{3, 3, 0, 2, 3} { // "bc", expanded
		sum = polymod(sum, v)
	}
	for stop < len(b) && stop-from <= 90 {
		v := strings.IndexByte(bech32Letters, b[stop])
		if v < 0 {
			break
		}
		sum = polymod(sum, byte(v))
		stop++
	}
	const bech32, bech32m = 1, 0x2bc830a3
	if stop-from >= 42 && (sum == bech32 || sum == bech32m) {
		s.keep(Wallet, 92, b, from, stop)
	}
}

func polymod(sum uint32, v byte) uint32 {
	top := sum >> 25
	sum = sum&0x1ffffff<<5 ^ uint32(v)
	for i, g := range []uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
		if top>>i&1 != 0 {
			sum ^= g
		}
	}
	return sum
}

// ethereum looks for 40 hex digits that stand alone. Digits in one case carry
// no checksum and may be any hash of 20 bytes, so they count for less.
func (s *search) ethereum(b []byte, start, end int) {
	stop := end
	upper, lower := false, false
	for stop < len(b) && isHex(b[stop]) && stop-end <= 40 {
		upper = upper || b[stop] >= 'A' && b[stop] <= 'F'
		lower = lower || b[stop] >= 'a' && b[stop] <= 'f'
		stop++
	}
	if stop-end != 40 || isAlnum(at(b, start-1)) || isAlnum(at(b, stop)) || !upper && !lower {
		return
	}
	score := 50
	if upper && lower {
		score = 88
	}
	s.keep(Wallet, score, b, start, stop)
}

const base58Letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// base58 checks whether all of b is a Bitcoin address by its checksum, or has
// the form of a Monero address.
func (s *search) base58(b []byte) {
	switch {
	case len(b) >= 26 && len(b) <= 35 && (b[0] == '1' || b[0] == '3'):
	case len(b) == 95 && (b[0] == '4' || b[0] == '8'):
	default:
		return
	}
	n := new(big.Int)
	for _, c := range b {
		v := strings.IndexByte(base58Letters, c)
		if v < 0 {
			return
		}
		n.Add(n.Mul(n, big.NewInt(58)), big.NewInt(int64(v)))
	}
	if len(b) == 95 {
		s.keep(Wallet, 85, b, 0, len(b))
		return
	}
	const size = 25 // version, 20 bytes of hash, checksum
	if n.BitLen() > 8*size {
		return
	}
	raw := n.FillBytes(make([]byte, size))
	once := sha256.Sum256(raw[:size-4])
	twice := sha256.Sum256(once[:])
	if bytes.Equal(twice[:4], raw[size-4:]) {
		s.keep(Wallet, 95, b, 0, len(b))
	}
}
