package binshield

import (
	"time"

	"github.com/loupe-sec/loupe/internal/report"
)

// The JSON of the API. What the published document does not name stands behind
// what it does.

// A PackageAnalysis is all that is known of one version of a package.
type PackageAnalysis struct {
	report.Analysis
	Binaries []report.Binary `json:"binaries" doc:"its native binaries"`
}

// A PackageSummary is a package in the results of a search.
type PackageSummary struct {
	Ecosystem     string `json:"ecosystem" doc:"npm or pypi"`
	PackageName   string `json:"packageName" doc:"with its scope"`
	LatestVersion string `json:"latestVersion" doc:"the highest version that was analysed"`
	RiskLevel     string `json:"riskLevel" enum:"none,low,medium,high,critical" doc:"none is 0, low up to 29, medium up to 59, high up to 79"`
	RiskScore     int64  `json:"riskScore" minimum:"0" maximum:"100" doc:"0 is none"`
	Summary       string `json:"summary" doc:"what it is and does, in a few sentences"`
	BinaryCount   int64  `json:"binaryCount" doc:"how many native binaries it holds"`
}

// PackageVersions are the versions of a package that were analysed.
type PackageVersions struct {
	PackageName string           `json:"packageName" doc:"with its scope"`
	Ecosystem   string           `json:"ecosystem" doc:"npm or pypi"`
	Versions    []PackageVersion `json:"versions" doc:"the highest first"`
}

// A PackageVersion is an analysis without its binaries.
type PackageVersion struct {
	ID                    string   `json:"id" doc:"opaque"`
	Ecosystem             string   `json:"ecosystem" doc:"npm or pypi"`
	PackageName           string   `json:"packageName" doc:"with its scope"`
	Version               string   `json:"version" doc:"exactly this one"`
	Status                string   `json:"status" enum:"complete" doc:"how it stands"`
	RiskScore             int64    `json:"riskScore" doc:"0 is none"`
	RiskLevel             string   `json:"riskLevel" enum:"none,low,medium,high,critical" doc:"none is 0, low up to 29, medium up to 59, high up to 79"`
	Summary               string   `json:"summary" doc:"what it is and does, in a few sentences"`
	SourceMatchConfidence string   `json:"sourceMatchConfidence" enum:"low,medium,high" doc:"of the binary that goes with the published source least"`
	BinaryCount           int64    `json:"binaryCount" doc:"how many native binaries it holds"`
	TotalBinarySize       int64    `json:"totalBinarySize" doc:"of its binaries, in bytes"`
	AIModel               string   `json:"aiModel" doc:"who wrote the explanations; loupe-rules where no model did"`
	CreatedAt             string   `json:"createdAt" format:"date-time" doc:"when it was made"`
	Binaries              []string `json:"binaries" maxItems:"0" doc:"always empty: get the version for them"`
}

// A VersionDiff is what changed from one version of a package to another.
type VersionDiff struct {
	PackageName      string   `json:"packageName" doc:"with its scope"`
	Ecosystem        string   `json:"ecosystem" doc:"npm or pypi"`
	FromVersion      string   `json:"fromVersion" doc:"the older one"`
	ToVersion        string   `json:"toVersion" doc:"the newer one"`
	RiskDelta        int      `json:"riskDelta" doc:"score of to less that of from"`
	Summary          string   `json:"summary" doc:"what it is and does, in a few sentences"`
	AddedBehaviors   []string `json:"addedBehaviors" doc:"what only the newer one does"`
	RemovedBehaviors []string `json:"removedBehaviors" doc:"what only the older one does"`
}

// A ScanRequest is what was asked for, as it was sent.
type ScanRequest struct {
	Ecosystem   string `json:"ecosystem" enum:"npm,pypi" doc:"npm or pypi"`
	PackageName string `json:"packageName" doc:"with its scope" example:"bcrypt" minLength:"1" maxLength:"214"`
	Version     string `json:"version" example:"5.1.1" minLength:"1" maxLength:"256" doc:"one version, exactly"`
	Repo        string `json:"repo,omitempty" maxLength:"500" doc:"the repository for which it is asked"`
	Source      string `json:"source,omitempty" enum:"api,github-action,seed,dashboard" doc:"who asks"`
	Force       bool   `json:"force,omitempty" doc:"look again, even at what was analysed before"`
}

// A ScanJob is a scan as it goes on.
type ScanJob struct {
	ID          string           `json:"id" doc:"opaque"`
	Status      string           `json:"status" enum:"queued,analyzing,complete,failed" doc:"how it stands"`
	Stage       string           `json:"stage,omitempty" enum:"ingest,extract,decompile,classify,persist" doc:"how far it is"`
	RequestedAt string           `json:"requestedAt" format:"date-time" doc:"when it was asked for"`
	StartedAt   string           `json:"startedAt,omitempty" format:"date-time" doc:"when a worker began"`
	CompletedAt string           `json:"completedAt,omitempty" format:"date-time" doc:"when it ended"`
	Request     ScanRequest      `json:"request" doc:"what was asked for"`
	CacheHit    *bool            `json:"cacheHit,omitempty" doc:"it was analysed before"`
	Error       string           `json:"error,omitempty" doc:"why it failed"`
	Result      *PackageAnalysis `json:"result,omitempty" doc:"what was found"`
}

// Health says whether the service works.
type Health struct {
	OK            bool             `json:"ok" doc:"whether it works"`
	Service       string           `json:"service" doc:"which service it is"`
	Mode          string           `json:"mode" enum:"sqlite,postgres" doc:"the kind of database"`
	Repository    HealthRepository `json:"repository" doc:"where data is kept"`
	DefaultFailOn string           `json:"defaultFailOn" enum:"critical,high,medium,low" doc:"risk level from which on builds should fail"`
}

// HealthRepository is where data is kept.
type HealthRepository struct {
	Mode        string `json:"mode" enum:"sqlite,postgres" doc:"the kind of database"`
	Ready       bool   `json:"ready" doc:"whether it answers"`
	Description string `json:"description" doc:"in words"`
}

// An Organization is who holds keys and watchlists.
type Organization struct {
	ID            string `json:"id" doc:"opaque"`
	Name          string `json:"name" doc:"for people"`
	Slug          string `json:"slug" doc:"for addresses"`
	Plan          string `json:"plan" enum:"free,payg,monthly,pro,team,enterprise" doc:"what it may do"`
	BillingStatus string `json:"billingStatus" enum:"trialing,active,past_due,canceled,incomplete" doc:"how its payments stand"`
	CreatedAt     string `json:"createdAt" format:"date-time" doc:"when it was made"`
}

// A Repo is a repository that is watched over.
type Repo struct {
	ID                    string `json:"id" doc:"opaque"`
	OrgID                 string `json:"orgId" doc:"the organization that it belongs to"`
	GithubRepo            string `json:"githubRepo" doc:"owner/name"`
	NativeDependencyCount int64  `json:"nativeDependencyCount" doc:"packages with native binaries among its dependencies"`
	AggregateRiskScore    int64  `json:"aggregateRiskScore" doc:"highest risk score of those"`
	LastScanAt            string `json:"lastScanAt,omitempty" format:"date-time" doc:"when it was last looked at"`
}

// A Watchlist sends a message when a package on it changes.
type Watchlist struct {
	ID           string `json:"id" doc:"opaque"`
	OrgID        string `json:"orgId" doc:"the organization that it belongs to"`
	Name         string `json:"name" doc:"for people"`
	Channel      string `json:"channel" enum:"email,slack,webhook" doc:"how messages go out"`
	Destination  string `json:"destination" doc:"where they go"`
	CreatedAt    string `json:"createdAt" format:"date-time" doc:"when it was made"`
	PackageCount int64  `json:"packageCount" doc:"how many packages are on it"`
	Secret       string `json:"secret,omitempty" doc:"with which messages to a webhook are signed; only shown once"`
}

// A Watch is a package on a watchlist.
type Watch struct {
	ID          string `json:"id" doc:"opaque"`
	WatchlistID string `json:"watchlistId" doc:"the list that it is on"`
	Ecosystem   string `json:"ecosystem" doc:"npm or pypi"`
	PackageName string `json:"packageName" doc:"with its scope"`
	Version     string `json:"version,omitempty" doc:"exactly this one"`
	CreatedAt   string `json:"createdAt" format:"date-time" doc:"when it was made"`
}

// An APIKey is a key without its text, but for the answer that makes it.
type APIKey struct {
	ID         string   `json:"id" doc:"opaque"`
	Label      string   `json:"label" doc:"what it is for"`
	Prefix     string   `json:"prefix" example:"bsh_live_****7A91" doc:"enough of it to tell it from others"`
	CreatedAt  string   `json:"createdAt" format:"date-time" doc:"when it was made"`
	LastUsedAt string   `json:"lastUsedAt,omitempty" format:"date-time" doc:"within some seconds"`
	ExpiresAt  string   `json:"expiresAt,omitempty" format:"date-time" doc:"after which it is useless"`
	Scopes     []string `json:"scopes" doc:"what it may do"`
	Key        string   `json:"key,omitempty" doc:"only shown once"`
}

// A Subscription is what an organisation pays for.
type Subscription struct {
	ID                string `json:"id" doc:"opaque"`
	OrgID             string `json:"orgId" doc:"the organization that it belongs to"`
	Provider          string `json:"provider" enum:"manual,stripe" doc:"manual without a payment service"`
	Plan              string `json:"plan" doc:"what it may do"`
	Status            string `json:"status" enum:"trialing,active,past_due,canceled,incomplete" doc:"how it stands"`
	CurrentPeriodEnd  string `json:"currentPeriodEnd,omitempty" format:"date-time" doc:"until when it is paid for"`
	CancelAtPeriodEnd bool   `json:"cancelAtPeriodEnd" doc:"it ends then"`
	CreatedAt         string `json:"createdAt" format:"date-time" doc:"when it was made"`
	UpdatedAt         string `json:"updatedAt" format:"date-time" doc:"when it last changed"`
}

// A Checkout is where to pay.
type Checkout struct {
	CheckoutURL    string `json:"checkoutUrl" format:"uri" doc:"where to pay"`
	CustomerID     string `json:"customerId" doc:"the payment service's"`
	SubscriptionID string `json:"subscriptionId" doc:"ours, until the payment service names one"`
	Plan           string `json:"plan" enum:"pro,team,enterprise" doc:"what it may do"`
	Status         string `json:"status" enum:"pending" doc:"how it stands"`
}

// Items is a list.
type Items[T any] struct {
	Items []T `json:"items" doc:"what was asked for, page by page"`
}

// Done says that what was asked for is done.
type Done struct {
	OK bool `json:"ok" doc:"whether it works"`
}

var done = Done{true}

// stamp returns a time as the API writes it, and nothing for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
