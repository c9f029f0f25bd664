package notify_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/service/notify"
	"github.com/loupe-sec/loupe/internal/service/store"
	"github.com/loupe-sec/loupe/internal/service/storetest"
)

// mailServer is as much of an SMTP server (RFC 5321) as a test needs.
type mailServer struct {
	address string      // on loopback
	cert    []byte      // PEM, of mail.example
	tls     *tls.Config // for STARTTLS, or from the start
	direct  bool        // TLS from the start
	auth    string      // mechanisms that are offered; empty for none
	refuse  string      // command that is refused with 550
	bye     bool        // the connection breaks after a message was taken

	mu    sync.Mutex
	talks []string // what clients said, passwords decoded
	mails []string
	plain bool // a password came without TLS

}

func newMailServer(t *testing.T, configure func(s *mailServer)) *mailServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"mail.example"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		tls:  &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
	}
	configure(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s.address = l.Addr().String()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.talk(conn)
		}
	}()
	return s
}

// port is that on which the server listens.
func (s *mailServer) port() string {
	_, port, _ := net.SplitHostPort(s.address)
	return port
}

func (s *mailServer) said(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.talks = append(s.talks, line)
}

// got returns the mails and the commands so far.
func (s *mailServer) got() (mails []string, talk string, plain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mails...), strings.Join(s.talks, "\n"), s.plain
}

func (s *mailServer) talk(conn net.Conn) {
	defer func() { conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	encrypted := s.direct
	if s.direct {
		conn = tls.Server(conn, s.tls)
	}
	r := bufio.NewReader(conn)
	say := func(lines ...string) { fmt.Fprint(conn, strings.Join(lines, "\r\n")+"\r\n") }
	decode := func(text string) string { b, _ := base64.StdEncoding.DecodeString(text); return string(b) }
	say("220 mail.example")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(line, "AUTH") {
			s.said(line)
		}
		if s.refuse != "" && strings.HasPrefix(line, s.refuse) {
			say("550 no")
			continue
		}
		switch strings.ToUpper(verb) {
		case "EHLO":
			lines := []string{"250-mail.example"}
			if s.tls != nil && !encrypted {
				lines = append(lines, "250-STARTTLS")
			}
			if s.auth != "" {
				lines = append(lines, "250-AUTH "+s.auth)
			}
			say(append(lines, "250 PIPELINING")...)
		case "STARTTLS":
			say("220 go")
			conn = tls.Server(conn, s.tls)
			r, encrypted = bufio.NewReader(conn), true
		case "AUTH":
			s.mu.Lock()
			s.plain = s.plain || !encrypted
			s.mu.Unlock()
			if mechanism, first, _ := strings.Cut(rest, " "); mechanism == "PLAIN" {
				s.said("AUTH PLAIN " + strings.ReplaceAll(decode(first), "\x00", "|"))
			} else {
				answers := ""
				for _, ask := range []string{"Username:", "Password:"} {
					say("334 " + base64.StdEncoding.EncodeToString([]byte(ask)))
					answer, _ := r.ReadString('\n')
					answers += "|" + decode(strings.TrimSpace(answer))
				}
				s.said("AUTH " + mechanism + " " + answers)
			}
			say("235 yes")
		case "DATA":
			say("354 go")
			var text strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			s.mu.Lock()
			s.mails = append(s.mails, text.String())
			s.mu.Unlock()
			say("250 taken")
			if s.bye {
				return
			}
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// mailed sends one mail and returns what became of it after the first attempt.
func mailed(t *testing.T, st *store.Store, s *mailServer, url string, trust bool, d store.Delivery) (store.Delivery, world) {
	t.Helper()
	out := egress.New(egress.Options{Resolve: loopback}) // to which the operator's server may be private
	t.Cleanup(out.Close)
	if trust {
		if err := out.TrustCertificates(s.cert); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, st, notify.Options{
		Egress: out, Mail: notify.Mail{URL: url, From: "Loupe <loupe@example.com>"}, Backoff: func(int) time.Duration { return time.Hour },
	})
	d.Channel = notify.Email
	if d.Destination == "" {
		d.Destination = "security@example.com"
	}
	id := w.send(t, d)
	return w.until(t, id, func(d *store.Delivery) bool { return d.Attempts == 1 }), w
}

func TestMail(t *testing.T) {
	for _, test := range []struct {
		name, url string // PORT stands for that of the server
		configure func(s *mailServer)
		trust     bool   // of the server's certificate
		fails     string // as the error says
		talk      string // a line of what the client says
	}{
		{"plain", "smtp://mail.example:PORT", func(s *mailServer) { s.tls = nil }, false, "", "RCPT TO:<security@example.com>"},
		{"STARTTLS", "smtp://mail.example:PORT", func(s *mailServer) {}, true, "", "STARTTLS"},
		{"STARTTLS with whoever", "smtp://mail.example:PORT", func(s *mailServer) {}, false, "", "STARTTLS"},
		{"PLAIN", "smtp://ada:hunter2@mail.example:PORT", func(s *mailServer) { s.auth = "LOGIN PLAIN" }, true, "", "AUTH PLAIN |ada|hunter2"},
		{"LOGIN", "smtp://ada:hunter2@mail.example:PORT", func(s *mailServer) { s.auth = "LOGIN" }, true, "", "AUTH LOGIN |ada|hunter2"},
		{"escaped", "smtp://ada%40example.com:hunter%2F2@mail.example:PORT", func(s *mailServer) { s.auth = "PLAIN" }, true, "", "AUTH PLAIN |ada@example.com|hunter/2"},
		{"smtps", "smtps://ada:hunter2@mail.example:PORT", func(s *mailServer) { s.direct, s.auth = true, "PLAIN" }, true, "", "AUTH PLAIN |ada|hunter2"},
		{"smtps without password", "smtps://mail.example:PORT", func(s *mailServer) { s.direct = true }, true, "", "MAIL FROM:<loupe@example.com>"},
		{"smtps with whoever", "smtps://mail.example:PORT", func(s *mailServer) { s.direct = true }, false, "did not take", ""},
		{"smtps with who speaks no TLS", "smtps://ada:hunter2@mail.example:PORT", func(s *mailServer) { s.tls, s.auth = nil, "PLAIN" }, true, "did not take", ""},
		{"a password without TLS", "smtp://ada:hunter2@mail.example:PORT", func(s *mailServer) { s.tls, s.auth = nil, "PLAIN LOGIN CRAM-MD5" }, true, "did not take", ""},
		{"a password for whoever", "smtp://ada:hunter2@mail.example:PORT", func(s *mailServer) { s.auth = "PLAIN" }, false, "did not take", ""},
		{"a password for another name", "smtp://ada:hunter2@other.example:PORT", func(s *mailServer) { s.auth = "PLAIN" }, true, "did not take", ""},
		{"a password on this machine", "smtp://ada:hunter2@127.0.0.1:PORT", func(s *mailServer) { s.tls, s.auth = nil, "PLAIN" }, false, "", "AUTH PLAIN |ada|hunter2"},
		{"LOGIN on this machine", "smtp://ada:hunter2@localhost:PORT", func(s *mailServer) { s.tls, s.auth = nil, "LOGIN" }, false, "", "AUTH LOGIN |ada|hunter2"},
		{"TLS on this machine", "smtp://ada:hunter2@127.0.0.1:PORT", func(s *mailServer) { s.auth = "PLAIN" }, false, "", "STARTTLS"},
		{"no way to authenticate", "smtp://ada:hunter2@mail.example:PORT", func(s *mailServer) { s.auth = "GSSAPI" }, true, "did not take", ""},
		{"nobody there", "smtp://mail.example:1", func(s *mailServer) {}, true, "did not take", ""},
		{"no such recipient", "smtp://mail.example:PORT", func(s *mailServer) { s.refuse = "RCPT" }, true, "refused the message with 550", ""},
		{"a sender that is refused", "smtp://mail.example:PORT", func(s *mailServer) { s.refuse = "MAIL" }, true, "did not take", ""},
		{"a server that goes", "smtp://mail.example:PORT", func(s *mailServer) { s.bye = true }, true, "", ""},
		{"no server", "", func(s *mailServer) {}, true, "set LOUPE_SMTP_URL", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := storetest.Open(t, storetest.Options(t, store.SQLite))
			s := newMailServer(t, test.configure)
			d, w := mailed(t, st, s, strings.Replace(test.url, "PORT", s.port(), 1), test.trust, store.Delivery{Subject: "a"})
			mails, talk, plain := s.got()
			want := store.DeliveryDelivered
			switch {
			case strings.Contains(test.fails, "550"):
				want = store.DeliveryDead // which another attempt would not mend
			case test.fails != "":
				want = store.DeliveryPending
			}
			if d.Status != want || !strings.Contains(d.Error, test.fails) || (d.Error == "") != (test.fails == "") || (len(mails) == 1) != (test.fails == "") {
				t.Errorf("the mail is %s: %s; want %s: %s; the client said\n%s", d.Status, d.Error, want, test.fails, talk)
			}
			if !strings.Contains("\n"+talk+"\n", "\n"+test.talk+"\n") && test.talk != "" {
				t.Errorf("the client said\n%s\nwant %s", talk, test.talk)
			}
			if here := strings.Contains(test.name, "this machine"); plain && !here || test.fails != "" && strings.Contains(talk, "hunter2") {
				t.Errorf("a password came without TLS: %v; the client said\n%s", plain, talk)
			}
			if strings.Contains(d.Error+w.log.String(), "hunter2") {
				t.Errorf("the password is in an error or the log: %s\n%s", d.Error, w.log)
			}
		})
	}
}

// A mail says what it is to say, in letters of any kind, and a text can neither
// add a header nor end the message.
func TestMailText(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		s := newMailServer(t, func(s *mailServer) { s.tls = nil })
		const subject = "npm:größe changed\r\nBcc: victim@example.com\r\n\r\nbody from 1 to 2 " + "日本語 and many more words so that it has to be folded over lines"
		const said = "Größe changed.\r\n.\r\nMAIL FROM:<evil@example.com>\r\nTo: victim@example.com\n日本語"
		body := fmt.Sprintf(`{"type":"a","text":%q}`, said)
		d, _ := mailed(t, st, s, "smtp://mail.example:"+s.port(), false, store.Delivery{Subject: subject, Body: body})
		mails, talk, _ := s.got()
		if d.Status != store.DeliveryDelivered || len(mails) != 1 || strings.Contains(talk, "victim") || strings.Contains(talk, "evil") {
			t.Fatalf("the mail is %+v; the client said\n%s", d, talk)
		}
		msg, err := netmail.ReadMessage(strings.NewReader(mails[0]))
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
		if err != nil || !strings.Contains(decoded, "npm:größe changed") || !strings.Contains(decoded, "日本語 and") {
			t.Errorf("subject %q, %v", decoded, err)
		}
		for name, want := range map[string]string{
			"To": "<security@example.com>", "From": `"Loupe" <loupe@example.com>`, "Message-Id": "<" + d.ID + "@loupe>",
			"Auto-Submitted": "auto-generated", "Bcc": "", "Cc": "", "Mime-Version": "1.0",
		} {
			if got := msg.Header.Get(name); got != want {
				t.Errorf("%s: %q; want %q", name, got, want)
			}
		}
		if _, err := msg.Header.Date(); err != nil {
			t.Error(err)
		}
		var text io.Reader = msg.Body
		if msg.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			text = quotedprintable.NewReader(text)
		}
		got, err := io.ReadAll(text)
		plain := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")) }
		if err != nil || plain(string(got)) != plain(said) {
			t.Errorf("the mail says %q, %v; want %q", got, err, said)
		}
	})
}

// A server that never answers does not keep who sends for long.
func TestMailSilence(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	st := storetest.Open(t, storetest.Options(t, store.SQLite))
	_, port, _ := net.SplitHostPort(l.Addr().String())
	start := time.Now()
	d, _ := mailed(t, st, nil, "smtp://mail.example:"+port, false, store.Delivery{Subject: "a"})
	if took := time.Since(start); d.Status != store.DeliveryPending || took < 5*time.Second || took > 40*time.Second {
		t.Errorf("it is %s after %v", d.Status, took)
	}
}
