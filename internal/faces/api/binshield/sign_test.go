package binshield_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"
)

// signed returns the stripe-signature of a body.
func signed(body string) string {
	at := time.Now().Unix()
	mac := hmac.New(sha256.New, []byte(stripeSecret))
	fmt.Fprintf(mac, "%d.%s", at, body)
	return fmt.Sprintf("t=%d,v1=%x", at, mac.Sum(nil))
}
