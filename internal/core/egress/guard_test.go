package egress_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
)

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		addr    string
		public  bool // passes without AllowPrivate
		private bool // passes with it
	}{
		{"8.8.8.8", true, true},
		{"2606:4700::1111", true, true},
		{"::ffff:8.8.8.8", true, true},
		{"64:ff9b::808:808", true, true},
		{"2002:808:808::1", true, true},
		{"0.0.0.0", false, false},
		{"0.1.2.3", false, false},
		{"127.0.0.1", false, true},
		{"127.255.255.254", false, true},
		{"10.1.2.3", false, true},
		{"172.16.0.1", false, true},
		{"172.32.0.1", true, true},
		{"192.168.1.1", false, true},
		{"100.64.0.1", false, true},
		{"100.128.0.1", true, true},
		{"169.254.1.1", false, true},
		{"169.254.169.254", false, false},
		{"::ffff:169.254.169.254", false, false},
		{"64:ff9b::a9fe:a9fe", false, false},
		{"2002:a9fe:a9fe::1", false, false},
		{"168.63.129.16", false, false},
		{"100.100.100.200", false, false},
		{"fd00:ec2::254", false, false},
		{"192.0.0.1", false, true},
		{"192.0.2.1", false, true},
		{"198.18.0.1", false, true},
		{"198.51.100.1", false, true},
		{"203.0.113.80", false, true},
		{"224.0.0.1", false, false},
		{"240.0.0.1", false, true},
		{"255.255.255.255", false, true},
		{"::", false, false},
		{"::1", false, true},
		{"::127.0.0.1", false, true},
		{"::ffff:127.0.0.1", false, true},
		{"64:ff9b::7f00:1", false, true},
		{"64:ff9b:1::1", false, true},
		{"2002:7f00:1::", false, true},
		{"2001::1", false, true},
		{"2001:db8::1", false, true},
		{"3fff::1", false, true},
		{"fc00::1", false, true},
		{"fd12::1", false, true},
		{"fe80::1", false, true},
		{"fe80::1%eth0", false, true},
		{"2606:4700::1%eth0", false, true},
		{"fec0::1", false, true},
		{"ff02::1", false, false},
		{"5f00::1", false, true},
	} {
		t.Run(test.addr, func(t *testing.T) {
			a := netip.MustParseAddr(test.addr)
			if err := egress.Check(a, false); (err == nil) != test.public {
				t.Errorf("Check(%s, false) = %v; want a pass: %v", a, err, test.public)
			}
			if err := egress.Check(a, true); (err == nil) != test.private {
				t.Errorf("Check(%s, true) = %v; want a pass: %v", a, err, test.private)
			}
		})
	}
	if egress.Check(netip.Addr{}, true) == nil {
		t.Error("the zero address passes")
	}
}

// FuzzCheck holds that the ways to write one IPv4 address are judged alike.
func FuzzCheck(f *testing.F) {
	for _, a := range [][4]byte{{127, 0, 0, 1}, {8, 8, 8, 8}, {169, 254, 169, 254}, {100, 64, 0, 1}, {203, 0, 113, 80}} {
		f.Add(a[0], a[1], a[2], a[3])
	}
	f.Fuzz(func(t *testing.T, a, b, c, d byte) {
		v4 := netip.AddrFrom4([4]byte{a, b, c, d})
		want := egress.Check(v4, false) == nil
		var mapped, nat, six [16]byte
		mapped = v4.As16()
		copy(nat[:], []byte{0, 0x64, 0xff, 0x9b})
		copy(nat[12:], v4.AsSlice())
		copy(six[:], []byte{0x20, 0x02, a, b, c, d})
		for _, raw := range [][16]byte{mapped, nat, six} {
			if got := egress.Check(netip.AddrFrom16(raw), false) == nil; got != want {
				t.Errorf("%v passes: %v, but %v passes: %v", netip.AddrFrom16(raw), got, v4, want)
			}
		}
	})
}

func TestDialRefuses(t *testing.T) {
	c := egress.New(egress.Options{Resolve: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")}, nil
	}})
	for _, address := range []string{"internal.example:443", "127.0.0.1:80", "[::1]:80", "[::ffff:10.0.0.1]:80"} {
		conn, err := c.Dial(t.Context(), "tcp", address)
		if err == nil {
			conn.Close()
			t.Fatalf("Dial(%q) connected", address)
		}
		if !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("Dial(%q) = %v; want a refusal", address, err)
		}
	}
}
