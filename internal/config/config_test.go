package config_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/loupe-sec/loupe/internal/config"
	"github.com/loupe-sec/loupe/internal/core/fault"
)

func load(t *testing.T, args []string, env map[string]string, file string) (*config.Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.Flags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	return config.Load(fs, lookup, strings.NewReader(file))
}

func TestPrecedence(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		env  map[string]string
		file string
		want string
	}{
		{name: "default", want: "127.0.0.1:8080"},
		{name: "file", file: "listen: ':1'", want: ":1"},
		{name: "environment over file", file: "listen: ':1'", env: map[string]string{"LOUPE_LISTEN": ":2"}, want: ":2"},
		{name: "flag over environment", file: "listen: ':1'", env: map[string]string{"LOUPE_LISTEN": ":2"}, args: []string{"--listen", ":3"}, want: ":3"},
		{name: "flag that repeats the default", file: "listen: ':1'", args: []string{"--listen", "127.0.0.1:8080"}, want: "127.0.0.1:8080"},
		{name: "empty variable is none", file: "listen: ':1'", env: map[string]string{"LOUPE_LISTEN": ""}, want: ":1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := load(t, test.args, test.env, test.file)
			if err != nil || c.Listen != test.want {
				t.Errorf("listen = %q, %v; want %q", c.Listen, err, test.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		env  map[string]string
		file string
		want string
	}{
		{name: "unknown setting", file: "lisen: ':1'", want: `no setting "lisen"`},
		{name: "no YAML", file: "{", want: "not a mapping"},
		{name: "number", env: map[string]string{"LOUPE_WORKERS": "two"}, want: "LOUPE_WORKERS: not a whole number"},
		{name: "negative", args: []string{"--workers=-1"}, want: "--workers: between"},
		{name: "time", file: "poll: soon", want: "the file of settings: not a time"},
		{name: "proxy", args: []string{"--trusted-proxies", "10.0.0.0/99"}, want: "no network"},
		{name: "certificate without key", args: []string{"--tls-cert", "a.pem"}, want: "needs its key"},
		{name: "mail without sender", env: map[string]string{"LOUPE_SMTP_URL": "smtp://u:hunter2hunter2@h"}, want: "--mail-from: missing"},
		{name: "public URL", args: []string{"--public-url", "loupe.example"}, want: "not an address"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(t, test.args, test.env, test.file)
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v; want one with %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}

// What Print writes, Load reads, and no secret is in it.
func TestPrint(t *testing.T) {
	c, err := load(t, []string{"--trusted-proxies", "10.0.0.0/8, 127.0.0.1", "--poll", "90m", "--workers", "7", "--public-packages=false"},
		map[string]string{"STRIPE_SECRET_KEY": "sk_secret", "LOUPE_DATABASE_URL": "postgres://u:hunter2@h/d", "LOUPE_SMTP_URL": "smtp://u:hunter2@h:25", "LOUPE_MAIL_FROM": "a@b.example"}, "")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"sk_secret", "hunter2"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	again, err := load(t, nil, nil, out.String())
	if err != nil {
		t.Fatal(err)
	}
	c.StripeKey, c.DatabaseURL, c.SMTPURL = "", "", ""
	if diff := cmp.Diff(c, again); diff != "" {
		t.Errorf("what was printed reads as something else (-set +read):\n%s", diff)
	}
	if c.Poll != 90*time.Minute || len(c.Proxies) != 2 {
		t.Errorf("poll = %v, proxies = %v", c.Poll, c.Proxies)
	}
}
