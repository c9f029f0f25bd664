package app

import (
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/store"
)

// What faces say and hear of who asks.
type (
	Actor = account.Actor
	Scope = account.Scope
	Rate  = account.Rate
	Count = account.Count
)

// The scopes that routes ask for.
const (
	ScansTrigger = account.ScansTrigger
	ScansRead    = account.ScansRead
	OrgRead      = account.OrgRead
	OrgWrite     = account.OrgWrite
	Admin        = account.Admin
)

// What faces show of what is kept.
type (
	Page         = store.Page
	Organization = store.Organization
	Key          = store.Key
	Repo         = store.Repo
	Watchlist    = store.Watchlist
	Watch        = store.Watch
	Subscription = store.Subscription
	Analysis     = store.Analysis
	PackageScan  = store.Scan
)

// What faces ask of requests that may come twice.
type (
	Repeat      = store.Repeat
	Answer      = store.Answer
	RepeatState = store.RepeatState
)

// The states of a request that may have come before.
const (
	RepeatNew      = store.RepeatNew
	RepeatRunning  = store.RepeatRunning
	RepeatOther    = store.RepeatOther
	RepeatAnswered = store.RepeatAnswered
)
