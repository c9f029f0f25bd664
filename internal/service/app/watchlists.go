package app

import (
	"context"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/notify"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// Watchlists lists the watchlists of an organisation.
func (s *Server) Watchlists(ctx context.Context, by *Actor, org string, page Page) ([]Watchlist, int, error) {
	if err := s.own(ctx, by, org); err != nil {
		return nil, 0, err
	}
	return s.store.Org(org).Watchlists(ctx, page)
}

// Watchlist returns a watchlist.
func (s *Server) Watchlist(ctx context.Context, by *Actor, org, id string) (Watchlist, error) {
	if err := s.own(ctx, by, org); err != nil {
		return Watchlist{}, err
	}
	return s.store.Org(org).Watchlist(ctx, id)
}

// A WatchlistRequest says what a new watchlist is to be.
type WatchlistRequest struct {
	Name        string
	Channel     string
	Destination string
	Secret      string // with which messages to a webhook are signed; empty for a new one
}

// CreateWatchlist makes an empty watchlist. The secret of a webhook is in the
// answer, and shown nowhere after it.
func (s *Server) CreateWatchlist(ctx context.Context, by *Actor, org string, req WatchlistRequest) (Watchlist, error) {
	if err := s.own(ctx, by, org); err != nil {
		return Watchlist{}, err
	}
	name, err := account.CleanName("name", req.Name, 200)
	if err != nil {
		return Watchlist{}, err
	}
	if err := s.notify.CheckDestination(ctx, req.Channel, req.Destination); err != nil {
		return Watchlist{}, err
	}
	if err := notify.CheckSecret(req.Secret); err != nil {
		return Watchlist{}, err
	}
	w := Watchlist{Name: name, Channel: req.Channel, Destination: req.Destination, CreatedAt: store.At(s.now())}
	if w.Channel == notify.Webhook {
		if w.Secret = req.Secret; w.Secret == "" {
			w.Secret = notify.NewSecret()
		}
	}
	err = s.change(ctx, by, org, "watchlist.create", func(ctx context.Context, _ *store.Tx, o store.OrgTx) (string, any, error) {
		w.ID = "" // the function may be called again
		if _, total, err := o.Watchlists(ctx, Page{Limit: 1}); err != nil {
			return "", nil, err
		} else if total >= maxWatchlists {
			return "", nil, fault.New(fault.Exhausted, "an organization has %d watchlists at most", maxWatchlists).Try("delete one first")
		}
		err := o.CreateWatchlist(ctx, &w)
		return w.ID, map[string]any{"name": name, "channel": w.Channel}, err
	})
	return w, err
}

// DeleteWatchlist forgets a watchlist.
func (s *Server) DeleteWatchlist(ctx context.Context, by *Actor, org, id string) error {
	return s.change(ctx, by, org, "watchlist.delete", func(ctx context.Context, _ *store.Tx, o store.OrgTx) (string, any, error) {
		return id, nil, o.DeleteWatchlist(ctx, id)
	})
}

// TestWatchlist sends a message that says no more than that it arrives.
func (s *Server) TestWatchlist(ctx context.Context, by *Actor, org, id string) error {
	return s.change(ctx, by, org, "watchlist.test", func(ctx context.Context, tx *store.Tx, o store.OrgTx) (string, any, error) {
		w, err := o.Watchlist(ctx, id)
		if err != nil {
			return "", nil, err
		}
		return id, nil, s.monitor.Test(ctx, tx, &w)
	})
}

// Watches lists the packages of a watchlist.
func (s *Server) Watches(ctx context.Context, by *Actor, org, watchlist string, page Page) ([]Watch, int, error) {
	if _, err := s.Watchlist(ctx, by, org, watchlist); err != nil {
		return nil, 0, err
	}
	return s.store.Org(org).Watches(ctx, watchlist, page)
}

// maxWatchlists bounds the watchlists of an organisation.
const maxWatchlists = 200

// fewestWatched is how many packages any plan watches.
const fewestWatched = 500

// roomToWatch refuses a watch beyond what the plan analyses in a month: each
// watched package is analysed without being asked for again.
func roomToWatch(ctx context.Context, by *Actor, o store.OrgTx) error {
	if by.Plan.Month == store.Unlimited {
		return nil
	}
	lists, _, err := o.Watchlists(ctx, Page{Limit: maxWatchlists})
	if err != nil {
		return err
	}
	var watched int64
	for _, l := range lists {
		watched += int64(l.PackageCount)
	}
	if most := max(by.Plan.Month, fewestWatched); watched >= most {
		return fault.New(fault.Exhausted, "the plan %s watches %d packages at most", by.Plan.Name, most)
	}
	return nil
}

// AddWatch puts a package on a watchlist, in one version or in all.
func (s *Server) AddWatch(ctx context.Context, by *Actor, org, watchlist string, req PackageRequest) (Watch, error) {
	if err := s.own(ctx, by, org); err != nil {
		return Watch{}, err
	}
	eco, name, err := ParsePackage(req.Ecosystem, req.Name)
	if err == nil && req.Version != "" {
		_, _, err = req.exact()
	}
	if err != nil {
		return Watch{}, err
	}
	w := Watch{WatchlistID: watchlist, Ecosystem: eco, Name: name, Version: req.Version, CreatedAt: store.At(s.now())}
	err = s.change(ctx, by, org, "watch.add", func(ctx context.Context, _ *store.Tx, o store.OrgTx) (string, any, error) {
		w.ID = "" // the function may be called again
		if err := roomToWatch(ctx, by, o); err != nil {
			return "", nil, err
		}
		err := o.AddWatch(ctx, &w)
		if fault.Is(err, fault.Conflict) {
			err = fault.New(fault.Conflict, "%s:%s is on this watchlist already", eco, name)
		}
		return w.ID, map[string]any{"watchlist": watchlist, "package": string(eco) + ":" + name}, err
	})
	return w, err
}

// RemoveWatch takes a package off a watchlist.
func (s *Server) RemoveWatch(ctx context.Context, by *Actor, org, watchlist, id string) error {
	return s.change(ctx, by, org, "watch.remove", func(ctx context.Context, _ *store.Tx, o store.OrgTx) (string, any, error) {
		return id, map[string]any{"watchlist": watchlist}, o.RemoveWatch(ctx, watchlist, id)
	})
}
