package binshield_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/faces/api/binshield"
	"github.com/loupe-sec/loupe/internal/faces/api/dialect/dialecttest"
	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// TestDocumentHolds asks for everything in the OpenAPI document, rightly and
// wrongly.
func TestDocumentHolds(t *testing.T) {
	rates := binshield.Dialect.Rates
	binshield.Dialect.Rates = func(*app.Actor) []app.Rate { return nil } // whatever the plan becomes
	defer func() { binshield.Dialect.Rates = rates }()
	each(t, func(w *world) {
		w.analyze("bcrypt", "5.1.0")
		scan := w.analyze("bcrypt", "5.1.1")
		other := w.newOrg("Another", "enterprise")
		expired := w.newKey(w.org.ID, account.KeyRequest{ExpiresAt: time.Now().Add(300 * time.Millisecond)})
		revoked := w.want(http.StatusCreated, "POST", "/orgs/"+w.org.ID+"/api-keys", `{"label":"revoked"}`)
		w.want(http.StatusOK, "DELETE", "/orgs/"+w.org.ID+"/api-keys/"+revoked["id"].(string), "")
		time.Sleep(300 * time.Millisecond)
		made := map[string]string{} // ids of what was made, by where
		thing := func(path, body string) string {
			path = "/orgs/" + w.org.ID + path
			if id := made[path]; id != "" && w.as("GET", path+"/"+id, "").Code == http.StatusOK {
				return id
			}
			n := strings.Count(body, "%")
			made[path] = w.want(http.StatusCreated, "POST", path, fmt.Sprintf(body, []any{time.Now().UnixNano()}[:n]...))["id"].(string)
			return made[path]
		}
		dialecttest.Walk(w.T, dialecttest.Subject{
			Document: w.api.Document(), Handler: w.web, KeyHeader: "x-binshield-api-key", RateLimit: true,
			NewKey: func(role string, scopes ...string) string {
				list, unknown := account.ParseScopes(strings.Join(scopes, ","))
				if unknown != "" {
					w.Fatalf("no scope %s", unknown)
				}
				return w.newKey(w.org.ID, account.KeyRequest{Role: account.Role(role), Scopes: list})
			},
			Useless: map[string]string{
				"an expired key": expired, "a revoked key": revoked["key"].(string), "another word": "hunter2-hunter2",
				"a key with a slip of the pen": w.key[:len(w.key)-1] + string('0'+(w.key[len(w.key)-1]-'0'+1)%10),
			},
			Foreign: w.newKey(other.ID, account.KeyRequest{}),
			Values: func(path string) map[string]string {
				switch {
				case strings.HasPrefix(path, "/packages/{"):
					return map[string]string{"ecosystem": "npm", "name": "bcrypt", "version": "5.1.1"}
				case path == "/scans/{id}":
					if w.as("GET", "/scans/"+scan["id"].(string), "").Code != http.StatusOK {
						scan = w.want(http.StatusOK, "POST", "/scans/packages", `{"ecosystem":"npm","packageName":"bcrypt","version":"5.1.1"}`)
					}
					return map[string]string{"id": scan["id"].(string)}
				case !strings.HasPrefix(path, "/orgs/"):
					return map[string]string{}
				}
				values := map[string]string{"org": w.org.ID}
				switch {
				case strings.Contains(path, "/watchlists/{"):
					values["id"] = thing("/watchlists", `{"name":"a","channel":"email","destination":"a@example.com"}`)
					if strings.Contains(path, "{watch}") {
						values["watch"] = thing("/watchlists/"+values["id"]+"/packages", `{"ecosystem":"npm","packageName":"a%d"}`)
					}
				case strings.Contains(path, "/repos/{"):
					values["id"] = thing("/repos", `{"githubRepo":"a/b%d"}`)
				case strings.Contains(path, "/api-keys/{"):
					values["id"] = thing("/api-keys", `{"label":"another"}`)
				}
				return values
			},
			Bodies: map[string]string{"receiveEventsOfThePaymentService": `{"id":"evt_1","object":"event","type":"ping","created":1,"data":{"object":{}}}`},
			Sign:   func(r *http.Request, body []byte) { r.Header.Set("stripe-signature", signed(string(body))) },
		})
	}, paying(t))
}
