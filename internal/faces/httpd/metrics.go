package httpd

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are the figures of a server, in Prometheus's form.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(backend Backend) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "loupe_http_requests_total", Help: "Requests that were answered.",
		}, []string{"dialect", "route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "loupe_http_request_duration_seconds", Help: "Time until a request was answered.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"dialect", "route"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, queue{backend}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) request(dialect, route, verb string, status int, took time.Duration) {
	m.requests.WithLabelValues(dialect, route, method(verb), strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(dialect, route).Observe(took.Seconds())
}

// queue asks for the figures of the job queue when somebody looks at them.
type queue struct{ backend Backend }

var (
	jobsDesc     = prometheus.NewDesc("loupe_jobs", "Jobs in the queue.", []string{"class", "state"}, nil)
	attemptsDesc = prometheus.NewDesc("loupe_job_attempts_total", "Attempts at jobs by this process.", []string{"class", "outcome"}, nil)
	workersDesc  = prometheus.NewDesc("loupe_workers", "Processes that do jobs.", nil, nil)
	oldestDesc   = prometheus.NewDesc("loupe_jobs_oldest_seconds", "How long the oldest job has been waiting.", []string{"class"}, nil)
)

// Describe implements prometheus.Collector.
func (q queue) Describe(ch chan<- *prometheus.Desc) {
	ch <- jobsDesc
	ch <- attemptsDesc
	ch <- oldestDesc
	ch <- workersDesc
}

// Collect implements prometheus.Collector.
func (q queue) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	f, err := q.backend.Figures(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(jobsDesc, err)
		return
	}
	for _, c := range f.Classes {
		class := string(c.Class)
		for state, n := range map[string]int{"waiting": c.Waiting, "scheduled": c.Scheduled, "running": c.Running, "dead": c.Dead} {
			ch <- prometheus.MustNewConstMetric(jobsDesc, prometheus.GaugeValue, float64(n), class, state)
		}
		for outcome, n := range map[string]int64{"completed": c.Completed, "failed": c.Failed, "gave up": c.GaveUp, "cancelled": c.Cancelled} {
			ch <- prometheus.MustNewConstMetric(attemptsDesc, prometheus.CounterValue, float64(n), class, outcome)
		}
		ch <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, c.Oldest.Seconds(), class)
	}
	ch <- prometheus.MustNewConstMetric(workersDesc, prometheus.GaugeValue, float64(f.Processes))
}
