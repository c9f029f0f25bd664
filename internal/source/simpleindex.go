package source

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"path"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// The media types of the simple repository API, best first.
const acceptSimple = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.2, text/html; q=0.1"

// yankedSilently stands for a reason that was not given.
const yankedSilently = "yanked"

// An indexFile is one file of a project in a simple repository.
type indexFile struct {
	name      string
	url       string // absolute
	want      checksum
	size      int64  // 0 if the index does not say
	yanked    string // the reason, or "yanked" without one; empty if it is not
	published time.Time
}

// parseSimple reads a project's page: JSON as in PEP 691, else HTML as in PEP
// 503. base is the URL that it came from. Files whose URL cannot be read are
// left out.
func parseSimple(data []byte, mediaType, base string) ([]indexFile, error) {
	at, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(mediaType, "json") {
		return parseSimpleJSON(data, at)
	}
	return parseSimpleHTML(data, at)
}

func parseSimpleJSON(data []byte, base *url.URL) ([]indexFile, error) {
	var page struct {
		Meta struct {
			Version text `json:"api-version"`
		}
		Files []struct {
			Filename, URL text
			Hashes        texts
			Yanked        text
			Size          json.RawMessage
			Uploaded      text `json:"upload-time"`
		}
	}
	if err := json.Unmarshal(data, &page); err != nil {
		return nil, err
	}
	if v := string(page.Meta.Version); v != "" && !strings.HasPrefix(v, "1.") {
		return nil, errors.New("version " + v + " of the simple repository API")
	}
	var files []indexFile
	for _, f := range page.Files {
		u, err := base.Parse(string(f.URL))
		if err != nil || f.URL == "" {
			continue
		}
		file := indexFile{name: string(f.Filename), url: u.String()}
		var pairs [][2]string
		for algorithm, sum := range f.Hashes {
			pairs = append(pairs, [2]string{algorithm, sum})
		}
		file.want = strongest(pairs, hex.DecodeString)
		switch f.Yanked { // false, true or a reason
		case "":
		case "true":
			file.yanked = yankedSilently
		default:
			file.yanked = string(f.Yanked)
		}
		_ = json.Unmarshal(f.Size, &file.size)
		file.published, _ = time.Parse(time.RFC3339, string(f.Uploaded))
		files = append(files, file.named(u))
	}
	return files, nil
}

func parseSimpleHTML(data []byte, base *url.URL) ([]indexFile, error) {
	var files []indexFile
	anchors := 0
	z := html.NewTokenizer(bytes.NewReader(data))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				return nil, z.Err()
			}
			if anchors == 0 && !bytes.Contains(bytes.ToLower(data[:min(len(data), 4096)]), []byte("<html")) && len(bytes.TrimSpace(data)) > 0 {
				return nil, errors.New("not a page of links")
			}
			return files, nil
		case html.StartTagToken, html.SelfClosingTagToken:
			token := z.Token()
			if token.Data != "a" && token.Data != "base" {
				continue
			}
			attributes := map[string]string{}
			for _, a := range token.Attr {
				attributes[a.Key] = a.Val
			}
			href, ok := attributes["href"]
			if !ok {
				continue
			}
			u, err := base.Parse(strings.TrimSpace(href))
			if err != nil {
				continue
			}
			if token.Data == "base" {
				if anchors == 0 {
					base = u
				}
				continue
			}
			anchors++
			file := indexFile{url: u.String()}
			if algorithm, sum, ok := strings.Cut(u.Fragment, "="); ok {
				file.want = strongest([][2]string{{algorithm, sum}}, hex.DecodeString)
			}
			if reason, ok := attributes["data-yanked"]; ok {
				file.yanked = cmp.Or(reason, yankedSilently)
			}
			file.published, _ = time.Parse(time.RFC3339, attributes["data-upload-time"])
			files = append(files, file.named(u))
		}
	}
}

// named takes the fragment off the URL, and the name from the URL if the index
// gave none. A name is one component of a path.
func (f indexFile) named(u *url.URL) indexFile {
	v := *u
	v.Fragment, v.RawFragment = "", ""
	f.url = v.String()
	if f.name == "" {
		f.name = path.Base(u.Path)
	}
	f.published = f.published.UTC()
	return f
}
