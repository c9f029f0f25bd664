package httpd

import (
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/loupe-sec/loupe/internal/faces/api/dialect"
)

// smallest is what is worth being packed, in bytes: what fits into one packet of
// the network gains nothing.
const smallest = 1400

var packers = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails for unknown levels only
	return w
}}

// compress packs answers for clients that can unpack them.
func compress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		if !dialect.AcceptsGzip(r.Header.Get("Accept-Encoding")) || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		p := &packing{ResponseWriter: w}
		next.ServeHTTP(p, r) // after a panic, what is held back is not sent
		p.close()
	})
}

// packing holds the beginning of an answer back until it is known whether it is
// worth being packed.
type packing struct {
	http.ResponseWriter
	status  int
	held    []byte
	started bool
	gzip    *gzip.Writer // nil if the answer goes out as it is
}

// Unwrap lets http.ResponseController reach what is beneath.
func (p *packing) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *packing) WriteHeader(status int) {
	if status < 200 {
		p.ResponseWriter.WriteHeader(status)
		return
	}
	if p.status == 0 {
		p.status = status
	}
}

func (p *packing) Write(b []byte) (int, error) {
	if p.status == 0 {
		p.status = http.StatusOK
	}
	if !p.started {
		if p.held = append(p.held, b...); len(p.held) < smallest && p.packable() {
			return len(b), nil
		}
		return len(b), p.start()
	}
	if p.gzip != nil {
		return p.gzip.Write(b)
	}
	return p.ResponseWriter.Write(b)
}

// FlushError sends what is held back.
func (p *packing) FlushError() error {
	if !p.started {
		if err := p.start(); err != nil {
			return err
		}
	}
	if p.gzip != nil {
		if err := p.gzip.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(p.ResponseWriter).Flush()
}

// packable says whether an answer is of a kind that gets smaller.
func (p *packing) packable() bool {
	h := p.Header()
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return h.Get("Content-Encoding") == "" && (strings.HasPrefix(kind, "text/") && kind != "text/event-stream" || strings.HasSuffix(kind, "json"))
}

// start sends the header and what was held back.
func (p *packing) start() error {
	p.started = true
	h := p.Header()
	if len(p.held) >= smallest && p.packable() {
		h.Set("Content-Encoding", "gzip")
		h.Del("Content-Length")
		p.gzip = packers.Get().(*gzip.Writer)
		p.gzip.Reset(p.ResponseWriter)
	}
	if p.status != 0 {
		p.ResponseWriter.WriteHeader(p.status)
	}
	held := p.held
	p.held = nil
	if len(held) == 0 {
		return nil
	}
	var err error
	if p.gzip != nil {
		_, err = p.gzip.Write(held)
	} else {
		_, err = p.ResponseWriter.Write(held)
	}
	return err
}

func (p *packing) close() {
	if !p.started && (p.status != 0 || len(p.held) > 0) {
		_ = p.start() // a client that left is nobody's error
	}
	if p.gzip != nil {
		_ = p.gzip.Close()
		packers.Put(p.gzip)
	}
}
