// Package notify sends messages to the outside: mail, chat, webhooks. A message
// is a row before it is sent, in the transaction that is its reason, and keeps
// its id over all attempts, so that who gets it twice can tell. What cannot be
// delivered for three days is given up, kept, and can be sent again.
package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/jobs"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// The channels by which a message goes out.
const (
	Email   = "email"
	Slack   = "slack"
	Webhook = "webhook"
)

// Options say how to send.
type Options struct {
	Egress  *egress.Client
	Mail    Mail
	Backoff func(attempt int) time.Duration // before another attempt; nil is the usual one
	Now     func() time.Time
}

// A Service sends messages. It is safe for concurrent use.
type Service struct {
	store *store.Store
	jobs  *jobs.Queue
	opt   Options
}

// New returns a service. Its messages are sent by [Service.Handler].
func New(st *store.Store, opt Options) *Service {
	if opt.Backoff == nil {
		opt.Backoff = backoff
	}
	return &Service{store: st, opt: opt}
}

// Use gives the service the queue in which its messages wait. It is called once,
// before the first message.
func (s *Service) Use(q *jobs.Queue) { s.jobs = q }

// deliver is the job of one attempt to send a message. Times are in milliseconds
// since 1970.
type deliver struct {
	Delivery string `json:"delivery"`
	Due      int64  `json:"due"`   // of the attempt: if the message is due at another time, that is another job's
	Since    int64  `json:"since"` // when it was asked for
}

// Kind names the job.
func (deliver) Kind() string { return "deliver" }

// Send has a message sent, once the transaction is committed.
func (s *Service) Send(ctx context.Context, tx *store.Tx, org string, d *store.Delivery) error {
	d.CreatedAt = store.At(s.opt.Now())
	if err := tx.Org(org).CreateDelivery(ctx, d); err != nil {
		return err
	}
	at := d.CreatedAt.UnixMilli()
	_, err := s.jobs.EnqueueTx(ctx, tx, deliver{d.ID, at, at}, jobs.Insert{Class: jobs.Deliver})
	return err
}

// Again has a message of an organisation sent once more, under its id, and tried
// as long as a new one.
func (s *Service) Again(ctx context.Context, tx *store.Tx, org, id string) error {
	if err := hold(ctx, tx, id); err != nil {
		return err
	}
	d, err := tx.Org(org).Delivery(ctx, id)
	if err != nil {
		return err
	}
	at := store.At(s.opt.Now())
	if at.Equal(d.NextAt.Time) { // an attempt for this very moment waits
		at = store.At(at.Add(time.Millisecond))
	}
	if err := tx.Org(org).Redeliver(ctx, id, at); err != nil {
		return err
	}
	_, err = s.jobs.EnqueueTx(ctx, tx, deliver{id, at.UnixMilli(), at.UnixMilli()}, jobs.Insert{Class: jobs.Deliver})
	return err
}

// hold lets nobody else note anything about a message until the transaction ends.
func hold(ctx context.Context, tx *store.Tx, id string) error { return tx.Lock(ctx, "delivery "+id) }

// CheckDestination says why a message cannot go to a destination, or nil.
func (s *Service) CheckDestination(ctx context.Context, channel, destination string) error {
	switch channel {
	case Email:
		return checkAddress(destination)
	case Slack, Webhook:
		if len(destination) > maxURL {
			return fault.New(fault.Invalid, "destination: longer than %d bytes", maxURL).In("destination", nil)
		}
		err := s.opt.Egress.CheckURL(ctx, destination)
		if err == nil {
			return nil
		}
		_, text := fault.Of(err)
		return fault.New(fault.Invalid, "destination: %s", text).In("destination", nil)
	}
	return fault.New(fault.Invalid, "channel: email, slack or webhook").In("channel", channel)
}

const (
	// lifetime is how long a message is tried.
	lifetime = 72 * time.Hour

	// answerTime is how long a receiver may take to answer.
	answerTime = 10 * time.Second

	// maxURL bounds a destination, in bytes.
	maxURL = 2000
)

// backoff is how long to wait after an attempt, the first being 1: 5 s, 30 s,
// 3 min, 15 min, an hour, and then every six hours, each up to a fifth longer.
func backoff(attempt int) time.Duration {
	steps := []time.Duration{5 * time.Second, 30 * time.Second, 3 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour}
	wait := steps[min(attempt-1, len(steps)-1)]
	return wait + time.Duration(rand.Int64N(int64(wait)/5))
}

// Handler runs the jobs of messages.
func (s *Service) Handler() jobs.Handler {
	return jobs.Handler{Kind: deliver{}.Kind(), Timeout: 2 * time.Minute, Run: s.run, GaveUp: s.gaveUp}
}

// run sends one message, and notes how that went. The note is written after the
// message is sent: a process that dies in between sends it again, under the same
// id.
func (s *Service) run(ctx context.Context, job *jobs.Job) error {
	var args deliver
	if err := job.Decode(&args); err != nil {
		return jobs.Cancel(err)
	}
	d, err := s.store.DeliveryByID(ctx, args.Delivery)
	if fault.Is(err, fault.NotFound) || err == nil && !args.meant(&d) {
		return nil
	}
	if err != nil {
		return err
	}
	status, failure := s.send(ctx, &d)
	if cause := context.Cause(ctx); failure != nil && cause != nil && !errors.Is(cause, jobs.ErrTimeout) {
		return cause // this process stops, and another one goes on
	}
	attempt := s.judge(&d, args, status, failure)
	return s.store.Write(context.WithoutCancel(ctx), func(ctx context.Context, tx *store.Tx) error {
		if err := s.note(ctx, tx, args, attempt); err != nil {
			return err
		}
		return job.Complete(ctx, tx)
	})
}

// meant says whether a job is the one for the next attempt to send a message.
func (args deliver) meant(d *store.Delivery) bool {
	return d.Status == store.DeliveryPending && d.NextAt.UnixMilli() == args.Due
}

// judge says what becomes of a message after an attempt.
func (s *Service) judge(d *store.Delivery, args deliver, status int, failure error) store.Attempt {
	now := s.opt.Now()
	a := store.Attempt{Status: store.DeliveryDelivered, ResponseStatus: status, At: store.At(now)}
	if failure == nil {
		return a
	}
	_, a.Error = fault.Of(failure)
	a.Status = store.DeliveryDead
	next := now.Add(s.opt.Backoff(d.Attempts + 1))
	if !errors.Is(failure, errForever) && next.Sub(time.UnixMilli(args.Since)) < lifetime {
		a.Status, a.NextAt = store.DeliveryPending, store.At(next)
	}
	return a
}

// note writes down how an attempt went, and has the next one made. If the message
// was asked for again meanwhile, that goes on as if there had been no attempt.
func (s *Service) note(ctx context.Context, tx *store.Tx, args deliver, a store.Attempt) error {
	if err := hold(ctx, tx, args.Delivery); err != nil {
		return err
	}
	d, err := tx.DeliveryByID(ctx, args.Delivery)
	if fault.Is(err, fault.NotFound) || err == nil && !args.meant(&d) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := tx.RecordAttempt(ctx, d.ID, a); err != nil || a.Status != store.DeliveryPending {
		return err
	}
	args.Due = a.NextAt.UnixMilli()
	_, err = s.jobs.EnqueueTx(ctx, tx, args, jobs.Insert{Class: jobs.Deliver, At: a.NextAt.Time})
	return err
}

// gaveUp says of a message that no attempt came to an end.
func (s *Service) gaveUp(ctx context.Context, tx *store.Tx, job *jobs.Job, why error) error {
	var args deliver
	if err := job.Decode(&args); err != nil {
		return nil // it is about nothing
	}
	_, text := fault.Of(why)
	return s.note(ctx, tx, args, store.Attempt{Status: store.DeliveryDead, Error: text, At: store.At(s.opt.Now())})
}

// errForever is within a failure that another attempt will not mend.
var errForever = errors.New("notify: for ever")

// send sends a message once, and returns the status that a web server answered
// with.
func (s *Service) send(ctx context.Context, d *store.Delivery) (status int, err error) {
	header := http.Header{"Content-Type": {"application/json"}}
	body := []byte(d.Body)
	switch d.Channel {
	case Email:
		return 0, s.opt.Mail.send(ctx, s.opt.Egress, d)
	case Slack:
		if body, err = slackText(body); err != nil {
			return 0, err
		}
	case Webhook:
		sign(header, d.ID, s.opt.Now(), body, d.Secret)
	default:
		return 0, fault.New(fault.Invalid, "there is no channel %q", d.Channel).Because(errForever)
	}
	resp, err := s.opt.Egress.Post(ctx, d.Destination, header, body, 0, answerTime) // nobody looks at the body of the answer
	if err != nil {
		return 0, err
	}
	switch {
	case resp.Status >= 200 && resp.Status < 300:
		return resp.Status, nil
	case resp.Status == http.StatusGone: // the receiver wants no more (Standard Webhooks)
		return resp.Status, fault.New(fault.Unavailable, "%s answered 410: it is gone", host(d.Destination)).Because(errForever)
	}
	return resp.Status, fault.New(fault.Unavailable, "%s answered %d", host(d.Destination), resp.Status)
}

// host is what may be said of a destination: its path is often a secret.
func host(destination string) string {
	u, err := url.Parse(destination)
	if err != nil {
		return "the destination"
	}
	return u.Host
}

// slackText makes Slack's form of a message: its text alone.
func slackText(body []byte) ([]byte, error) {
	var m struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("notify: a message without text: %w", errors.Join(err, errForever))
	}
	return json.Marshal(m)
}
