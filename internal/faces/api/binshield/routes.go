package binshield

import (
	"net/http"
	"slices"

	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// The routes: those that read packages, and all others.
var (
	routes        = slices.Concat(packageRoutes(dialect.Public()), otherRoutes)
	privateRoutes = slices.Concat(packageRoutes(), otherRoutes)
)

func packageRoutes(open ...dialect.Option) []dialect.Route[handler] {
	with := func(more ...dialect.Option) []dialect.Option { return append(slices.Clone(open), more...) }
	return []dialect.Route[handler]{
		dialect.Get("/packages/search", app.ScansRead, "Search packages", handler.search, with(
			dialect.Doc("Packages that were analysed and whose name holds q, in any case. Those that are called q come first, then those that begin with it."))...),
		dialect.Get("/packages/{ecosystem}/{name}", app.ScansRead, "List analysed versions", handler.versions, with()...),
		dialect.Get("/packages/{ecosystem}/{name}/versions/{version}", app.ScansRead, "Get an analysis", handler.analysis, with(
			dialect.Answers("application/json", PackageAnalysis{}))...),
		dialect.Get("/packages/{ecosystem}/{name}/versions/{version}/sbom", app.ScansRead, "Export an SBOM", handler.sbom, with(
			dialect.Doc("The analysis as CycloneDX 1.5."), dialect.Answers(sbomType, map[string]any{}))...),
		dialect.Get("/packages/{ecosystem}/{name}/diff", app.ScansRead, "Compare versions", handler.diff, with()...),
	}
}

var otherRoutes = []dialect.Route[handler]{
	dialect.Get("/health", "", "Health", handler.health, dialect.Public(), dialect.Free(), dialect.Also(http.StatusServiceUnavailable, "The service cannot work.")),

	dialect.Post("/scans/packages", app.ScansTrigger, "Submit a package", handler.submit, dialect.Status(http.StatusAccepted),
		dialect.Doc("Has one version of a package analysed. If that was done before, for whomever, the answer is the result; force asks for it to be done again. Asking again while it goes on gives the same scan. Only a new scan counts for the monthly limit of the plan, beyond which the answer is 429."),
		dialect.Also(http.StatusOK, "The package was analysed before."), dialect.Answers("application/json", ScanJob{})),
	dialect.Get("/scans/{id}", app.ScansRead, "Get a scan", handler.scan, dialect.Answers("application/json", ScanJob{})),
	dialect.Delete("/scans/{id}", app.ScansTrigger, "Cancel a scan", handler.cancel, dialect.Errors(http.StatusConflict),
		dialect.Doc("Ends a scan that goes on, which is failed then, and forgets one that has ended.")),

	dialect.Get("/orgs/{org}", app.OrgRead, "Get an organization", handler.org),

	dialect.Get("/orgs/{org}/repos", app.OrgRead, "List repositories", handler.repos),
	dialect.Post("/orgs/{org}/repos", app.OrgWrite, "Add a repository", handler.addRepo),
	dialect.Delete("/orgs/{org}/repos/{id}", app.OrgWrite, "Remove a repository", handler.removeRepo),

	dialect.Get("/orgs/{org}/watchlists", app.OrgRead, "List watchlists", handler.watchlists),
	dialect.Post("/orgs/{org}/watchlists", app.OrgWrite, "Create a watchlist", handler.addWatchlist, dialect.Once("secret"),
		dialect.Doc("Messages to a webhook are signed as Standard Webhooks says, with a secret that is in this answer and in no other.")),
	dialect.Get("/orgs/{org}/watchlists/{id}", app.OrgRead, "Get a watchlist", handler.watchlist),
	dialect.Delete("/orgs/{org}/watchlists/{id}", app.OrgWrite, "Delete a watchlist", handler.removeWatchlist),
	dialect.Post("/orgs/{org}/watchlists/{id}/test", app.OrgWrite, "Send a test message", handler.testWatchlist, dialect.Status(http.StatusAccepted)),
	dialect.Get("/orgs/{org}/watchlists/{id}/packages", app.OrgRead, "List watched packages", handler.watches),
	dialect.Post("/orgs/{org}/watchlists/{id}/packages", app.OrgWrite, "Watch a package", handler.addWatch),
	dialect.Delete("/orgs/{org}/watchlists/{id}/packages/{watch}", app.OrgWrite, "Stop watching a package", handler.removeWatch),

	dialect.Get("/orgs/{org}/api-keys", app.Admin, "List API keys", handler.keys),
	dialect.Post("/orgs/{org}/api-keys", app.Admin, "Create an API key", handler.addKey, dialect.Once("key"),
		dialect.Doc("The text of the key is in this answer and in no other. No key makes one that may more than it may itself.")),
	dialect.Delete("/orgs/{org}/api-keys/{id}", app.Admin, "Revoke an API key", handler.revokeKey),

	dialect.Get("/orgs/{org}/subscription", app.Admin, "Get the subscription", handler.subscription),
	dialect.Post("/orgs/{org}/subscription", app.Admin, "Set the subscription", handler.setSubscription, dialect.Status(http.StatusOK)),
	dialect.Post("/billing/checkout", app.Admin, "Start a checkout", handler.checkout, dialect.Errors(http.StatusNotImplemented, http.StatusServiceUnavailable)),
	dialect.Post("/billing/webhook", "", "Receive events of the payment service", handler.webhook, dialect.Signed(), dialect.Status(http.StatusOK)),
}
