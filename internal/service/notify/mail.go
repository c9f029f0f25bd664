package notify

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// Mail says by which server mail is sent, and from whom.
type Mail struct {
	URL  string // "smtp://user:password@host:587", or "smtps://…"; empty for no mail
	From string
}

// checkAddress says why text is no e-mail address, or nil.
func checkAddress(text string) error {
	a, err := netmail.ParseAddress(text)
	if err != nil || a.Name != "" || a.Address != text || len(text) > 254 || !strings.Contains(text[strings.LastIndexByte(text, '@'):], ".") {
		return fault.New(fault.Invalid, "destination: not an e-mail address").In("destination", nil)
	}
	return nil
}

// send sends a message as mail.
func (m Mail) send(ctx context.Context, out *egress.Client, d *store.Delivery) error {
	if m.URL == "" {
		return fault.New(fault.Unavailable, "there is no server for mail").Try("set LOUPE_SMTP_URL and LOUPE_MAIL_FROM")
	}
	msg, err := m.message(d)
	if err != nil {
		return err
	}
	var conn net.Conn
	client, err := m.client(out, &conn)
	if err != nil {
		return err
	}
	err = client.DialAndSendWithContext(ctx, msg)
	if conn != nil {
		conn.Close() // which the client leaves open if it fails early
	}
	if err == nil || msg.IsDelivered() { // what fails then is to say goodbye
		return nil
	}
	e, ok := errors.AsType[*mail.SendError](err)
	if ok && e.ErrorCode() >= 500 && (e.Reason == mail.ErrSMTPRcptTo || e.Reason == mail.ErrSMTPDataClose) {
		return fault.New(fault.Unavailable, "the server for mail refused the message with %d", e.ErrorCode()).Because(errors.Join(err, errForever))
	}
	return fault.New(fault.Unavailable, "the server for mail did not take the message").Because(err)
}

// client returns who sends one message. It puts its connection where conn points.
//
// A password goes over TLS to a server that is who it says it is, or to one on
// this machine. Without a password, TLS is used if it is offered, whoever it is
// with: that is no worse than none (RFC 7435).
func (m Mail) client(out *egress.Client, conn *net.Conn) (*mail.Client, error) {
	u, err := url.Parse(m.URL)
	if err != nil || u.Hostname() == "" {
		return nil, fault.New(fault.Invalid, "LOUPE_SMTP_URL is not an address")
	}
	host, here := u.Hostname(), loopback(u.Hostname())
	password, secret := u.User.Password()
	security := out.TLS(host)
	port, policy := 25, mail.TLSOpportunistic
	switch {
	case u.Scheme == "smtps":
		port, policy = 465, mail.NoTLS // beside that of the connection
	case secret && !here:
		policy = mail.TLSMandatory
	default:
		security.InsecureSkipVerify = true
	}
	if text := u.Port(); text != "" {
		if port, err = strconv.Atoi(text); err != nil {
			return nil, fault.New(fault.Invalid, "LOUPE_SMTP_URL is not an address")
		}
	}
	options := []mail.Option{
		mail.WithTimeout(answerTime), mail.WithPort(port), mail.WithTLSPolicy(policy), mail.WithTLSConfig(security),
		mail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := out.DialTrusted(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if *conn = c; u.Scheme != "smtps" {
				return c, nil
			}
			encrypted := tls.Client(c, security)
			return encrypted, encrypted.HandshakeContext(ctx)
		}),
	}
	if secret {
		options = append(options, mail.WithSMTPAuthCustom(&credentials{user: u.User.Username(), password: password, host: host, here: here}))
	}
	client, err := mail.NewClient(host, options...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "LOUPE_SMTP_URL cannot be used").Because(err)
	}
	return client, nil
}

// loopback says whether a host is this machine.
func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// credentials authenticate by the best mechanism that a server offers.
type credentials struct {
	smtp.Auth            // the mechanism
	user, password, host string
	here                 bool // the server is on this machine
}

// Start implements smtp.Auth.
func (c *credentials) Start(server *smtp.ServerInfo) (string, []byte, error) {
	if !server.TLS && !c.here {
		return "", nil, smtp.ErrUnencrypted
	}
	offers := func(mechanism string) bool {
		return slices.ContainsFunc(server.Auth, func(s string) bool { return strings.EqualFold(s, mechanism) })
	}
	switch {
	case offers("SCRAM-SHA-256"):
		c.Auth = smtp.ScramSHA256Auth(c.user, c.password)
	case offers("PLAIN"):
		c.Auth = smtp.PlainAuth("", c.user, c.password, c.host, c.here)
	case offers("LOGIN"):
		c.Auth = smtp.LoginAuth(c.user, c.password, c.host, c.here)
	case offers("CRAM-MD5"):
		c.Auth = smtp.CRAMMD5Auth(c.user, c.password)
	default:
		return "", nil, errors.New("notify: the server for mail offers no way to authenticate that is known")
	}
	return c.Auth.Start(server)
}

// message writes a mail: the text of a message as a person reads it.
func (m Mail) message(d *store.Delivery) (*mail.Msg, error) {
	var body struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal([]byte(d.Body), &body); err != nil {
		return nil, errors.Join(err, errForever)
	}
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.From(m.From); err != nil {
		return nil, fault.New(fault.Invalid, "LOUPE_MAIL_FROM is not an address").Because(err)
	}
	if err := msg.To(d.Destination); err != nil {
		return nil, fault.New(fault.Invalid, "not an e-mail address").Because(errors.Join(err, errForever))
	}
	msg.Subject(d.Subject)
	msg.SetMessageIDWithValue(d.ID + "@loupe")
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834
	msg.SetBodyString(mail.TypeTextPlain, body.Text+"\n")
	return msg, nil
}
