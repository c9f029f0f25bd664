package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/loupe-sec/loupe/internal/config"
	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/faces/api/binshield"
	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/faces/httpd"
	"github.com/loupe-sec/loupe/internal/service/app"
	"github.com/loupe-sec/loupe/internal/service/billing"
	"github.com/loupe-sec/loupe/internal/service/notify"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
)

// grace is how long requests and jobs have to end when a process is told to.
const grace = 20 * time.Second

func newServe(s Streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Answer the published APIs and do the work behind them",
		Long: `Serve starts the services: the published APIs, and the workers that scan what
they are asked for. Everything is kept in the data folder, or in the Postgres of
--database-url, on which any number of servers and workers may run. What a server
has accepted is done, whatever becomes of the process.

Settings come from flags, from the environment variables that stand beside them,
and from the file of --config; loupe config print shows them all. Secrets have no
flag, as every user of a machine sees those: put STRIPE_SECRET_KEY and
STRIPE_WEBHOOK_SECRET into the environment, and the password of Postgres into
PGPASSWORD. On an empty database, serve says how to make the first key.`,
		Example: `  loupe serve
  loupe serve --listen :8443 --tls-cert chain.pem --tls-key key.pem
  loupe serve --database-url postgres://loupe@db/loupe --workers 0`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return s.serve(c) },
	}
	serverFlags(c.Flags())
	return c
}

func newWorker(s Streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "worker",
		Short: "Do the work of servers on the same database",
		Long: `Worker does the scans that servers on the same Postgres have accepted, and
answers no requests. Start as many as there is work for, on as many machines. What
one of them leaves undone, another one does.`,
		Example: `  loupe worker --database-url postgres://loupe@db/loupe --workers 4`,
		Args:    args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return s.work(c) },
	}
	serverFlags(c.Flags(), "data", "database-url", "workers", "sandbox", "scan-time", "poll", "allow-private-networks", "smtp-url", "mail-from", "public-url", "log-format", "log-level")
	return c
}

// serverFlags adds the settings named, or all, and the file of settings.
func serverFlags(fs *pflag.FlagSet, names ...string) {
	config.Flags(fs, names...)
	fs.String("config", "", "`file` with settings, in YAML [LOUPE_CONFIG]")
}

// settings puts the settings of a command together.
func (s Streams) settings(c *cobra.Command) (*config.Config, error) {
	var file io.Reader
	if name, _ := c.Flags().GetString("config"); name != "" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fault.New(fault.Invalid, "the file of settings cannot be read").Try("check --config %s", name).Because(err)
		}
		defer f.Close()
		file = f
	}
	cfg, err := config.Load(c.Flags(), func(name string) (string, bool) { v := s.Env(name); return v, v != "" }, file)
	if err != nil {
		return nil, err
	}
	if cfg.Data == "" {
		if cfg.Data = app.DefaultDataDir(); cfg.Data == "" {
			return nil, fault.New(fault.Invalid, "there is no home folder for the data").Try("name a folder with --data")
		}
	}
	return cfg, nil
}

// open opens the server of some settings.
func (s Streams) open(ctx context.Context, cfg *config.Config, workers int) (*app.Server, *slog.Logger, error) {
	mode, err := sandbox.ParseMode(cfg.Sandbox)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("--sandbox: %w", err)}
	}
	log := s.logger(cfg)
	server, err := app.OpenServer(ctx, app.ServerOptions{
		Options:     app.Options{Version: version(), DataDir: cfg.Data, AllowPrivate: cfg.AllowPrivate},
		DatabaseURL: cfg.DatabaseURL, Workers: workers, Sandbox: mode, ScanTime: cfg.ScanTime, Poll: cfg.Poll,
		Mail:    notify.Mail{URL: cfg.SMTPURL, From: cfg.MailFrom},
		Billing: billing.Options{Key: cfg.StripeKey, WebhookSecret: cfg.StripeWebhookSecret, APIBase: cfg.StripeAPIBase, Prices: cfg.StripePrices()},
		Log:     log,
	})
	return server, log, app.ExplainDatabase(err)
}

// logger writes the log to the standard error.
func (s Streams) logger(cfg *config.Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // it was checked
	opt := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(s.Err, opt))
	}
	return slog.New(slog.NewTextHandler(s.Err, opt))
}

func (s Streams) serve(c *cobra.Command) (err error) {
	ctx := c.Context()
	cfg, err := s.settings(c)
	if err != nil {
		return err
	}
	certificates, err := readCertificates(cfg)
	if err != nil {
		return err
	}
	proxies, err := cfg.TrustedProxies()
	if err != nil {
		return err
	}
	server, log, err := s.open(ctx, cfg, cfg.Workers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close(context.WithoutCancel(ctx))) }()
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return notListening(cfg.Listen, err)
	}
	tracer, err := newTracer(ctx, cfg)
	if err != nil {
		return err
	}
	if tracer != nil {
		defer func() {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = tracer.Close(last) // a collector that is gone is no reason to fail
		}()
	}
	mux := http.NewServeMux()
	apis := []*dialect.API{binshield.New(mux, server, cfg.PublicPackages)}
	web := httpd.New(server, mux, apis, httpd.Options{
		Log: log, Tracer: tracer, PublicURL: cfg.PublicURL, TrustedProxies: proxies, CORSOrigins: cfg.CORS, Pprof: cfg.Pprof, Grace: grace,
	})
	if err := s.welcome(ctx, cfg, server, listener); err != nil {
		return err
	}
	return s.run(ctx, server, func(ctx context.Context) error { return web.Serve(ctx, listener, certificates) })
}

// notListening says why nothing can listen on an address.
func notListening(address string, err error) error {
	out := fault.New(fault.Unavailable, "%s cannot be listened on", address).Try("write --listen as 127.0.0.1:8080, or as :8080 for all networks").Because(err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		out.Message = address + " is taken: another program listens there"
		out.Help = "end it, or choose another address with --listen"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		out.Message = address + " is no address of this machine"
		out.Help = "use :PORT for all of its addresses"
	case errors.Is(err, syscall.EACCES):
		out.Message = address + " is a port for which the system wants a privilege"
		out.Help = "choose one above 1023, or let a proxy listen there"
	}
	return out
}

// welcome says where the server answers, and how to begin on an empty one.
func (s Streams) welcome(ctx context.Context, cfg *config.Config, server *app.Server, l net.Listener) error {
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	fmt.Fprintf(s.Err, "loupe %s answers on %s://%s (data in %s, %s)\n", version(), scheme, l.Addr(), cfg.Data, server.Mode())
	_, total, err := server.Organizations(ctx, app.Page{Limit: 1})
	if err != nil || total > 0 {
		return err
	}
	where := "--data " + shellWord(cfg.Data)
	if cfg.DatabaseURL != "" {
		where = "--database-url \"$LOUPE_DATABASE_URL\""
	}
	fmt.Fprintf(s.Err, `
Nobody has a key yet. Make an organization and its first key, in another terminal:

  loupe org create --name "My company" --slug my-company %s
  loupe key create --org my-company --label first %s

`, where, where)
	return nil
}

func (s Streams) work(c *cobra.Command) (err error) {
	ctx := c.Context()
	cfg, err := s.settings(c)
	if err != nil {
		return err
	}
	if cfg.Workers == 0 {
		return usageError{errors.New("--workers 0 leaves nothing for a worker to do")}
	}
	server, _, err := s.open(ctx, cfg, cfg.Workers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close(context.WithoutCancel(ctx))) }()
	fmt.Fprintf(s.Err, "loupe %s works, %d scans at once (%s)\n", version(), cfg.Workers, server.Mode())
	return s.run(ctx, server, func(ctx context.Context) error { <-ctx.Done(); return nil })
}

// run does the jobs of a server beside f, until f ends or somebody asks for the
// end.
func (s Streams) run(ctx context.Context, server *app.Server, f func(context.Context) error) error {
	if err := server.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	beside, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { server.Run(beside) })
	err := f(ctx)
	if ctx.Err() != nil {
		fmt.Fprintln(s.Err, "loupe: ending; jobs that run are finished or given to others")
	}
	end()
	wg.Wait()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace+10*time.Second)
	defer cancel()
	return errors.Join(err, server.Stop(stopping))
}

// readCertificates reads the files of TLS, or returns nil without them.
func readCertificates(cfg *config.Config) (*tls.Config, error) {
	if cfg.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the certificate cannot be used").Try("check --tls-cert and --tls-key: %v", err).Because(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}, nil
}

// shellWord writes a word so that a shell takes it as one.
func shellWord(word string) string {
	for _, r := range word {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '/' && r != '.' && r != '_' && r != '-' && r != '~' {
			return "'" + word + "'"
		}
	}
	return word
}

// newTracer returns what sends spans to a collector, or nil if none is set up.
func newTracer(ctx context.Context, cfg *config.Config) (*httpd.Tracer, error) {
	if cfg.OTLPEndpoint == "" {
		return nil, nil
	}
	out := egress.New(egress.Options{Version: version(), AllowPrivate: true})
	if err := out.Trust(cfg.OTLPEndpoint); err != nil {
		return nil, err
	}
	return httpd.NewTracer(ctx, cfg.OTLPEndpoint, version(), out.HTTPClient())
}
