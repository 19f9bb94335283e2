package tallystick

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// sink takes events in every bad way, and remembers each by its identity.
type sink struct {
	*httptest.Server
	mu       sync.Mutex
	script   []int             // statuses of the next requests; 0: taken. Negative: taken, and no answer
	headers  map[string]string // of scripted answers
	events   map[string]json.RawMessage
	requests []string // bodies
	reject   string   // the subject whose events are rejected
	most     int      // events a request may have
}

func newSink(t *testing.T) *sink {
	s := &sink{events: map[string]json.RawMessage{}, most: 1 << 30}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		reader, _ := gzip.NewReader(bytes.NewReader(body))
		body, _ = io.ReadAll(reader)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, string(body))
	status := 0
	if len(s.script) > 0 {
		status, s.script = s.script[0], s.script[1:]
	}
	lines := bytes.Split(bytes.TrimSpace(body), []byte("\n"))
	if len(lines) > s.most {
		status = 413
	}
	if status > 0 {
		for name, value := range s.headers {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		return
	}
	results := []map[string]any{}
	for index, line := range lines {
		var event wire
		if json.Unmarshal(line, &event) != nil {
			panic("no event: " + string(line))
		}
		if event.Subject == s.reject {
			results = append(results, map[string]any{"index": index, "id": event.ID, "status": "rejected", "code": "no", "detail": "never"})
			continue
		}
		if before, ok := s.events[event.ID]; ok && !bytes.Equal(before, line) {
			panic("the same id with another content")
		}
		s.events[event.ID] = bytes.Clone(line)
	}
	if status < 0 {
		panic(http.ErrAbortHandler)
	}
	if len(results) == len(lines) {
		w.WriteHeader(http.StatusUnprocessableEntity)
	} else {
		w.WriteHeader(http.StatusAccepted)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"accepted": len(lines) - len(results), "results": results})
}

func (s *sink) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

func (s *sink) client(t *testing.T, more ...Option) *Client {
	t.Helper()
	quick := []Option{
		WithFlushEvery(time.Millisecond), WithRetry(time.Millisecond, 5*time.Millisecond),
		WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
	}
	client, err := New(s.URL, "key", append(quick, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = client.Close(ctx)
	})
	return client
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func track(t *testing.T, client *Client, count int) {
	t.Helper()
	for n := range count {
		if _, err := client.Track(soon(t), Event{Type: "call", Subject: "acme", Data: map[string]int{"n": n}}); err != nil {
			t.Fatal(err)
		}
	}
}
