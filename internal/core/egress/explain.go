package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

var (
	errTotal = errors.New("the request took too long")
	errSlow  = errors.New("the answer came too slowly")
)

const checkNetwork = "check the network, the proxy and the registry settings, then try again"

// Explain turns an error of the network about host into a fault whose sentence
// says what to do. The text names the host and never a URL, which may hold a
// secret in its user, path or query.
func Explain(ctx context.Context, host string, err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	err = bare(err)
	say := func(format string, args ...any) error {
		return fault.New(fault.Unavailable, "%s", host+" "+fmt.Sprintf(format, args...)).Try(checkNetwork).Because(err)
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, context.Canceled) && !errors.Is(context.Cause(ctx), errTotal) && !errors.Is(err, errIdle):
		return fault.New(fault.Unavailable, "the request to %s was cancelled", host).Try("try again").Because(err)
	case isDNS && dns.IsNotFound:
		return say("cannot be reached: its name does not resolve")
	case isDNS:
		return say("cannot be reached: the name service does not answer")
	case certificate(err):
		return fault.New(fault.Unavailable, "the certificate of %s is not trusted", host).
			Try("check the address, or set SSL_CERT_FILE to the certificates of your organisation").Because(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return say("cannot be reached: the connection was refused")
	case errors.Is(err, errIdle):
		return say("stopped sending in the middle of an answer")
	case errors.Is(err, errSlow):
		return say("sends too slowly")
	case errors.Is(err, errTotal), errors.Is(context.Cause(ctx), errTotal), timeout(err):
		return say("does not answer in time")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return say("broke off its answer")
	}
	return say("cannot be reached")
}

// permanent says that trying again would only end the same way.
func permanent(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound || certificate(err) || errors.Is(err, errSlow)
}

// bare takes off the wrapper that repeats the URL.
func bare(err error) error {
	for {
		wrapped, ok := errors.AsType[*url.Error](err)
		if !ok {
			return err
		}
		err = wrapped.Err
	}
}

func timeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

func certificate(err error) bool {
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	return verify || name || authority
}

func offline(host string) error {
	return fault.New(fault.Unavailable, "%s was not asked because --offline is set", host).
		Try("run once without --offline, which keeps what it fetches")
}

func tooBig(host string, max int64) error {
	return fault.New(fault.Exhausted, "the answer of %s is larger than the cap of %s for one download", host, size(max)).
		Try("check the address, or download the file and scan it from disk")
}

func status(host string, code int) error {
	kind := fault.Unavailable
	if code == http.StatusTooManyRequests {
		kind = fault.Throttled
	}
	return fault.New(kind, "%s answers %d %s", host, code, http.StatusText(code)).Try("try again later")
}

// size writes a cap in the unit that it was chosen in.
func size(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
