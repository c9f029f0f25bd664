package httpd

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// A Tracer sends spans of requests to an OpenTelemetry collector. Like the log,
// they name routes and not paths.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// NewTracer returns a tracer that speaks OTLP over HTTP to a collector at
// endpoint, "http://collector:4318", through a client. As the specification of
// OTEL_EXPORTER_OTLP_ENDPOINT has it, spans go to /v1/traces below that.
func NewTracer(ctx context.Context, endpoint, version string, client *http.Client) (*Tracer, error) {
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimRight(endpoint, "/")+"/v1/traces"), otlptracehttp.WithHTTPClient(client))
	if err != nil {
		return nil, err
	}
	about := resource.NewSchemaless(attribute.String("service.name", "loupe"), attribute.String("service.version", version))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Tracer{provider, provider.Tracer("loupe")}, nil
}

// Close sends what was not sent yet.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// span begins the span of a request, as a part of the caller's trace if there is
// one (W3C Trace Context), and returns what ends it. A nil tracer does nothing.
func (t *Tracer) span(r *http.Request) (*http.Request, func(seen *observation, status int)) {
	if t == nil {
		return r, func(*observation, int) {}
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, method(r.Method), trace.WithSpanKind(trace.SpanKindServer))
	return r.WithContext(ctx), func(seen *observation, status int) {
		span.SetName(cmp.Or(seen.pattern, method(r.Method)))
		span.SetAttributes(
			attribute.String("http.request.method", method(r.Method)), attribute.String("http.route", seen.pattern),
			attribute.Int("http.response.status_code", status), attribute.String("loupe.request_id", seen.ID),
		)
		if seen.Actor != nil {
			span.SetAttributes(attribute.String("loupe.org", seen.Actor.OrgID))
		}
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}
