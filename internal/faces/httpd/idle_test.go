package httpd_test

import (
	"context"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// idle is a backend that knows nobody and counts nothing.
type idle struct{}

func (idle) Authenticate(context.Context, string) (*app.Actor, error) {
	return nil, fault.New(fault.Unauthenticated, "nobody")
}
func (idle) Take(context.Context, string, []app.Rate) (app.Count, error) { return app.Count{}, nil }
func (idle) BeginRepeat(context.Context, *app.Actor, app.Repeat) (app.RepeatState, app.Answer, error) {
	return app.RepeatNew, app.Answer{}, nil
}
func (idle) FinishRepeat(context.Context, *app.Actor, app.Repeat, app.Answer) error { return nil }
func (idle) Ready(context.Context) error                                            { return nil }
func (idle) Figures(context.Context) (app.Figures, error)                           { return app.Figures{}, nil }
