package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// reserved lists what is not the public network, after the special-purpose
// address registries of IANA (RFC 6890). Of IPv6 only 2000::/3 is public.
var reserved = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved"},
	{netip.MustParsePrefix("192.0.2.0/24"), "reserved"},
	{netip.MustParsePrefix("192.88.99.0/24"), "reserved"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "reserved"},
	{netip.MustParsePrefix("198.51.100.0/24"), "reserved"},
	{netip.MustParsePrefix("203.0.113.0/24"), "reserved"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("2001::/23"), "reserved"},
	{netip.MustParsePrefix("2001:db8::/32"), "reserved"},
	{netip.MustParsePrefix("3fff::/20"), "reserved"},
}

var (
	publicIPv6 = netip.MustParsePrefix("2000::/3")
	nat64      = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixToFour  = netip.MustParsePrefix("2002::/16")    // RFC 3056

	// metadata lists the addresses that hand the credentials of a cloud
	// machine to whoever can reach them.
	metadata = []netip.Addr{
		netip.MustParseAddr("169.254.169.254"),
		netip.MustParseAddr("169.254.170.2"),
		netip.MustParseAddr("169.254.170.23"),
		netip.MustParseAddr("168.63.129.16"),
		netip.MustParseAddr("100.100.100.200"),
		netip.MustParseAddr("192.0.0.192"),
		netip.MustParseAddr("fd00:ec2::254"),
		netip.MustParseAddr("fd00:ec2::23"),
		netip.MustParseAddr("fd20:ce::254"),
	}
)

// Check says why a must not be connected to, or nil. An IPv4 address inside an
// IPv6 one (mapped, NAT64, 6to4) is what is judged. With allowPrivate only what
// can never be a server (unspecified, multicast) and cloud metadata is refused.
func Check(a netip.Addr, allowPrivate bool) error {
	if !a.IsValid() {
		return errors.New("not an address")
	}
	if a.Zone() != "" && !allowPrivate {
		return errors.New("a link-local address")
	}
	a = embedded(a.WithZone(""))
	for _, m := range metadata {
		if a == m {
			return errors.New("a cloud metadata address")
		}
	}
	for _, r := range reserved {
		if r.prefix.Contains(a) && (!allowPrivate || r.what == "unspecified" || r.what == "multicast") {
			article := "a "
			if r.what == "unspecified" {
				article = "an "
			}
			return errors.New(article + r.what + " address")
		}
	}
	if a.Is6() && !publicIPv6.Contains(a) && !allowPrivate {
		return errors.New("a reserved address")
	}
	return nil
}

// embedded returns the IPv4 address that a leads to, or a itself.
func embedded(a netip.Addr) netip.Addr {
	a = a.Unmap()
	b := a.As16()
	switch {
	case a.Is4():
		return a
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

// resolve returns the addresses of a host, which may be one itself.
func (c *Client) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if c.opts.Resolve != nil {
		return c.opts.Resolve(ctx, host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// refused is the guard's answer. It is never retried.
func (c *Client) refused(host string, why error) error {
	return fault.New(fault.Forbidden, "%s leads to %v, which is refused", host, why).
		Try("use a public host, as only the registries of your own settings may be on a private network")
}

// allowed resolves host and returns those of its addresses that pass the
// guard, in the resolver's order; at least one, or an error.
func (c *Client) allowed(ctx context.Context, host string) ([]netip.Addr, error) {
	return c.judged(ctx, host, c.opts.AllowPrivate)
}

// allowedAnywhere is allowed for private networks as well.
func (c *Client) allowedAnywhere(ctx context.Context, host string) ([]netip.Addr, error) {
	return c.judged(ctx, host, true)
}

func (c *Client) judged(ctx context.Context, host string, allowPrivate bool) ([]netip.Addr, error) {
	addrs, err := c.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var pass []netip.Addr
	var why error
	for _, a := range addrs {
		if err := Check(a, allowPrivate); err != nil {
			why = err
			continue
		}
		pass = append(pass, a.Unmap())
	}
	switch {
	case len(pass) > 0:
		return pass, nil
	case why != nil:
		return nil, c.refused(host, why)
	}
	return nil, &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
}

// Dial connects to address ("host:port") if the guard lets it. It resolves the
// name once and connects to an address that it checked, so that a name which
// changes its mind in between gains nothing.
func (c *Client) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.opts.Offline {
		return nil, offline(address)
	}
	return c.dial(ctx, network, address, c.allowed)
}

// dialVouched is Dial for private networks as well.
func (c *Client) dialVouched(ctx context.Context, network, address string) (net.Conn, error) {
	return c.dial(ctx, network, address, c.allowedAnywhere)
}

// dialOpen connects to address whatever it resolves to.
func (c *Client) dialOpen(ctx context.Context, network, address string) (net.Conn, error) {
	return c.dial(ctx, network, address, c.resolve)
}

func (c *Client) dial(ctx context.Context, network, address string, lookup func(context.Context, string) ([]netip.Addr, error)) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.DialTime)
	defer cancel()
	addrs, err := lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var failures []error
	for i, a := range addrs {
		// Each address gets an equal share of what is left, so that a dead
		// first one does not eat the time of the others.
		deadline, _ := ctx.Deadline()
		share := time.Until(deadline) / time.Duration(len(addrs)-i)
		dialer := net.Dialer{Timeout: max(share, time.Millisecond)}
		conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}
