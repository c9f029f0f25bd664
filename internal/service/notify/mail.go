package notify

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	netmail "net/mail"
	"net/url"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"

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

// send sends a message as mail. The password goes over TLS only: a server that
// does not offer it gets no password, and one on this machine needs none.
func (m Mail) send(ctx context.Context, out *egress.Client, d *store.Delivery) error {
	if m.URL == "" {
		return fault.New(fault.Unavailable, "there is no server for mail").Try("set LOUPE_SMTP_URL and LOUPE_MAIL_FROM")
	}
	client, err := m.client(out)
	if err != nil {
		return err
	}
	msg, err := m.message(d)
	if err != nil {
		return err
	}
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		failure := fault.New(fault.Unavailable, "the server for mail did not take the message").Because(err)
		if e, ok := errors.AsType[*mail.SendError](err); ok && !e.IsTemp() && e.ErrorCode() >= 500 {
			return fault.New(fault.Unavailable, "the server for mail refused the message with %d", e.ErrorCode()).Because(errors.Join(err, errForever))
		}
		return failure
	}
	return nil
}

func (m Mail) client(out *egress.Client) (*mail.Client, error) {
	u, err := url.Parse(m.URL)
	if err != nil {
		return nil, fault.New(fault.Invalid, "LOUPE_SMTP_URL is not an address")
	}
	options := []mail.Option{
		mail.WithTimeout(answerTime),
		mail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			return out.DialTrusted(ctx, network, address)
		}),
		mail.WithTLSPolicy(mail.TLSOpportunistic),
	}
	if u.Scheme == "smtps" {
		options = append(options, mail.WithSSL(), mail.WithPort(465))
	} else {
		options = append(options, mail.WithPort(25))
	}
	if port, err := strconv.Atoi(u.Port()); err == nil {
		options = append(options, mail.WithPort(port))
	}
	if password, ok := u.User.Password(); ok {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
		if u.Scheme != "smtps" {
			options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
		}
	}
	client, err := mail.NewClient(u.Hostname(), options...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "LOUPE_SMTP_URL cannot be used").Because(err)
	}
	return client, nil
}

// message writes a mail: the text of a message as a person reads it.
func (m Mail) message(d *store.Delivery) (*mail.Msg, error) {
	var body struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal([]byte(d.Body), &body); err != nil {
		return nil, err
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
