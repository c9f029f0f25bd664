// Package binshield is the BinShield API: packages and what their native
// binaries do, scans, organisations, watchlists and billing. It translates
// between its published JSON and the use cases, and decides nothing.
package binshield

import (
	"net/http"

	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// Dialect is the manners of BinShield.
var Dialect = &dialect.Dialect{
	Name:        "binshield",
	Title:       "BinShield API",
	Description: "What the native binaries inside npm and PyPI packages do, found out by Loupe. Reading packages needs no key; everything else does.",
	Prefixes:    []string{"/health", "/packages", "/scans", "/orgs", "/billing/checkout", "/billing/webhook", "/openapi.json"},
	KeyHeader:   "x-binshield-api-key",
	RateHeaders: true,
	Rates:       (*app.Actor).PerMinute,
	Invalid:     http.StatusBadRequest,
	Body:        func(p dialect.Problem) any { return Error{p.Message} },
	Error:       Error{},
}

// An Error says why there is no answer.
type Error struct {
	Error string `json:"error" doc:"what went wrong, for people" example:"packageName is required"`
}

// New puts the API on a mux. Unless packages are public, reading them needs a
// key.
func New(mux *http.ServeMux, server *app.Server, publicPackages bool) *dialect.API {
	list := routes
	if !publicPackages {
		list = privateRoutes
	}
	return dialect.New(mux, Dialect, handler{server, newShelf()}, list, "/openapi.json", "/openapi/binshield.json")
}

// A handler answers the requests of all routes.
type handler struct {
	app   *app.Server
	shelf *shelf
}
