package egress_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
)

func TestPost(t *testing.T) {
	var got string
	address := serve(t, "hook.example", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.Header.Get("X-Test") + " " + string(body)
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, strings.Repeat("x", 100))
		}
	})
	c := egress.New(egress.Options{AllowPrivate: true, Resolve: loopback})
	defer c.Close()
	resp, err := c.Post(t.Context(), address+"/", http.Header{"X-Test": {"a"}}, []byte("hello"), 10, time.Minute)
	if err != nil || resp.Status != http.StatusTeapot || string(resp.Body) != "xxxxxxxxxx" || got != "POST a hello" {
		t.Errorf("Post = %+v, %v; the server got %q", resp, err, got)
	}
	resp, err = c.Post(t.Context(), address+"/moved", nil, nil, 10, time.Minute)
	if err != nil || resp.Status != http.StatusFound {
		t.Errorf("Post to what has moved = %+v, %v; want its 302", resp, err)
	}
	if _, err := c.Post(t.Context(), address+"/slow?token=hunter2", nil, nil, 10, 50*time.Millisecond); !fault.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Post to who does not answer = %v; want a fault without the URL", err)
	}
	guarded := egress.New(egress.Options{Resolve: loopback})
	defer guarded.Close()
	if _, err := guarded.Post(t.Context(), address+"/", nil, nil, 10, time.Minute); !fault.Is(err, fault.Forbidden) {
		t.Errorf("Post to a private address = %v; want it refused", err)
	}
}

func TestCheckURL(t *testing.T) {
	names := map[string]string{"public.example": "8.8.8.8", "inside.example": "10.0.0.1", "both.example": "8.8.8.8 10.0.0.1", "metadata.example": "169.254.169.254"}
	resolve := func(_ context.Context, host string) (out []netip.Addr, err error) {
		for a := range strings.FieldsSeq(names[host]) {
			out = append(out, netip.MustParseAddr(a))
		}
		return out, nil
	}
	for _, test := range []struct {
		url             string
		public, private bool // it passes without and with AllowPrivate
	}{
		{"https://public.example/a?b", true, true},
		{"https://public.example:8443", true, true},
		{"https://unknown.example/", true, true},
		{"https://both.example/", true, true},
		{"http://public.example/", false, true},
		{"https://inside.example/", false, true},
		{"https://10.0.0.1/", false, true},
		{"https://[::1]/", false, true},
		{"https://[::ffff:10.0.0.1]/", false, true},
		{"https://[64:ff9b::a00:1]/", false, true},
		{"https://localhost/", false, true},
		{"https://a.LOCALHOST./", false, true},
		{"https://metadata.example/", false, false},
		{"https://2130706433/", false, false},
		{"https://0x7f000001/", false, false},
		{"https://0x7f.1/", false, false},
		{"https://127.1/", false, false},
		{"https://0177.0.0.1/", false, false},
		{"https://8.8.8.8/", true, true},
		{"https://user@public.example/", false, false},
		{"ftp://public.example/", false, false},
		{"file:///etc/passwd", false, false},
		{"https:///path", false, false},
		{"public.example", false, false},
		{"https:public.example", false, false},
		{"", false, false},

		// other spellings of addresses
		{"https://[::ffff:7f00:1]/", false, true},
		{"https://[0:0:0:0:0:ffff:127.0.0.1]/", false, true},
		{"https://[::ffff:8.8.8.8]/", true, true},
		{"https://[::ffff:169.254.169.254]/", false, false},
		{"https://[64:ff9b::a9fe:a9fe]/", false, false},
		{"https://[2002:7f00:1::]/", false, true},
		{"https://[::127.0.0.1]/", false, true},
		{"https://[::]/", false, false},
		{"https://[fe80::1%25eth0]/", false, true},
		{"https://[2606:4700::1111%25eth0]/", false, true},
		{"https://[2606:4700::1111]:8443/", true, true},
		{"https://0/", false, false},
		{"https://127/", false, false},
		{"https://127.0.1/", false, false},
		{"https://017700000001/", false, false},
		{"https://0x7f.0x0.0x0.0x1/", false, false},
		{"https://0X7F000001/", false, false},
		{"https://0x/", false, false},
		{"https://127.0.0.0x1/", false, false},
		{"https://127.0.0.01/", false, false},
		{"https://08.8.8.8/", false, false},
		{"https://256.8.8.8/", false, false},
		{"https://1.2.3.4.5/", false, false},
		{"https://8.8.8/", false, false},
		{"https://99999999999999999999999/", false, false},
		{"https://a.1/", false, false},
		{"https://1.a.example/", true, true},
		{"https://0x7f.example/", true, true},
		{"https://127.0.0.1./", false, true},
		{"https://2130706433./", false, false},
		{"https://127.0.0.1../", false, false},
		{"https://8.8.8.8./", true, true},
		{"https://169.254.169.254./", false, false},
		{"https://inside.example./", false, true},
		{"https://INSIDE.example/", false, true},
		{"https://localhost./", false, true},
		{"https://localhost../", false, false},
		{"https://.localhost/", false, false},

		// letters that become others
		{"https://１２７.０.０.１/", false, true},
		{"https://127。0。0。1/", false, true},
		{"https://①②⑦.⓪.⓪.①/", false, true},
		{"https://２１３０７０６４３３/", false, false},
		{"https://%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1/", false, true},
		{"https://ｌｏｃａｌｈｏｓｔ/", false, true},
		{"https://local\u00adhost/", false, true},
		{"https://ｉnside.example/", false, true},
		{"https://bücher.example/", true, true},
		{"https://xn--bcher-kva.example/", true, true},

		// what is beside the host
		{"https://public.example/#@10.0.0.1/", true, true},
		{"https://public.example?@10.0.0.1/", true, true},
		{"https://public.example#@10.0.0.1/", true, true},
		{"https://public.example@10.0.0.1/", false, false},
		{"https://public.example:443@10.0.0.1/", false, false},
		{"https://user:hunter2@public.example/", false, false},
		{"https://@public.example/", false, false},
		{"https://10.0.0.1#@public.example/", false, true},
		{"https://public.example\\@10.0.0.1/", false, false},
		{"https://public.example\t/", false, false},
		{"https://public.example%2f@10.0.0.1/", false, false},
		{"https://public.example%00.other.example/", false, false},
		{"https://pub lic.example/", false, false},
		{"https://public..example/", false, false},
		{"https://-public.example/", false, false},
		{"https://public!.example/", false, false},
		{"https://" + strings.Repeat("a", 64) + ".example/", false, false},
		{"https://" + strings.Repeat("a.", 124) + "example/", false, false},
		{"https://hook_1.example/", true, true},
		{"https://public.example:0/", false, false},
		{"https://public.example:/", false, false},
		{"https://public.example:65535/", true, true},
		{"https://public.example:65536/", false, false},
		{"https://public.example:http/", false, false},
		{"HTTPS://PUBLIC.EXAMPLE/", true, true},
		{"//public.example/", false, false},
		{"http+unix://public.example/", false, false},
		{"gopher://public.example/", false, false},
		{"javascript:alert(1)", false, false},
		{"https://", false, false},
		{"https://[::1/", false, false},
		{"https://[public.example]/", false, false},
	} {
		for allow, want := range map[bool]bool{false: test.public, true: test.private} {
			c := egress.New(egress.Options{AllowPrivate: allow, Resolve: resolve})
			err := c.CheckURL(t.Context(), test.url)
			if err != nil && !fault.Is(err, fault.Invalid) || (err == nil) != want {
				t.Errorf("CheckURL(%q) with AllowPrivate %v = %v; want it to pass: %v", test.url, allow, err, want)
			}
			c.Close()
		}
	}
}

// A redirect is an answer, wherever it leads: nobody else gets what was sent.
func TestPostFollowsNothing(t *testing.T) {
	var asked atomic.Int32
	inside := serve(t, "inside.example", func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	for _, code := range []int{301, 302, 303, 307, 308} {
		address := serve(t, "hook.example", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inside+"/latest", code) })
		c := client(t, egress.Options{AllowPrivate: true, Resolve: loopback}, address) // even of one who is trusted
		resp, err := c.Post(t.Context(), address, nil, []byte("hello"), 100, time.Minute)
		if err != nil || resp.Status != code {
			t.Errorf("Post = %+v, %v; want the %d itself", resp, err, code)
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("%d requests went on", n)
	}
}

// A body that never ends is in nobody's way who does not want it.
func TestPostWithoutBody(t *testing.T) {
	address := serve(t, "hook.example", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	c := client(t, egress.Options{AllowPrivate: true, Resolve: loopback})
	start := time.Now()
	resp, err := c.Post(t.Context(), address, nil, nil, 0, time.Minute)
	if err != nil || resp.Status != http.StatusAccepted || len(resp.Body) > 0 || time.Since(start) > 30*time.Second {
		t.Errorf("Post = %+v, %v, after %v; want 202 at once", resp, err, time.Since(start))
	}
}

// A name that leads elsewhere when it is asked for again is judged again.
func TestPostAfterRebinding(t *testing.T) {
	var asked atomic.Int32
	address := serve(t, "hook.example", func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	at := "8.8.8.8"
	c := egress.New(egress.Options{Resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr(at)}, nil }})
	defer c.Close()
	if err := c.CheckURL(t.Context(), strings.Replace(address, "http:", "https:", 1)); err != nil {
		t.Fatal(err)
	}
	for _, at = range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0"} {
		if _, err := c.Post(t.Context(), address, nil, nil, 0, time.Minute); !fault.Is(err, fault.Forbidden) {
			t.Errorf("Post to a name that leads to %s = %v; want it refused", at, err)
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("%d requests arrived", n)
	}
}

// Behind a proxy, which resolves names itself, an address in other letters is
// judged as net/http will write it.
func TestPostThroughProxy(t *testing.T) {
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("NO_PROXY", "")
	t.Setenv("REQUEST_METHOD", "") // which would mean that this is a CGI program
	c := egress.New(egress.Options{Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}})
	defer c.Close()
	for _, host := range []string{"10.0.0.1", "１０.0.0.1", "10。0。0。1", "[::ffff:10.0.0.1]"} {
		if _, err := c.Post(t.Context(), "http://"+host+"/", nil, nil, 0, time.Minute); !fault.Is(err, fault.Forbidden) {
			t.Errorf("Post to %s through a proxy = %v; want it refused", host, err)
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("%d requests went through the proxy", n)
	}
}
