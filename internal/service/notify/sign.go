package notify

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// secretPrefix marks a secret that is base64 (Standard Webhooks, "Signature
// scheme").
const secretPrefix = "whsec_"

// NewSecret returns a secret to sign the messages of a webhook with.
func NewSecret() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return secretPrefix + base64.StdEncoding.EncodeToString(b)
}

// CheckSecret says why messages cannot be signed with a secret, or nil.
func CheckSecret(secret string) error {
	switch text, ok := strings.CutPrefix(secret, secretPrefix); {
	case len(secret) > 200 || strings.ContainsFunc(secret, unicode.IsControl) || !utf8.ValidString(secret):
		return fault.New(fault.Invalid, "secret: at most 200 letters").In("secret", nil)
	case ok && len(decode(text)) == 0:
		return fault.New(fault.Invalid, "secret: no base64 after %s", secretPrefix).In("secret", nil)
	}
	return nil
}

// decode reads base64 with or without its padding, or returns nil.
func decode(text string) []byte {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil
	}
	return b
}

// sign adds the headers by which a receiver knows a message: its id, the time of
// the attempt, and a signature over both and the body (Standard Webhooks 1.0).
func sign(h http.Header, id string, at time.Time, body []byte, secret string) {
	key := []byte(secret)
	if text, ok := strings.CutPrefix(secret, secretPrefix); ok {
		key = decode(text)
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", id, stamp)
	mac.Write(body)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", stamp)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}
