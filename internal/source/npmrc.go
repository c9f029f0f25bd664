package source

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/osv-scalibr/clients/datasource"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/pattern"
)

// npmSettings is what npm's configuration says about registries, as npm 11
// reads it (npm help config, npm help npmrc).
type npmSettings struct {
	registries datasource.NPMRegistryConfig
	public     string // the registry that is used without any settings
	replace    string // replace-registry-host
	caFile     string
	ca         string // PEM
}

// loadNPMSettings merges the five levels: built in, global, user, project and
// environment. Without a projectDir there is no project level.
//
// The registry client of osv-scalibr knows the public registry and how
// credentials are found for a URL. Its own loader is not used: it expands $VAR
// where npm takes only ${VAR}, stops at a line without "=", ignores the global
// file in its usual place, and lowers the case of credentials in the
// environment, which then are not found. No setting turns certificates off.
func loadNPMSettings(projectDir string) npmSettings {
	env := npmEnvironment()
	builtin := readNpmrc(builtinNpmrc())
	project := map[string]string{}
	projectFile := ""
	if projectDir != "" {
		projectFile = filepath.Join(npmProject(projectDir), ".npmrc")
		project = readNpmrc(projectFile)
	}
	home, _ := os.UserHomeDir()
	userFile := cmp.Or(env["userconfig"], project["userconfig"])
	if userFile == "" && home != "" {
		userFile = filepath.Join(home, ".npmrc")
	}
	if userFile == projectFile {
		project = map[string]string{}
	}
	user := readNpmrc(userFile)
	globalFile := cmp.Or(env["globalconfig"], project["globalconfig"], user["globalconfig"], builtin["globalconfig"])
	if globalFile == "" {
		prefix := cmp.Or(env["prefix"], project["prefix"], user["prefix"], builtin["prefix"], npmPrefix())
		if prefix != "" {
			globalFile = filepath.Join(prefix, "etc", "npmrc")
		}
	}
	all := builtin
	for _, level := range []map[string]string{readNpmrc(globalFile), user, project, env} {
		maps.Copy(all, level)
	}
	return newNPMSettings(all)
}

func newNPMSettings(values map[string]string) npmSettings {
	s := npmSettings{
		registries: datasource.ParseNPMRegistryInfo(datasource.NpmrcConfig{}), // the public default
		replace:    values["replace-registry-host"],
		caFile:     values["cafile"],
		ca:         values["ca"],
	}
	s.public = s.registries.ScopeURLs[""]
	auth := func(key string) *datasource.HTTPAuthentication {
		a := s.registries.Auths[key]
		if a == nil {
			a = &datasource.HTTPAuthentication{}
			s.registries.Auths[key] = a
		}
		return a
	}
	for name, value := range values {
		i := strings.LastIndexByte(name, ':')
		if value == "" {
			continue
		}
		if i < 0 {
			if name == "registry" {
				s.registries.ScopeURLs[""] = value
			}
			continue
		}
		switch key, field := name[:i], name[i+1:]; field {
		case "registry":
			s.registries.ScopeURLs[key] = value
		case "_authToken":
			auth(key).BearerToken = value
		case "_auth":
			auth(key).BasicAuth = value
		case "username":
			auth(key).Username = value
		case "_password":
			if password, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "=")); err == nil {
				auth(key).Password = string(password)
			} else if namesVariable(value) {
				auth(key).Password = value
			}
		}
	}
	return s
}

// registry returns the registry of a package without a slash at its end, and
// what authorizes requests to it if the URL itself holds credentials.
func (s npmSettings) registry(name string) (base string, authorization string, err error) {
	setting := s.registries.ScopeURLs[""]
	if scope, _, ok := strings.Cut(name, "/"); ok && s.registries.ScopeURLs[scope] != "" {
		setting = s.registries.ScopeURLs[scope]
	}
	u, err := url.Parse(strings.TrimSpace(setting))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", "", fault.New(fault.Invalid, "the npm registry of %q is not an http or https URL", name).
			Try("correct the registry setting in .npmrc or npm_config_registry")
	}
	authorization = basic(u.User)
	return strings.TrimRight(clean(u), "/"), authorization, nil
}

// authorization returns the header for a URL, or nothing if the settings have
// no credentials for it. Those that still name a variable, because it is not
// set, are none.
func (s npmSettings) authorization(rawURL string) (header string, unset bool) {
	a := s.registries.Auths.GetAuth(rawURL)
	switch {
	case a == nil:
		return "", false
	case a.BearerToken != "":
		header, unset = "Bearer "+a.BearerToken, namesVariable(a.BearerToken)
	case a.BasicAuth != "":
		header, unset = "Basic "+a.BasicAuth, namesVariable(a.BasicAuth)
	default:
		header, unset = basic(url.UserPassword(a.Username, a.Password)), namesVariable(a.Username) || namesVariable(a.Password)
	}
	if unset {
		return "", true
	}
	return header, false
}

// basic returns the header of RFC 7617, or nothing without a user.
func basic(user *url.Userinfo) string {
	if user == nil {
		return ""
	}
	password, _ := user.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
}

// trustCertificates hands the settings' own certificates to the client.
// A file that is missing or holds none is as good as no setting, as for npm.
func (s npmSettings) trustCertificates(c *egress.Client) {
	if s.caFile != "" {
		if pem, err := os.ReadFile(s.caFile); err == nil {
			_ = c.TrustCertificates(pem)
		}
	}
	if s.ca != "" {
		_ = c.TrustCertificates([]byte(s.ca))
	}
}

// npmProject returns the folder whose .npmrc counts: the nearest one upwards
// that holds a package.json or node_modules, else dir itself.
func npmProject(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	for d := dir; ; d = filepath.Dir(d) {
		for _, mark := range []string{"package.json", "node_modules"} {
			if _, err := os.Stat(filepath.Join(d, mark)); err == nil {
				return d
			}
		}
		if d == filepath.Dir(d) {
			return dir
		}
	}
}

// npmPrefix is where Node is installed, unless PREFIX says otherwise.
func npmPrefix() string {
	if p := os.Getenv("PREFIX"); p != "" {
		return p
	}
	node := program("node")
	switch {
	case node == "":
		return ""
	case runtime.GOOS == "windows":
		return filepath.Dir(node)
	}
	return filepath.Join(os.Getenv("DESTDIR"), filepath.Dir(filepath.Dir(node)))
}

// builtinNpmrc is the file that packagers put beside npm itself.
func builtinNpmrc() string {
	npm := program("npm") // …/npm/bin/npm-cli.js
	if npm == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(filepath.Dir(npm)), "npmrc")
}

func program(name string) string {
	p, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	if p, err = filepath.EvalSymlinks(p); err != nil {
		return ""
	}
	return p
}

// npmEnvironment returns the settings of variables that begin with npm_config_
// in any case. Keys that begin with "//" keep their case.
func npmEnvironment() map[string]string {
	const prefix = "npm_config_"
	values := map[string]string{}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		if len(name) <= len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix) || value == "" {
			continue
		}
		key := name[len(prefix):]
		if !strings.HasPrefix(key, "//") {
			key = strings.ToLower(key[:1] + strings.ReplaceAll(key[1:], "_", "-"))
		}
		values[key] = npmValue(key, value)
	}
	return values
}

// maxSettings bounds a settings file.
const maxSettings = 1 << 20

func readNpmrc(file string) map[string]string {
	if file == "" {
		return map[string]string{}
	}
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSettings {
		return map[string]string{}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return map[string]string{}
	}
	return parseNpmrc(string(data))
}

// parseNpmrc reads the INI dialect of npm: "key = value" by line, comments
// after ; or #, quotes as in JSON, lists as "key[] = value", which become the
// lines of one value. Sections mean nothing to npm's registry settings.
func parseNpmrc(text string) map[string]string {
	values := map[string]string{}
	section := false
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == ';' || line[0] == '#':
			continue
		case line[0] == '[' && line[len(line)-1] == ']':
			section = true
			continue
		}
		if section {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		key, value = npmExpand(npmUnquote(key)), npmUnquote(value)
		if !found {
			value = "true"
		}
		value = npmValue(key, value)
		if list, ok := strings.CutSuffix(key, "[]"); ok {
			key = list
			if before := values[key]; before != "" {
				value = before + "\n" + value
			}
		}
		values[key] = value
	}
	return values
}

// npmUnquote takes off quotes, or a comment, and undoes \; and \#.
func npmUnquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 1 && (s[0] == '"' && s[len(s)-1] == '"' || s[0] == '\'' && s[len(s)-1] == '\'') {
		inner := s[1 : len(s)-1]
		for _, text := range []string{inner, s} { // what single quotes hold may be quoted once more
			var v string
			if json.Unmarshal([]byte(text), &v) == nil {
				return v
			}
		}
		if s[0] == '\'' {
			return inner
		}
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ';' || c == '#':
			return strings.TrimSpace(b.String())
		case c == '\\' && i+1 < len(s) && strings.IndexByte(`\;#`, s[i+1]) >= 0:
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return strings.TrimSpace(b.String())
}

// npmValue expands variables, and "~/" in values that are paths.
func npmValue(key, value string) string {
	value = npmExpand(strings.TrimSpace(value))
	switch key {
	case "cafile", "userconfig", "globalconfig", "prefix":
		if rest, ok := strings.CutPrefix(value, "~/"); ok {
			if home, err := os.UserHomeDir(); err == nil {
				return filepath.Join(home, rest)
			}
		}
	}
	return value
}

var npmVariable = pattern.New(`(\\*)\$\{([^${}?]+)(\?)?\}`)

// namesVariable reports whether npmExpand left a variable in a value.
func namesVariable(s string) bool { return npmVariable.MatchString(s) }

// npmExpand replaces ${NAME}, leaves it if there is no such variable, and makes
// ${NAME?} empty then. A backslash before it keeps it as it is.
func npmExpand(s string) string {
	return npmVariable.ReplaceAllStringFunc(s, func(match string) string {
		m := npmVariable.FindStringSubmatch(match)
		slashes, name, optional := m[1], m[2], m[3] != ""
		if len(slashes)%2 == 1 {
			return match[(len(slashes)+1)/2:]
		}
		value, ok := os.LookupEnv(name)
		if !ok && !optional {
			value = "${" + name + "}"
		}
		return slashes[len(slashes)/2:] + value
	})
}
