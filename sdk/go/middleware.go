package tallystick

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Counting says how requests become events.
type Counting struct {
	// Subject finds who is to be charged, after the request; empty: nobody. Required.
	Subject func(*http.Request) string
	// Type of the events; default "http.request".
	Type string
	// Data adds to the event's data; may be nil.
	Data func(*http.Request) map[string]any
}

// Middleware makes one event of each request: method, path, status, duration_ms and response_bytes. Metering never makes a
// request fail, nor wait for room in the spool: what goes wrong is logged.
func (c *Client) Middleware(counting Counting) func(http.Handler) http.Handler {
	if counting.Type == "" {
		counting.Type = "http.request"
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			started := time.Now()
			counted := &countedWriter{ResponseWriter: w}
			completed := false
			defer func() {
				status := counted.status
				if status == 0 {
					status = http.StatusOK
					if !completed {
						status = http.StatusInternalServerError // it panics: nothing was written
					}
				}
				c.count(counting, r, status, time.Since(started), counted.size)
			}()
			next.ServeHTTP(counted, r)
			completed = true
		})
	}
}

func (c *Client) count(counting Counting, r *http.Request, status int, took time.Duration, size int64) {
	defer func() {
		if why := recover(); why != nil {
			c.options.logger.Error("tallystick: a request was not counted", "error", why)
		}
	}()
	subject := counting.Subject(r)
	if subject == "" {
		return
	}
	data := map[string]any{
		"method": r.Method, "path": r.URL.Path, "status": status,
		"duration_ms":    Decimal(fmt.Sprintf("%d.%03d", took.Microseconds()/1000, took.Microseconds()%1000)),
		"response_bytes": size,
	}
	if counting.Data != nil {
		for name, each := range counting.Data(r) {
			data[name] = each
		}
	}
	event := Event{Type: counting.Type, Subject: subject, Data: data}
	if _, err := c.track(context.Background(), event, FullError); err != nil {
		c.options.logger.Error("tallystick: a request was not counted", "error", err)
	}
}

type countedWriter struct {
	http.ResponseWriter
	status int
	size   int64
}

func (w *countedWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countedWriter) Write(piece []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(piece)
	w.size += int64(n)
	return n, err
}

// ReadFrom keeps the way by which files are sent without copying.
func (w *countedWriter) ReadFrom(source io.Reader) (int64, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := io.Copy(w.ResponseWriter, source)
	w.size += n
	return n, err
}

// Flush is for handlers that ask for an http.Flusher.
func (w *countedWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
