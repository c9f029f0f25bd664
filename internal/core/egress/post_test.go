package egress_test

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
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
