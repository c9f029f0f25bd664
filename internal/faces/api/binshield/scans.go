package binshield

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/service/app"
	"github.com/loupe-sec/loupe/internal/service/store"
)

type submitIn struct {
	Body ScanRequest
}

func (h handler) submit(ctx context.Context, in *submitIn) (*dialect.Raw, error) {
	scan, err := h.app.Submit(ctx, dialect.Actor(ctx), app.PackageRequest{
		Ecosystem: in.Body.Ecosystem, Name: in.Body.PackageName, Version: in.Body.Version,
		Repo: in.Body.Repo, Source: in.Body.Source, Force: in.Body.Force,
	})
	if err != nil {
		return nil, err
	}
	if !scan.Status.Open() {
		dialect.SetStatus(ctx, http.StatusOK)
	}
	return h.job(ctx, scan)
}

type scanIn struct {
	ID string `path:"id" doc:"of the scan"`
}

func (h handler) scan(ctx context.Context, in *scanIn) (*dialect.Raw, error) {
	scan, err := h.app.PackageScan(ctx, dialect.Actor(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	return h.job(ctx, scan)
}

func (h handler) cancel(ctx context.Context, in *scanIn) (Done, error) {
	return done, h.app.CancelScan(ctx, dialect.Actor(ctx), in.ID)
}

// statuses are the words of the document for how far a scan is.
var statuses = map[store.ScanStatus]string{
	store.ScanQueued:    "queued",
	store.ScanRunning:   "analyzing",
	store.ScanComplete:  "complete",
	store.ScanFailed:    "failed",
	store.ScanCancelled: "failed",
}

// job returns the JSON of a scan, with its result if it is complete. The result
// is bytes already, and is not read again to be written.
func (h handler) job(ctx context.Context, scan *app.PackageScan) (*dialect.Raw, error) {
	req := app.RequestOf(scan)
	out := ScanJob{
		ID: scan.ID, Status: statuses[scan.Status], Stage: scan.Stage,
		RequestedAt: stamp(scan.RequestedAt.Time), StartedAt: stamp(scan.StartedAt.Time), CompletedAt: stamp(scan.CompletedAt.Time),
		Request: ScanRequest{
			Ecosystem: req.Ecosystem, PackageName: req.Name, Version: req.Version, Repo: req.Repo, Source: req.Source, Force: req.Force,
		},
		Error: scan.Error,
	}
	if scan.Status == store.ScanCancelled {
		out.Error = "cancelled"
	}
	complete := scan.Status == store.ScanComplete
	if complete {
		out.CacheHit = &scan.CacheHit
	}
	data, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	if complete {
		whole, err := h.whole(ctx, scan.AnalysisID)
		if err != nil {
			return nil, err
		}
		data = append(append(append(data[:len(data)-1], `,"result":`...), whole.Data...), '}')
	}
	return &dialect.Raw{MediaType: "application/json", Data: data}, nil
}
