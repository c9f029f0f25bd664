package source

import (
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// netrc holds credentials by host, from the file that ftp, curl and pip share.
type netrc map[string]*url.Userinfo

// readNetrc reads the file of $NETRC, else ~/.netrc.
func readNetrc() netrc {
	files := []string{os.Getenv("NETRC")}
	if home, err := os.UserHomeDir(); err == nil && files[0] == "" {
		files = []string{filepath.Join(home, ".netrc")}
		if runtime.GOOS == "windows" {
			files = append(files, filepath.Join(home, "_netrc"))
		}
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxSettings {
			continue
		}
		if data, err := os.ReadFile(file); err == nil {
			return parseNetrc(string(data))
		}
	}
	return nil
}

// parseNetrc reads machine, login and password; a macro definition ends at an
// empty line. The default entry, which would send credentials to any host, is
// passed over.
func parseNetrc(text string) netrc {
	n := netrc{}
	machine, login, password := "", "", ""
	keep := func() {
		if machine != "" && n[machine] == nil {
			n[machine] = url.UserPassword(login, password)
		}
		machine, login, password = "", "", ""
	}
	macro := false
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			macro = false
			continue
		}
		for i := 0; i < len(words) && !macro; i++ {
			if strings.HasPrefix(words[i], "#") {
				break
			}
			next := ""
			if i+1 < len(words) {
				next = words[i+1]
			}
			switch words[i] {
			case "machine":
				keep()
				machine = strings.ToLower(next)
				i++
			case "default":
				keep()
			case "login", "user":
				login = next
				i++
			case "password":
				password = next
				i++
			case "account":
				i++
			case "macdef":
				macro = true
			}
		}
	}
	keep()
	return n
}

func (n netrc) authorization(host string) string { return basic(n[strings.ToLower(host)]) }
