package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/loupe-sec/loupe/internal/config"
	"github.com/loupe-sec/loupe/internal/core/fault"
)

func newHealth(s Streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask the server of this machine whether it can work",
		Long: `Health asks the server that listens on --listen whether it and its database work,
and ends with 0 if so: a check for containers, in which there is no other program.`,
		Example: `  loupe health
  loupe health --listen :8443 --tls-cert chain.pem --tls-key key.pem`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := s.settings(c)
			if err != nil {
				return err
			}
			if err := askReady(c.Context(), cfg); err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.Out, "ok")
			return err
		},
	}
	serverFlags(c.Flags(), "listen", "tls-cert", "tls-key")
	return c
}

// askReady asks the server of some settings whether it is ready.
func askReady(ctx context.Context, cfg *config.Config) error {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return notListening(cfg.Listen, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // not localhost: a container may have no file of hosts
	}
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	address := scheme + "://" + net.JoinHostPort(host, port)
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/readyz", nil)
	if err != nil {
		return notListening(cfg.Listen, err)
	}
	// The certificate is that of the name by which others know this server, and
	// nothing is sent or believed that would matter.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return fault.New(fault.Unavailable, "no server answers on %s", address).Try("start one, or name its address with --listen").Because(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10)) // it is the status that tells
	if res.StatusCode != http.StatusOK {
		return fault.New(fault.Unavailable, "the server on %s cannot work", address).Try("its log says why")
	}
	return nil
}
