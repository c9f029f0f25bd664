// Package config says how a server is set up. Each setting is a field of
// [Config] with its name, its environment variable, its default and what it is
// for; flags beat the environment, which beats the file, which beats the
// default.
package config

import (
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// Config is everything that can be set up. The tag "name" is that of the flag
// and of the key in the file, "env" of the variable, and "secret" is shown by
// nobody.
type Config struct {
	Data        string `name:"data" env:"LOUPE_DATA" doc:"folder for the database, caches and advisories (default the user's data folder)"`
	DatabaseURL string `name:"database-url" env:"LOUPE_DATABASE_URL" secret:"url" doc:"postgres://user@host/name instead of SQLite in the data folder"`

	Listen    string   `name:"listen" env:"LOUPE_LISTEN" default:"127.0.0.1:8080" doc:"address to answer on; :8080 for all networks"`
	PublicURL string   `name:"public-url" env:"LOUPE_PUBLIC_URL" doc:"base of links, as users see this server (default what each request says)"`
	TLSCert   string   `name:"tls-cert" env:"LOUPE_TLS_CERT" doc:"file with the certificate chain, in PEM; with --tls-key it is HTTPS that is spoken"`
	TLSKey    string   `name:"tls-key" env:"LOUPE_TLS_KEY" doc:"file with the private key, in PEM"`
	Proxies   []string `name:"trusted-proxies" env:"LOUPE_TRUSTED_PROXIES" doc:"networks of proxies whose X-Forwarded-For is believed, as in 10.0.0.0/8"`
	CORS      []string `name:"cors-origins" env:"LOUPE_CORS_ORIGINS" doc:"origins of pages that may read answers"`
	Pprof     bool     `name:"pprof" env:"LOUPE_PPROF" doc:"serve profiles under /debug/pprof to direct connections from private networks"`

	Workers      int           `name:"workers" env:"LOUPE_WORKERS" default:"2" doc:"scans at once in this process; 0 leaves them to loupe worker"`
	Sandbox      string        `name:"sandbox" env:"LOUPE_SANDBOX" default:"auto" doc:"read what is scanned in a process without files and network: off, auto, on"`
	ScanTime     time.Duration `name:"scan-time" env:"LOUPE_SCAN_TIME" default:"30m" doc:"after which a scan is given up"`
	Poll         time.Duration `name:"poll" env:"LOUPE_POLL" default:"1h" doc:"between two looks at the registry for a package that is watched"`
	AllowPrivate bool          `name:"allow-private-networks" env:"LOUPE_ALLOW_PRIVATE_NETWORKS" doc:"allow targets and destinations on private networks, and plain http"`

	PublicPackages bool `name:"public-packages" env:"LOUPE_PUBLIC_PACKAGES" default:"true" doc:"answer /packages without a key"`

	SMTPURL  string `name:"smtp-url" env:"LOUPE_SMTP_URL" secret:"url" doc:"server for mail: smtp://user:password@host:587, or smtps://"`
	MailFrom string `name:"mail-from" env:"LOUPE_MAIL_FROM" doc:"sender of mail"`

	StripeKey             string `name:"stripe-secret-key" env:"STRIPE_SECRET_KEY" secret:"all" doc:"key of the payment service; without it plans are set by hand"`
	StripeWebhookSecret   string `name:"stripe-webhook-secret" env:"STRIPE_WEBHOOK_SECRET" secret:"all" doc:"with which its events are signed"`
	StripeAPIBase         string `name:"stripe-api-base" env:"STRIPE_API_BASE" doc:"address of the payment service, for tests"`
	StripePricePro        string `name:"stripe-price-pro" env:"STRIPE_PRICE_PRO" doc:"price of the plan pro"`
	StripePriceTeam       string `name:"stripe-price-team" env:"STRIPE_PRICE_TEAM" doc:"price of the plan team"`
	StripePriceEnterprise string `name:"stripe-price-enterprise" env:"STRIPE_PRICE_ENTERPRISE" doc:"price of the plan enterprise"`

	OTLPEndpoint string `name:"otlp-endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" doc:"OpenTelemetry collector for traces, as in http://collector:4318"`

	LogFormat string `name:"log-format" env:"LOUPE_LOG_FORMAT" default:"text" doc:"text or json"`
	LogLevel  string `name:"log-level" env:"LOUPE_LOG_LEVEL" default:"info" doc:"debug, info, warn or error"`
}

// Check says which setting cannot be, or nil.
func (c *Config) Check() error {
	wrong := func(name, format string, args ...any) *fault.Error {
		return fault.New(fault.Invalid, "--"+name+": "+format, args...)
	}
	for name, text := range map[string]string{"public-url": c.PublicURL, "stripe-api-base": c.StripeAPIBase, "otlp-endpoint": c.OTLPEndpoint} {
		if u, err := url.Parse(text); text != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			return wrong(name, "not an address").Try("write it as https://loupe.example")
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return wrong("tls-cert", "a certificate needs its key, and a key its certificate").Try("give both --tls-cert and --tls-key")
	}
	if _, err := c.TrustedProxies(); err != nil {
		return err
	}
	if c.SMTPURL != "" {
		if u, err := url.Parse(c.SMTPURL); err != nil || u.Host == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
			return wrong("smtp-url", "not an address").Try("write it as smtp://user:password@host:587")
		}
		if c.MailFrom == "" {
			return wrong("mail-from", "missing").Try("say who sends the mail, as in loupe@example.com")
		}
	}
	switch {
	case c.Workers < 0 || c.Workers > 1000:
		return wrong("workers", "between 0 and 1000")
	case c.ScanTime < time.Second:
		return wrong("scan-time", "at least a second")
	case c.Poll < time.Second:
		return wrong("poll", "at least a second")
	case c.LogFormat != "text" && c.LogFormat != "json":
		return wrong("log-format", "text or json")
	case c.LogLevel != "debug" && c.LogLevel != "info" && c.LogLevel != "warn" && c.LogLevel != "error":
		return wrong("log-level", "debug, info, warn or error")
	}
	return nil
}

// TrustedProxies returns the networks of proxies.
func (c *Config) TrustedProxies() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range c.Proxies {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fault.New(fault.Invalid, "--trusted-proxies: %q is no network", text).Try("write it as 10.0.0.0/8, or as an address")
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// StripePrices returns the prices that are set up, by plan.
func (c *Config) StripePrices() map[string]string {
	out := map[string]string{}
	for plan, price := range map[string]string{"pro": c.StripePricePro, "team": c.StripePriceTeam, "enterprise": c.StripePriceEnterprise} {
		if price != "" {
			out[plan] = price
		}
	}
	return out
}

// list reads what is written with commas between.
func list(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
