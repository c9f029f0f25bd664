package groundtruth

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"
)

// tables returns the constants that ciphers and hashes compute with, in the
// order of bytes of little-endian machines. They are worked out from what their
// standards say they are.
func tables() map[string][]byte {
	return map[string][]byte{"aes": substitution(), "sha256": cubeRoots(), "blowfish": digitsOfPi(18 + 256), "chacha": []byte("expand 32-byte k"), "md5": sines()}
}

// substitution is the S-box of FIPS 197, section 5.1.1: the inverse in GF(2⁸),
// then an affine map.
func substitution() []byte {
	out := make([]byte, 256)
	p, q := byte(1), byte(1)
	for {
		p ^= p<<1 ^ (p>>7)*0x1b // times 3, which generates the field
		q ^= q << 1             // divided by 3
		q ^= q << 2
		q ^= q << 4
		q ^= (q >> 7) * 0x09
		out[p] = q ^ bits.RotateLeft8(q, 1) ^ bits.RotateLeft8(q, 2) ^ bits.RotateLeft8(q, 3) ^ bits.RotateLeft8(q, 4) ^ 0x63
		if p == 1 {
			break
		}
	}
	out[0] = 0x63
	return out
}

// cubeRoots are the constants of FIPS 180-4, section 4.2.2: the first 32 bits
// of the fractions of the cube roots of the first 64 primes.
func cubeRoots() []byte {
	var out []byte
	for n := int64(2); len(out) < 64*4; n++ {
		if !big.NewInt(n).ProbablyPrime(0) {
			continue
		}
		cube := new(big.Int).Lsh(big.NewInt(n), 96)
		root := new(big.Int).Lsh(big.NewInt(1), 36)
		for { // Newton's way down to the root of n·2⁹⁶
			next := new(big.Int).Div(cube, new(big.Int).Mul(root, root))
			next.Add(next, new(big.Int).Lsh(root, 1)).Div(next, big.NewInt(3))
			if next.Cmp(root) >= 0 {
				break
			}
			root = next
		}
		out = binary.LittleEndian.AppendUint32(out, uint32(root.Uint64()))
	}
	return out
}

// digitsOfPi are the words with which Blowfish begins: the fraction of pi.
func digitsOfPi(words int) []byte {
	guard := uint(64)
	one := new(big.Int).Lsh(big.NewInt(1), uint(32*words)+guard)
	arctan := func(x int64) *big.Int { // of 1/x
		sum, term := new(big.Int), new(big.Int).Div(one, big.NewInt(x))
		for i := int64(0); term.Sign() != 0; i++ {
			part := new(big.Int).Div(term, big.NewInt(2*i+1))
			if i%2 == 1 {
				part.Neg(part)
			}
			sum.Add(sum, part)
			term.Div(term, big.NewInt(x*x))
		}
		return sum
	}
	pi := new(big.Int).Lsh(arctan(5), 2) // Machin: π/4 = 4·arctan(1/5) − arctan(1/239)
	pi.Sub(pi, arctan(239)).Lsh(pi, 2)
	pi.Rsh(pi.Sub(pi, new(big.Int).Mul(one, big.NewInt(3))), guard)
	raw := pi.FillBytes(make([]byte, 4*words))
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i += 4 {
		out = binary.LittleEndian.AppendUint32(out, binary.BigEndian.Uint32(raw[i:]))
	}
	return out
}

// sines are the constants of RFC 1321, section 3.4: 2³² times the sines of 1
// to 64.
func sines() []byte {
	var out []byte
	for i := 1; i <= 64; i++ {
		out = binary.LittleEndian.AppendUint32(out, uint32(math.Floor(math.Abs(math.Sin(float64(i)))*(1<<32))))
	}
	return out
}
