package binshield

import (
	"context"

	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/service/app"
)

func newWatchlist(w *app.Watchlist) Watchlist {
	return Watchlist{
		ID: w.ID, OrgID: w.OrgID, Name: w.Name, Channel: w.Channel, Destination: w.Destination,
		CreatedAt: stamp(w.CreatedAt.Time), PackageCount: int64(w.PackageCount),
	}
}

func (h handler) watchlists(ctx context.Context, in *orgListIn) (Items[Watchlist], error) {
	rows, total, err := h.app.Watchlists(ctx, dialect.Actor(ctx), in.Org, in.of())
	return items(ctx, in.Part, rows, total, err, newWatchlist)
}

func (h handler) watchlist(ctx context.Context, in *ItemPath) (Watchlist, error) {
	w, err := h.app.Watchlist(ctx, dialect.Actor(ctx), in.Org, in.ID)
	return newWatchlist(&w), err
}

type addWatchlistIn struct {
	OrgPath
	Body struct {
		Name        string `json:"name" minLength:"1" maxLength:"200" doc:"for people"`
		Channel     string `json:"channel" enum:"email,slack,webhook" doc:"how messages go out"`
		Destination string `json:"destination" example:"security@ashlr.example" minLength:"1" maxLength:"2000" doc:"an e-mail address, or the URL of a Slack or other webhook"`
		Secret      string `json:"secret,omitempty" maxLength:"200" doc:"with which messages to a webhook are signed; one is made if there is none"`
	}
}

func (h handler) addWatchlist(ctx context.Context, in *addWatchlistIn) (Watchlist, error) {
	w, err := h.app.CreateWatchlist(ctx, dialect.Actor(ctx), in.Org, app.WatchlistRequest{
		Name: in.Body.Name, Channel: in.Body.Channel, Destination: in.Body.Destination, Secret: in.Body.Secret,
	})
	if err != nil {
		return Watchlist{}, err
	}
	out := newWatchlist(&w)
	out.Secret = w.Secret
	return out, nil
}

func (h handler) removeWatchlist(ctx context.Context, in *ItemPath) (Done, error) {
	return done, h.app.DeleteWatchlist(ctx, dialect.Actor(ctx), in.Org, in.ID)
}

func (h handler) testWatchlist(ctx context.Context, in *ItemPath) (Done, error) {
	return done, h.app.TestWatchlist(ctx, dialect.Actor(ctx), in.Org, in.ID)
}

func newWatch(w *app.Watch) Watch {
	return Watch{
		ID: w.ID, WatchlistID: w.WatchlistID, Ecosystem: string(w.Ecosystem), PackageName: w.Name, Version: w.Version, CreatedAt: stamp(w.CreatedAt.Time),
	}
}

type watchesIn struct {
	ItemPath
	Part
}

func (h handler) watches(ctx context.Context, in *watchesIn) (Items[Watch], error) {
	rows, total, err := h.app.Watches(ctx, dialect.Actor(ctx), in.Org, in.ID, in.of())
	return items(ctx, in.Part, rows, total, err, newWatch)
}

type addWatchIn struct {
	ItemPath
	Body struct {
		Ecosystem   string `json:"ecosystem" enum:"npm,pypi" doc:"npm or pypi"`
		PackageName string `json:"packageName" example:"argon2" minLength:"1" maxLength:"214" doc:"with its scope"`
		Version     string `json:"version,omitempty" example:"0.44.0" maxLength:"256" doc:"only this one; all without it"`
	}
}

func (h handler) addWatch(ctx context.Context, in *addWatchIn) (Watch, error) {
	w, err := h.app.AddWatch(ctx, dialect.Actor(ctx), in.Org, in.ID, app.PackageRequest{
		Ecosystem: in.Body.Ecosystem, Name: in.Body.PackageName, Version: in.Body.Version,
	})
	return newWatch(&w), err
}

type watchIn struct {
	ItemPath
	Watch string `path:"watch" doc:"id of the package on the watchlist"`
}

func (h handler) removeWatch(ctx context.Context, in *watchIn) (Done, error) {
	return done, h.app.RemoveWatch(ctx, dialect.Actor(ctx), in.Org, in.ID, in.Watch)
}
