package dialect

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Raw is an answer that is bytes already. What it looks like is said with
// [Answers].
type Raw struct {
	MediaType string
	Data      []byte
	Gzip      []byte // the same, packed; nil if nobody packed it
	Name      string // under which to save it; empty to show it
	Tag       string // that changes when the bytes do; empty for none
}

// TagOf returns a tag for some bytes.
func TagOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:12])
}

// write sends r, packed where the client knows how to unpack it, and nothing but
// its tag where the client has it already.
func (r *Raw) write(ctx huma.Context) {
	ctx.SetHeader("Content-Type", r.MediaType)
	if r.Name != "" {
		ctx.SetHeader("Content-Disposition", `attachment; filename="`+r.Name+`"`)
	}
	if r.Tag != "" {
		tag := `W/"` + r.Tag + `"`
		ctx.SetHeader("ETag", tag)
		if matches(ctx.Header("If-None-Match"), tag) {
			ctx.SetStatus(http.StatusNotModified)
			return
		}
	}
	data := r.Data
	if r.Gzip != nil {
		if AcceptsGzip(ctx.Header("Accept-Encoding")) || data == nil {
			ctx.SetHeader("Content-Encoding", "gzip")
			data = r.Gzip
		}
	}
	ctx.SetStatus(request(ctx.Context()).status(ctx.Operation().DefaultStatus))
	_, _ = ctx.BodyWriter().Write(data) // a client that left is nobody's error
}

// matches says whether If-None-Match names a tag (RFC 9110, section 13.1.2).
func matches(header, tag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		t = strings.TrimSpace(t)
		if t == "*" || t != "" && strings.TrimPrefix(t, "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

// AcceptsGzip reads Accept-Encoding (RFC 9110, section 12.5.3).
func AcceptsGzip(header string) bool {
	others := false
	for part := range strings.SplitSeq(header, ",") {
		coding, weight, _ := strings.Cut(part, ";")
		coding, wanted := strings.TrimSpace(coding), !unwanted.MatchString(weight)
		switch {
		case strings.EqualFold(coding, "gzip"):
			return wanted
		case coding == "*":
			others = wanted
		}
	}
	return others
}

// unwanted is the weight of a coding that is not wanted.
var unwanted = regexp.MustCompile(`(?i)^\s*q\s*=\s*0(?:\.0*)?\s*$`)
