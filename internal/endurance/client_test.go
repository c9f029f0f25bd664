package endurance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A client speaks to the servers in turn. Only a connection that is refused is
// tried with the next one.
type client struct {
	http http.Client
	next atomic.Int64
	at   []string // addresses
}

func newClient(servers ...*process) *client {
	c := &client{http: http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 32, DisableCompression: true}}}
	for _, s := range servers {
		c.at = append(c.at, s.addr)
	}
	return c
}

// An answer is what came back, if anything did.
type answer struct {
	status int
	body   []byte
}

func (a answer) decode(v any) error { return json.Unmarshal(a.body, v) }

// errRefused is when no server took the connection, so that nothing happened.
var errRefused = errors.New("refused")

func (c *client) do(method, path, key string, body any) (answer, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return answer{}, err
		}
	}
	first := c.next.Add(1)
	for i := range int64(len(c.at)) {
		a, err := c.once(c.at[(first+i)%int64(len(c.at))], method, path, key, text)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return a, err
		}
	}
	return answer{}, errRefused
}

func (c *client) once(addr, method, path, key string, body []byte) (answer, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequest(method, "http://"+addr+path, r)
	if err != nil {
		return answer{}, err
	}
	req.GetBody = nil // so that nothing is sent twice behind our back
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, data}, err
}

// scan is what the API says of a scan.
type scan struct {
	ID      string
	Status  string
	Error   string
	Request struct{ PackageName, Version string }
}

// submit asks for a scan.
func (c *client) submit(who tenant, name, version string, force bool) (answer, scan, error) {
	a, err := c.do("POST", "/scans/packages", who.key, map[string]any{"ecosystem": "npm", "packageName": name, "version": version, "force": force})
	if err != nil {
		return a, scan{}, err
	}
	var s scan
	if a.status < 300 {
		err = a.decode(&s)
	}
	return a, s, err
}

// watchlist makes a watchlist of some packages, all of whose changes the receiver
// hears of.
func (c *client) watchlist(who tenant, name string, r *receiver, packages ...string) (id string, err error) {
	a, err := c.do("POST", "/orgs/"+who.id+"/watchlists", who.key, map[string]string{
		"name": name, "channel": "webhook", "destination": r.URL + "/" + who.id, "secret": r.secret,
	})
	if err != nil || a.status != http.StatusCreated {
		return "", fmt.Errorf("watchlist: %d %s, %w", a.status, a.body, err)
	}
	var w struct{ ID string }
	if err := a.decode(&w); err != nil {
		return "", err
	}
	for _, p := range packages {
		a, err := c.do("POST", "/orgs/"+who.id+"/watchlists/"+w.ID+"/packages", who.key, map[string]string{"ecosystem": "npm", "packageName": p})
		if err != nil || a.status != http.StatusCreated {
			return "", fmt.Errorf("watch: %d %s, %w", a.status, a.body, err)
		}
	}
	return w.ID, nil
}

// brief is an answer as it is shown in a failure.
func (a answer) brief() string {
	return fmt.Sprintf("%d %.200s", a.status, strings.TrimSpace(string(a.body)))
}
