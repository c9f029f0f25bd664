package binshield_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/loupe-sec/loupe/internal/service/account"
	"github.com/loupe-sec/loupe/internal/service/store"
)

var update = flag.Bool("update", false, "write what is expected anew")

// TestExchanges has the conversations of testdata/*.txtar with a server. Each
// file is one conversation, each part of it a request and its answer:
//
//	# a remark
//	> GET /scans/${scan_1} until complete
//	> x-binshield-api-key: ${key}
//	= {"id": "", "completedAt?": ""}
//	< 200
//	< Content-Type: application/json
//	<
//	< {"id": "${scan_1}"}
//
// Lines of = are what the published document says: our answer must have all its
// members, of the same types, but for those with a question mark. What differs from run to
// run has a name: an id is ${scan_1} once it was seen.
func TestExchanges(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no conversations", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			each(t, func(w *world) { converse(w, file) }, paying(t))
		})
	}
}

func converse(w *world, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		w.Fatal(err)
	}
	other := w.newOrg("Another", "free")
	c := &conversation{world: w, count: map[string]int{}, long: map[string]string{}, values: map[string]string{
		"${org}": w.org.ID, "${key}": w.key, "${other_org}": other.ID, "${other_key}": w.newKey(other.ID, account.KeyRequest{}),
	}}
	time.Sleep(2 * time.Millisecond) // as keys are listed by their age
	c.values["${viewer_key}"] = w.newKey(w.org.ID, account.KeyRequest{Role: account.Viewer})
	time.Sleep(2 * time.Millisecond)
	c.values["${reader_key}"] = w.newKey(w.org.ID, account.KeyRequest{Scopes: []account.Scope{account.ScansRead}})
	wrong := false
	for i := range archive.Files {
		part := &archive.Files[i]
		e, err := parseExchange(string(part.Data))
		if err != nil {
			w.Fatalf("%s: %s: %v", file, part.Name, err)
		}
		rec := c.ask(part.Name, e)
		got := c.show(part.Name, e, rec)
		if e.documented != "" {
			c.compare(part.Name, e.documented, rec.Body.Bytes())
		}
		if *update && w.engine == store.SQLite {
			e.answer = got
			part.Data = []byte(e.String())
			continue
		}
		if diff := cmp.Diff(e.answer, got); diff != "" {
			wrong = true
			w.Errorf("%s (-want +got):\n%s", part.Name, diff)
		}
	}
	if *update && w.engine == store.SQLite {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			w.Fatal(err)
		}
	}
	if wrong {
		w.Log("go test -update writes the answers anew")
	}
}

// An exchange is a request and its answer.
type exchange struct {
	remarks    []string
	request    []string // its lines
	documented string   // JSON
	answer     string
}

func parseExchange(text string) (e exchange, err error) {
	var answer, documented []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		kind, rest := line, ""
		if len(line) > 0 {
			kind, rest = line[:1], strings.TrimPrefix(line[1:], " ")
		}
		switch kind {
		case "#":
			e.remarks = append(e.remarks, line)
		case ">":
			e.request = append(e.request, rest)
		case "=":
			documented = append(documented, rest)
		case "<":
			answer = append(answer, rest)
		case "":
		default:
			return e, fmt.Errorf("line %q", line)
		}
	}
	e.documented, e.answer = strings.Join(documented, "\n"), strings.Join(answer, "\n")
	if len(e.request) == 0 {
		return e, fmt.Errorf("no request")
	}
	return e, nil
}

func (e exchange) String() string {
	var b strings.Builder
	for _, line := range e.remarks {
		fmt.Fprintln(&b, line)
	}
	write := func(mark string, lines []string) {
		for _, line := range lines {
			b.WriteString(strings.TrimRight(mark+" "+line, " ") + "\n")
		}
	}
	write(">", e.request)
	if e.documented != "" {
		write("=", strings.Split(e.documented, "\n"))
	}
	write("<", strings.Split(e.answer, "\n"))
	b.WriteString("\n")
	return b.String()
}

// A conversation is a world and what was said in it.
type conversation struct {
	*world
	values map[string]string // by placeholder
	count  map[string]int    // of placeholders, by kind
	asked  int
	long   map[string]string // names of parts, by their long answers
}

// ask sends the request of an exchange.
func (c *conversation) ask(part string, e exchange) *httptest.ResponseRecorder {
	c.Helper()
	lines := slices.Clone(e.request)
	for i, line := range lines {
		lines[i] = regexp.MustCompile(`\$\{[a-z_0-9]+\}`).ReplaceAllStringFunc(line, func(name string) string {
			value, ok := c.values[name]
			if !ok {
				c.Fatalf("%s: nobody has said what %s is", part, name)
			}
			return value
		})
	}
	first, until, waits := strings.Cut(lines[0], " until ")
	method, path, ok := strings.Cut(first, " ")
	if !ok {
		c.Fatalf("%s: %q is no request", part, lines[0])
	}
	at := slices.Index(lines, "")
	if at < 0 {
		at = len(lines)
	}
	c.asked++
	options := []option{from(fmt.Sprintf("192.0.2.%d:1", c.asked))} // so that nobody asks too often
	for _, line := range lines[1:at] {
		name, value, _ := strings.Cut(line, ": ")
		options = append(options, header(name, value))
	}
	body := strings.Join(lines[min(at+1, len(lines)):], "\n")
	if slices.ContainsFunc(lines, func(line string) bool { return line == "stripe-signature: right" }) {
		options = append(options, func(r *http.Request) { r.Header.Set("stripe-signature", signed(body)) })
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		rec := c.do(method, path, body, options...)
		if !waits || strings.Contains(rec.Body.String(), fmt.Sprintf(`"status":%q`, until)) {
			return rec
		}
		if time.Now().After(deadline) {
			c.Fatalf("%s never became %s: %s", path, until, rec.Body)
		}
	}
}

// shownHeaders are those of an answer that a conversation shows.
var shownHeaders = []string{
	"Content-Type", "Content-Disposition", "Cache-Control", "Allow", "WWW-Authenticate", "Retry-After", "Link", "X-Total-Count", "Idempotent-Replayed",
	"X-RateLimit-Limit",
}

var (
	anyTime = regexp.MustCompile(`"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`)
	anyLong = regexp.MustCompile(`"(?:sha(?:256|512):)?[0-9a-f]{40,128}"`)
	anyUUID = regexp.MustCompile(`urn:uuid:[0-9a-f-]{36}`)
	anyLast = regexp.MustCompile(`_\*{4}[0-9A-Za-z]{4}`)
	anyID   = regexp.MustCompile(`"(?:scan|pkg|bin|org|repo|wl|wp|key|sub)_[0-9A-Za-z_]+"`)
	anyKey  = regexp.MustCompile(`"bsh_live_[0-9A-Za-z]{38}"`)
	anySign = regexp.MustCompile(`"whsec_[0-9A-Za-z+/=]+"`)
)

// show writes an answer with names in place of what differs from run to run.
func (c *conversation) show(part string, e exchange, rec *httptest.ResponseRecorder) string {
	var b strings.Builder
	fmt.Fprintln(&b, rec.Code)
	for _, name := range shownHeaders {
		values := rec.Header()[name] // some are not in Go's spelling
		if len(values) == 0 {
			values = rec.Header().Values(name)
		}
		for _, value := range values {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	body := rec.Body.Bytes()
	if e.request[0][:5] == "HEAD " { // whose answer a listener cuts off
		body = nil
	}
	if before, ok := c.long[string(body)]; ok {
		body = []byte("(as in " + before + ")")
	} else if len(body) > 4000 {
		c.long[string(body)] = part
	}
	if at := bytes.Index(body, []byte(`,"result":{`)); at >= 0 { // the last member of a job
		body = append(bytes.Clone(body[:at]), `,"result":"(an analysis)"}`...)
	}
	if len(body) > 0 {
		var indented bytes.Buffer
		if json.Indent(&indented, body, "", "  ") == nil {
			body = indented.Bytes()
		}
		fmt.Fprintf(&b, "\n%s", bytes.TrimSpace(body))
	}
	text := strings.TrimSpace(b.String())
	if c.engine == store.Postgres { // the only difference that an engine makes
		text = strings.ReplaceAll(strings.ReplaceAll(text, `"postgres"`, `"sqlite"`), `"Postgres"`, `"SQLite in the data folder"`)
	}
	text = anyTime.ReplaceAllString(text, `"$${time}"`)
	text = anyLong.ReplaceAllString(text, `"$${digest}"`)
	text = anyUUID.ReplaceAllString(text, "urn:uuid:$${uuid}")
	text = anyLast.ReplaceAllString(text, `_****$${last}`)
	for kind, form := range map[string]*regexp.Regexp{"": anyID, "new_key": anyKey, "secret": anySign} {
		text = form.ReplaceAllStringFunc(text, func(value string) string { return `"` + c.name(kind, strings.Trim(value, `"`)) + `"` })
	}
	for name, value := range c.values {
		text = strings.ReplaceAll(text, value, name) // also within texts and links
	}
	return text
}

// name returns the placeholder of a value, a new one if it has none.
func (c *conversation) name(kind, value string) string {
	for name, v := range c.values {
		if v == value {
			return name
		}
	}
	if kind == "" {
		kind, _, _ = strings.Cut(value, "_")
	}
	c.count[kind]++
	name := fmt.Sprintf("${%s_%d}", kind, c.count[kind])
	c.values[name] = value
	return name
}

// compare checks that an answer has everything that the document says.
func (c *conversation) compare(part, documented string, got []byte) {
	var want, have any
	if err := json.Unmarshal([]byte(documented), &want); err != nil {
		c.Fatalf("%s: what is documented: %v", part, err)
	}
	if err := json.Unmarshal(got, &have); err != nil {
		c.Errorf("%s: %v", part, err)
		return
	}
	c.shape(part, want, have)
}

func (c *conversation) shape(at string, want, have any) {
	if reflect.TypeOf(want) != reflect.TypeOf(have) {
		c.Errorf("%s is %v; the document has %v", at, have, want)
		return
	}
	switch want := want.(type) {
	case map[string]any:
		for key, value := range want {
			name, optional := strings.CutSuffix(key, "?")
			got, ok := have.(map[string]any)[name]
			if !ok && !optional {
				c.Errorf("%s lacks %s, which is documented: %v", at, name, have)
			} else if ok {
				c.shape(at+"."+name, value, got)
			}
		}
	case []any:
		for i, got := range have.([]any) {
			if len(want) > 0 {
				c.shape(fmt.Sprintf("%s[%d]", at, i), want[0], got)
			}
		}
	}
}
