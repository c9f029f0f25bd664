package account

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// The cost of a password, by the second choice of RFC 9106, section 4: 64 MiB,
// three passes, four lanes.
const (
	passes = 3
	memory = 64 << 10 // KiB
	lanes  = 4
	length = 32 // of the hash, in bytes
)

// Passwords are between these lengths, in bytes: short ones are guessed, and
// long ones only cost us time.
const shortest, longest = 10, 256

// hashPassword returns what is kept of a password, in PHC string format.
func hashPassword(password string) (string, error) {
	if len(password) < shortest || len(password) > longest {
		return "", fault.New(fault.Invalid, "a password has %d to %d bytes", shortest, longest).In("password", nil)
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	sum := argon2.IDKey([]byte(password), salt, passes, memory, lanes, length)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, lanes, b64.EncodeToString(salt), b64.EncodeToString(sum)), nil
}

// CheckPassword says whether a password is the one of which hash, in PHC string
// format, was kept.
func CheckPassword(hash, password string) bool {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) || len(password) > longest {
		return false
	}
	var m, t uint32
	var p uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &m, &t, &p); err != nil || t == 0 || p == 0 {
		return false
	}
	b64 := base64.RawStdEncoding
	salt, err1 := b64.DecodeString(parts[4])
	want, err2 := b64.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(want) == 0 {
		return false
	}
	return subtle.ConstantTimeCompare(argon2.IDKey([]byte(password), salt, t, m, p, uint32(len(want))), want) == 1
}
