package tallystick

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// FullPolicy is what Track does when the spool is full.
type FullPolicy int

const (
	// FullWait waits for room until the context ends. The default.
	FullWait FullPolicy = iota
	// FullError answers ErrSpoolFull at once.
	FullError
)

// Result is what became of one event.
type Result struct {
	ID, Source string
	Accepted   bool            // durable at the server
	Code       string          // why it will never be taken, such as "invalid_time"; empty when accepted
	Detail     string          // the same in words
	Event      json.RawMessage // as it was sent
}

type options struct {
	source           string
	spool            string
	spoolBytesMax    int64
	segmentBytes     int64
	syncEvery        time.Duration
	batchEventsMax   int
	batchBytesMax    int
	flushEvery       time.Duration
	full             FullPolicy
	onResult         func(Result)
	onRejected       func(Result)
	timeout          time.Duration
	retryMin         time.Duration
	retryMax         time.Duration
	questionAttempts int
	compress         bool
	client           *http.Client
	logger           *slog.Logger
}

func defaults() options {
	return options{
		source: "/", spoolBytesMax: 256 << 20, segmentBytes: 4 << 20, syncEvery: 100 * time.Millisecond,
		batchEventsMax: 5000, batchBytesMax: 1 << 20, flushEvery: 500 * time.Millisecond,
		timeout: 30 * time.Second, retryMin: 200 * time.Millisecond, retryMax: 30 * time.Second,
		questionAttempts: 3, compress: true, logger: slog.Default(),
	}
}

func (o *options) check() error {
	var wrong []error
	for _, each := range []struct {
		name  string
		value int64
	}{
		{"WithSpoolBytes", o.spoolBytesMax}, {"WithSegmentBytes", o.segmentBytes},
		{"WithBatch: events", int64(o.batchEventsMax)}, {"WithBatch: bytes", int64(o.batchBytesMax)},
		{"WithFlushEvery", int64(o.flushEvery)}, {"WithTimeout", int64(o.timeout)},
		{"WithRetry: least", int64(o.retryMin)}, {"WithRetry: most", int64(o.retryMax)},
		{"WithAttempts", int64(o.questionAttempts)},
	} {
		if each.value <= 0 {
			wrong = append(wrong, fmt.Errorf("tallystick: %s must be more than 0", each.name))
		}
	}
	if o.segmentBytes > o.spoolBytesMax {
		wrong = append(wrong, errors.New("tallystick: a segment may not be larger than the spool"))
	}
	if o.source == "" {
		wrong = append(wrong, errors.New("tallystick: WithSource must not be empty"))
	}
	return errors.Join(wrong...)
}

// Option changes how a client behaves.
type Option func(*options)

// WithSource sets the source of events that name none (default "/").
func WithSource(source string) Option { return func(o *options) { o.source = source } }

// WithSpool keeps events in a directory until the server has answered for them; without it they are kept in memory. One
// directory for each server and tenant; processes share it. It must be on a local disk, and holds the events in the clear.
func WithSpool(directory string) Option { return func(o *options) { o.spool = directory } }

// WithSpoolBytes bounds the events that wait (default 256 MiB).
func WithSpoolBytes(most int64) Option { return func(o *options) { o.spoolBytesMax = most } }

// WithSegmentBytes sets the size of the spool's files (default 4 MiB).
func WithSegmentBytes(size int64) Option { return func(o *options) { o.segmentBytes = size } }

// WithSyncEvery sets within which time an unsent event is synced to the disk (default 100 ms): what a failing machine can
// lose. 0: before Track returns. A killed process loses nothing in any case.
func WithSyncEvery(every time.Duration) Option { return func(o *options) { o.syncEvery = every } }

// WithBatch bounds the events and the bytes of a request (5,000 and 1 MiB).
func WithBatch(events, bytes int) Option {
	return func(o *options) { o.batchEventsMax, o.batchBytesMax = events, bytes }
}

// WithFlushEvery sets how long an event may wait for others (default 500 ms).
func WithFlushEvery(every time.Duration) Option { return func(o *options) { o.flushEvery = every } }

// WithFull sets what Track does when the spool is full.
func WithFull(policy FullPolicy) Option { return func(o *options) { o.full = policy } }

// WithOnResult has every event's result told, accepted or not, in the sending goroutine, also those of earlier processes. It
// must not call Flush or Close.
func WithOnResult(told func(Result)) Option { return func(o *options) { o.onResult = told } }

// WithOnRejected has the events told that the server will never take. Without it (and without WithOnResult) they are logged.
func WithOnRejected(told func(Result)) Option { return func(o *options) { o.onRejected = told } }

// WithTimeout bounds one attempt of a request (default 30 s).
func WithTimeout(timeout time.Duration) Option { return func(o *options) { o.timeout = timeout } }

// WithRetry sets the delays between attempts: doubling from the least to the most, with jitter (200 ms, 30 s).
func WithRetry(least, most time.Duration) Option {
	return func(o *options) { o.retryMin, o.retryMax = least, most }
}

// WithAttempts sets how often a question (usage, limits, resources) is asked before it fails (default 3).
func WithAttempts(attempts int) Option { return func(o *options) { o.questionAttempts = attempts } }

// WithoutCompression sends events as they are; otherwise larger batches go gzipped.
func WithoutCompression() Option { return func(o *options) { o.compress = false } }

// WithHTTPClient uses this client, for a proxy, certificates or tracing. Its Timeout should be 0.
func WithHTTPClient(client *http.Client) Option { return func(o *options) { o.client = client } }

// WithLogger has retries and rejected events logged there (default slog.Default).
func WithLogger(logger *slog.Logger) Option { return func(o *options) { o.logger = logger } }
