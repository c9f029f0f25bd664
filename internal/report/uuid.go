package report

import (
	"crypto/sha1"
	"encoding/hex"
)

// uuid returns the UUID of a text under a URL of ours: the same for the same
// text, on any machine (RFC 9562, section 5.5, version 5).
func uuid(kind string, text []byte) string {
	h := sha1.New()
	h.Write(urlNamespace[:])
	h.Write([]byte(home + "/" + kind + "/"))
	h.Write(text)
	id := h.Sum(nil)[:16]
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	s := hex.EncodeToString(id)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// urlNamespace is the namespace of names that are URLs (RFC 9562, section 6.6).
var urlNamespace = [16]byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}

// noUUID stands in a document for the UUID that is computed from it.
const noUUID = "00000000-0000-0000-0000-000000000000"
