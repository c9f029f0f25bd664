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
	Binaries []report.Binary `json:"binaries"`
}

// A PackageSummary is a package in the results of a search.
type PackageSummary struct {
	Ecosystem     string `json:"ecosystem"`
	PackageName   string `json:"packageName"`
	LatestVersion string `json:"latestVersion" doc:"the highest version that was analysed"`
	RiskLevel     string `json:"riskLevel" enum:"none,low,medium,high,critical"`
	RiskScore     int64  `json:"riskScore" minimum:"0" maximum:"100"`
	Summary       string `json:"summary"`
	BinaryCount   int64  `json:"binaryCount"`
}

// PackageVersions are the versions of a package that were analysed.
type PackageVersions struct {
	PackageName string           `json:"packageName"`
	Ecosystem   string           `json:"ecosystem"`
	Versions    []PackageVersion `json:"versions" doc:"the highest first"`
}

// A PackageVersion is an analysis without its binaries.
type PackageVersion struct {
	ID                    string   `json:"id"`
	Ecosystem             string   `json:"ecosystem"`
	PackageName           string   `json:"packageName"`
	Version               string   `json:"version"`
	Status                string   `json:"status" enum:"complete"`
	RiskScore             int64    `json:"riskScore"`
	RiskLevel             string   `json:"riskLevel" enum:"none,low,medium,high,critical"`
	Summary               string   `json:"summary"`
	SourceMatchConfidence string   `json:"sourceMatchConfidence" enum:"low,medium,high"`
	BinaryCount           int64    `json:"binaryCount"`
	TotalBinarySize       int64    `json:"totalBinarySize"`
	AIModel               string   `json:"aiModel"`
	CreatedAt             string   `json:"createdAt" format:"date-time"`
	Binaries              []string `json:"binaries" maxItems:"0" doc:"always empty: get the version for them"`
}

// A VersionDiff is what changed from one version of a package to another.
type VersionDiff struct {
	PackageName      string   `json:"packageName"`
	Ecosystem        string   `json:"ecosystem"`
	FromVersion      string   `json:"fromVersion"`
	ToVersion        string   `json:"toVersion"`
	RiskDelta        int      `json:"riskDelta" doc:"score of to less that of from"`
	Summary          string   `json:"summary"`
	AddedBehaviors   []string `json:"addedBehaviors"`
	RemovedBehaviors []string `json:"removedBehaviors"`
}

// A ScanRequest is what was asked for, as it was sent.
type ScanRequest struct {
	Ecosystem   string `json:"ecosystem" enum:"npm,pypi"`
	PackageName string `json:"packageName" doc:"with its scope" example:"bcrypt" minLength:"1" maxLength:"214"`
	Version     string `json:"version" example:"5.1.1" minLength:"1" maxLength:"256" doc:"one version, exactly"`
	Repo        string `json:"repo,omitempty" maxLength:"500" doc:"the repository for which it is asked"`
	Source      string `json:"source,omitempty" enum:"api,github-action,seed,dashboard"`
	Force       bool   `json:"force,omitempty" doc:"look again, even at what was analysed before"`
}

// A ScanJob is a scan as it goes on.
type ScanJob struct {
	ID          string           `json:"id"`
	Status      string           `json:"status" enum:"queued,analyzing,complete,failed"`
	Stage       string           `json:"stage,omitempty" enum:"ingest,extract,decompile,classify,persist"`
	RequestedAt string           `json:"requestedAt" format:"date-time"`
	StartedAt   string           `json:"startedAt,omitempty" format:"date-time"`
	CompletedAt string           `json:"completedAt,omitempty" format:"date-time"`
	Request     ScanRequest      `json:"request"`
	CacheHit    *bool            `json:"cacheHit,omitempty"`
	Error       string           `json:"error,omitempty" doc:"why it failed"`
	Result      *PackageAnalysis `json:"result,omitempty"`
}

// Health says whether the service works.
type Health struct {
	OK            bool             `json:"ok"`
	Service       string           `json:"service"`
	Mode          string           `json:"mode" enum:"sqlite,postgres"`
	Repository    HealthRepository `json:"repository"`
	DefaultFailOn string           `json:"defaultFailOn" enum:"critical,high,medium,low"`
}

// HealthRepository is where data is kept.
type HealthRepository struct {
	Mode        string `json:"mode" enum:"sqlite,postgres"`
	Ready       bool   `json:"ready"`
	Description string `json:"description"`
}

// An Organization is who holds keys and watchlists.
type Organization struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	Slug          string `json:"slug"`
	Plan          string `json:"plan" enum:"free,payg,monthly,pro,team,enterprise"`
	BillingStatus string `json:"billingStatus" enum:"trialing,active,past_due,canceled,incomplete"`
	CreatedAt     string `json:"createdAt" format:"date-time"`
}

// A Repo is a repository that is watched over.
type Repo struct {
	ID                    string `json:"id"`
	OrgID                 string `json:"orgId"`
	GithubRepo            string `json:"githubRepo"`
	NativeDependencyCount int64  `json:"nativeDependencyCount"`
	AggregateRiskScore    int64  `json:"aggregateRiskScore"`
	LastScanAt            string `json:"lastScanAt,omitempty" format:"date-time"`
}

// A Watchlist sends a message when a package on it changes.
type Watchlist struct {
	ID           string `json:"id"`
	OrgID        string `json:"orgId"`
	Name         string `json:"name"`
	Channel      string `json:"channel" enum:"email,slack,webhook"`
	Destination  string `json:"destination"`
	CreatedAt    string `json:"createdAt" format:"date-time"`
	PackageCount int64  `json:"packageCount"`
	Secret       string `json:"secret,omitempty" doc:"with which messages to a webhook are signed; only shown once"`
}

// A Watch is a package on a watchlist.
type Watch struct {
	ID          string `json:"id"`
	WatchlistID string `json:"watchlistId"`
	Ecosystem   string `json:"ecosystem"`
	PackageName string `json:"packageName"`
	Version     string `json:"version,omitempty"`
	CreatedAt   string `json:"createdAt" format:"date-time"`
}

// An APIKey is a key without its text, but for the answer that makes it.
type APIKey struct {
	ID         string   `json:"id"`
	Label      string   `json:"label"`
	Prefix     string   `json:"prefix" example:"bsh_live_****7A91"`
	CreatedAt  string   `json:"createdAt" format:"date-time"`
	LastUsedAt string   `json:"lastUsedAt,omitempty" format:"date-time"`
	ExpiresAt  string   `json:"expiresAt,omitempty" format:"date-time"`
	Scopes     []string `json:"scopes" doc:"what it may do"`
	Key        string   `json:"key,omitempty" doc:"only shown once"`
}

// A Subscription is what an organisation pays for.
type Subscription struct {
	ID                string `json:"id"`
	OrgID             string `json:"orgId"`
	Provider          string `json:"provider" enum:"manual,stripe"`
	Plan              string `json:"plan"`
	Status            string `json:"status" enum:"trialing,active,past_due,canceled,incomplete"`
	CurrentPeriodEnd  string `json:"currentPeriodEnd,omitempty" format:"date-time"`
	CancelAtPeriodEnd bool   `json:"cancelAtPeriodEnd"`
	CreatedAt         string `json:"createdAt" format:"date-time"`
	UpdatedAt         string `json:"updatedAt" format:"date-time"`
}

// A Checkout is where to pay.
type Checkout struct {
	CheckoutURL    string `json:"checkoutUrl" format:"uri"`
	CustomerID     string `json:"customerId"`
	SubscriptionID string `json:"subscriptionId"`
	Plan           string `json:"plan" enum:"pro,team,enterprise"`
	Status         string `json:"status" enum:"pending"`
}

// Items is a list.
type Items[T any] struct {
	Items []T `json:"items"`
}

// Done says that what was asked for is done.
type Done struct {
	OK bool `json:"ok"`
}

var done = Done{true}

// stamp returns a time as the API writes it, and nothing for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
