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

// deliver is the job that sends a message.
type deliver struct {
	Delivery string `json:"delivery"`
}

// Kind names the job.
func (deliver) Kind() string { return "deliver" }

// Send has a message sent, once the transaction is committed.
func (s *Service) Send(ctx context.Context, tx *store.Tx, org string, d *store.Delivery) error {
	d.CreatedAt = store.At(s.opt.Now())
	if err := tx.Org(org).CreateDelivery(ctx, d); err != nil {
		return err
	}
	_, err := s.jobs.EnqueueTx(ctx, tx, deliver{d.ID}, jobs.Insert{Class: jobs.Deliver})
	return err
}

// Again has a message of an organisation sent once more, under its id.
func (s *Service) Again(ctx context.Context, tx *store.Tx, org, id string) error {
	if err := tx.Org(org).Redeliver(ctx, id, store.At(s.opt.Now())); err != nil {
		return err
	}
	_, err := s.jobs.EnqueueTx(ctx, tx, deliver{id}, jobs.Insert{Class: jobs.Deliver})
	return err
}

// CheckDestination says why a message cannot go to a destination, or nil.
func (s *Service) CheckDestination(ctx context.Context, channel, destination string) error {
	switch channel {
	case Email:
		return checkAddress(destination)
	case Slack, Webhook:
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

	// maxAnswer is how much of an answer is read, in bytes: nobody looks at it,
	// but a connection can be used again once it is read.
	maxAnswer = 4 << 10
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
	return jobs.Handler{Kind: deliver{}.Kind(), Timeout: 2 * time.Minute, Run: s.run}
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
	if fault.Is(err, fault.NotFound) || err == nil && d.Status != store.DeliveryPending {
		return nil
	}
	if err != nil {
		return err
	}
	status, failure := s.send(ctx, &d)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	now := s.opt.Now()
	attempt := store.Attempt{Status: store.DeliveryDelivered, ResponseStatus: status, At: store.At(now)}
	if failure != nil {
		_, attempt.Error = fault.Of(failure)
		attempt.Status = store.DeliveryDead
		if next := now.Add(s.opt.Backoff(d.Attempts + 1)); !errors.Is(failure, errForever) && next.Sub(d.CreatedAt.Time) < lifetime {
			attempt.Status, attempt.NextAt = store.DeliveryPending, store.At(next)
		}
	}
	return s.store.Write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.RecordAttempt(ctx, d.ID, attempt); err != nil && !fault.Is(err, fault.Conflict) {
			return err
		}
		if attempt.Status == store.DeliveryPending {
			if _, err := s.jobs.EnqueueTx(ctx, tx, args, jobs.Insert{Class: jobs.Deliver, At: attempt.NextAt.Time}); err != nil {
				return err
			}
		}
		return job.Complete(ctx, tx)
	})
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
	resp, err := s.opt.Egress.Post(ctx, d.Destination, header, body, maxAnswer, answerTime)
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
		return nil, fmt.Errorf("notify: a message without text: %w", err)
	}
	return json.Marshal(m)
}
