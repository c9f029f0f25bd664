package source

import (
	"bufio"
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/osv-scalibr/clients/datasource"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
)

// pipSettings is what pip's configuration says about indexes, as pip reads it
// ("Configuration" in pip's documentation).
type pipSettings struct {
	indexes []pipIndex // the main one first
	noIndex bool       // no index may be asked
	cert    string     // a file of certificates
	netrc   netrc
}

// A pipIndex is the root of a simple repository.
type pipIndex struct {
	base          string // without credentials and without a slash at its end
	authorization string // from the user and password of the URL
}

const pipPlaces = "pip.conf or PIP_INDEX_URL"

// loadPipSettings merges the levels: global, user, site (of a virtual
// environment), the file of PIP_CONFIG_FILE, and the environment.
func loadPipSettings() (pipSettings, error) {
	values := map[string]string{}
	for _, file := range pipFiles() {
		maps.Copy(values, readPipConf(file))
	}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		if key, ok := strings.CutPrefix(name, "PIP_"); ok && value != "" {
			values[pipKey(key)] = value
		}
	}
	s := pipSettings{cert: values["cert"], netrc: readNetrc()}
	switch strings.ToLower(values["no-index"]) {
	case "1", "true", "yes", "y", "t", "on":
		s.noIndex = true
	}
	urls := []string{cmp.Or(values["index-url"], publicPyPI())}
	urls = append(urls, strings.Fields(values["extra-index-url"])...)
	for _, raw := range urls {
		u, err := url.Parse(strings.TrimSpace(raw))
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return s, fault.New(fault.Invalid, "an index in pip's settings is not an http or https URL").
				Try("correct index-url and extra-index-url in pip.conf, or PIP_INDEX_URL")
		}
		s.indexes = append(s.indexes, pipIndex{strings.TrimRight(clean(u), "/"), basic(u.User)})
	}
	return s, nil
}

// publicPyPI asks osv-scalibr's client for the index that is used without any
// settings: its transport only looks where the request would go.
func publicPyPI() string {
	var asked string
	spy := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = r.URL.String()
		return nil, http.ErrNotSupported
	})}
	if c, err := datasource.NewPyPIRegistryAPIClient("", "", spy); err == nil {
		_, _ = c.GetIndex(context.Background(), "x")
	}
	return strings.TrimSuffix(asked, "/x/")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// authorization returns the header for a URL of a file or an index: from the
// index it belongs to by its origin, else from netrc.
func (s pipSettings) authorization(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	for _, index := range s.indexes {
		if base, err := url.Parse(index.base); err == nil && index.authorization != "" && sameOrigin(u, base) {
			return index.authorization
		}
	}
	return s.netrc.authorization(u.Hostname())
}

func (s pipSettings) trustCertificates(c *egress.Client) {
	if s.cert != "" {
		if pem, err := os.ReadFile(expandHome(s.cert)); err == nil {
			_ = c.TrustCertificates(pem)
		}
	}
}

// pipFiles lists the settings files, weakest first.
func pipFiles() []string {
	own := os.Getenv("PIP_CONFIG_FILE")
	if own == os.DevNull {
		return nil
	}
	home, _ := os.UserHomeDir()
	name := "pip.conf"
	var files, user []string
	switch runtime.GOOS {
	case "windows":
		name = "pip.ini"
		files = append(files, filepath.Join(cmp.Or(os.Getenv("ProgramData"), `C:\ProgramData`), "pip", name))
		user = append(user, filepath.Join(home, "pip", name), filepath.Join(os.Getenv("APPDATA"), "pip", name))
	case "darwin":
		files = append(files, filepath.Join("/Library/Application Support/pip", name))
		user = append(user, filepath.Join(home, ".pip", name))
		modern := filepath.Join(home, "Library/Application Support/pip")
		if _, err := os.Stat(modern); err != nil {
			modern = filepath.Join(home, ".config/pip")
		}
		user = append(user, filepath.Join(modern, name))
	default:
		for dir := range strings.SplitSeq(cmp.Or(os.Getenv("XDG_CONFIG_DIRS"), "/etc/xdg"), ":") {
			if dir != "" {
				files = append(files, filepath.Join(dir, "pip", name))
			}
		}
		files = append(files, filepath.Join("/etc", name))
		user = append(user, filepath.Join(home, ".pip", name),
			filepath.Join(cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "pip", name))
	}
	ownExists := false
	if own != "" {
		_, err := os.Stat(own)
		ownExists = err == nil
	}
	if home != "" && !ownExists { // a file named in the environment replaces the user's
		files = append(files, user...)
	}
	if env := os.Getenv("VIRTUAL_ENV"); env != "" {
		files = append(files, filepath.Join(env, name))
	}
	if own != "" {
		files = append(files, own)
	}
	return files
}

func readPipConf(file string) map[string]string {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSettings {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return parsePipConf(string(data))
}

// parsePipConf reads the INI dialect of Python's configparser: sections,
// "key = value" or "key: value", comments on lines of their own, values that
// go on in indented lines. A command's section is stronger than [global]; the
// commands here are those that get packages.
func parsePipConf(text string) map[string]string {
	sections := map[string]map[string]string{}
	section, key := "", ""
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxSettings+1)
	for lines.Scan() {
		line := lines.Text()
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
		case line[0] == ' ' || line[0] == '\t':
			if values := sections[section]; values != nil && key != "" && len(values[key]) < maxField {
				values[key] = strings.TrimSpace(values[key] + "\n" + trimmed)
			}
		case trimmed[0] == '[' && trimmed[len(trimmed)-1] == ']':
			section, key = strings.ToLower(trimmed[1:len(trimmed)-1]), ""
			if sections[section] == nil {
				sections[section] = map[string]string{}
			}
		default:
			i := strings.IndexAny(trimmed, "=:")
			if i < 0 || sections[section] == nil {
				key = ""
				continue
			}
			key = pipKey(trimmed[:i])
			sections[section][key] = strings.TrimSpace(trimmed[i+1:])
		}
	}
	values := map[string]string{}
	for _, name := range []string{"global", "download", "install"} {
		maps.Copy(values, sections[name])
	}
	return values
}

func pipKey(s string) string {
	return strings.TrimPrefix(strings.ReplaceAll(strings.ToLower(strings.TrimSpace(s)), "_", "-"), "--")
}

func expandHome(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return path
}
