package tallystick

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestEveryAttemptSendsTheSameBytes(t *testing.T) {
	s := newSink(t)
	s.script = []int{503, -1, 500, 429, 0}
	client := s.client(t, WithBatch(10, 1<<20))
	track(t, client, 10)
	if err := client.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	if s.taken() != 10 || len(s.requests) < 5 {
		t.Fatalf("%d events in %d requests", s.taken(), len(s.requests))
	}
	if found := client.Stats(); found.Accepted != 10 || found.Waiting != 0 || found.Failures == 0 {
		t.Fatalf("%+v", found)
	}
}

func TestRetryAfterIsWaitedFor(t *testing.T) {
	s := newSink(t)
	s.script, s.headers = []int{429}, map[string]string{"Retry-After": "1"}
	client := s.client(t)
	began := time.Now()
	track(t, client, 1)
	if err := client.Flush(soon(t)); err != nil || time.Since(began) < time.Second {
		t.Fatalf("%v after %v", err, time.Since(began))
	}
}

func TestResultsOfEachEvent(t *testing.T) {
	s := newSink(t)
	s.reject = "nobody"
	var mu sync.Mutex
	results := map[string]Result{}
	client := s.client(t, WithOnResult(func(found Result) {
		mu.Lock()
		defer mu.Unlock()
		results[found.ID] = found
	}))
	for _, event := range []Event{{ID: "a", Type: "call", Subject: "acme"}, {ID: "b", Type: "call", Subject: "nobody"}} {
		if _, err := client.Track(soon(t), event); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !results["a"].Accepted || results["b"].Accepted || results["b"].Code != "no" || !json.Valid(results["b"].Event) {
		t.Fatalf("%+v", results)
	}
}

func TestATooLargeBatchIsHalved(t *testing.T) {
	s := newSink(t)
	s.most = 3
	client := s.client(t, WithFlushEvery(50*time.Millisecond))
	track(t, client, 20)
	if err := client.Flush(soon(t)); err != nil || s.taken() != 20 {
		t.Fatal(err, s.taken())
	}
}

func TestOneEventThatSpoilsABatchIsFound(t *testing.T) {
	s := newSink(t)
	var refused []string
	client := s.client(t, WithOnRejected(func(found Result) { refused = append(refused, found.Code) }))
	s.script = []int{400}
	track(t, client, 1)
	if err := client.Flush(soon(t)); err != nil || len(refused) != 1 || refused[0] != "http_400" {
		t.Fatal(err, refused)
	}
}

func TestAFullSpool(t *testing.T) {
	for name, directory := range map[string]string{"memory": "", "disk": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			s := newSink(t)
			s.script = make([]int, 10_000)
			for n := range s.script {
				s.script[n] = 503
			}
			client := s.client(t, WithSpool(directory), WithSpoolBytes(4096), WithSegmentBytes(1024), WithFull(FullError))
			taken := 0
			for {
				_, err := client.Track(soon(t), Event{Type: "call", Subject: "acme"})
				if errors.Is(err, ErrSpoolFull) {
					break
				}
				taken++
			}
			client.options.full = FullWait
			short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			if _, err := client.Track(short, Event{Type: "call", Subject: "acme"}); !errors.Is(err, ErrSpoolFull) || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			s.mu.Lock()
			s.script = nil
			s.mu.Unlock()
			track(t, client, 100) // waits for room, again and again
			if err := client.Flush(soon(t)); err != nil || s.taken() != taken+100 {
				t.Fatal(err, s.taken(), taken)
			}
		})
	}
}

func TestTheNextProcessSendsWhatIsThere(t *testing.T) {
	directory := t.TempDir()
	away := newSink(t)
	away.Close()
	first := away.client(t, WithSpool(directory))
	track(t, first, 50)
	gone, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := first.Close(gone); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err := first.Track(soon(t), Event{Type: "call", Subject: "acme"}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	s := newSink(t)
	second := s.client(t, WithSpool(directory))
	if err := second.Flush(soon(t)); err != nil || s.taken() != 50 {
		t.Fatal(err, s.taken())
	}
	if err := second.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
}

func TestWhoLivesIsLeftAlone(t *testing.T) {
	directory := t.TempDir()
	away := newSink(t)
	away.Close()
	first := away.client(t, WithSpool(directory))
	track(t, first, 5)
	s := newSink(t)
	second := s.client(t, WithSpool(directory))
	track(t, second, 3)
	if err := second.Flush(soon(t)); err != nil || s.taken() != 3 || first.Stats().Waiting != 5 {
		t.Fatal(err, s.taken(), first.Stats())
	}
}

func TestWhatNoServerWouldTake(t *testing.T) {
	s := newSink(t)
	client := s.client(t)
	for _, event := range []Event{
		{Subject: "acme"}, {Type: "call"}, {Type: "call", Subject: strings.Repeat("é", 257)},
		{Type: "call", Subject: "acme", Data: []int{1}}, {Type: "call", Subject: "acme", Data: make(chan int)},
		{Type: "call", Subject: "acme", Data: map[string]string{"x": strings.Repeat("x", eventBytesMax)}},
	} {
		_, err := client.Track(soon(t), event)
		var invalid *InvalidEvent
		if !errors.As(err, &invalid) {
			t.Fatalf("%+v: %v", event, err)
		}
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	if _, err := New("http://server", "key", WithBatch(0, 1), WithTimeout(0)); err == nil ||
		!strings.Contains(err.Error(), "WithBatch") || !strings.Contains(err.Error(), "WithTimeout") {
		t.Fatal(err)
	}
	if _, err := New("server:80", "key"); err == nil {
		t.Fatal("an address without a scheme")
	}
}

func TestAQuestionIsAskedAgain(t *testing.T) {
	keys := map[string]bool{}
	asked := 0
	s := newSink(t)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		keys[r.Header.Get("Idempotency-Key")] = true
		switch asked {
		case 1:
			w.WriteHeader(http.StatusBadGateway)
		case 2:
			_, _ = w.Write([]byte("<html>"))
		default:
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"code":"limit_exceeded","detail":"No.","errors":[{"pointer":"/amount","code":"c"}]}`))
		}
	})
	client := s.client(t)
	_, err := client.Reserve(soon(t), "acme", "tokens", "1.5", time.Minute)
	var problem *Problem
	if !errors.As(err, &problem) || problem.Code != "limit_exceeded" || problem.Status != 409 || problem.Faults[0].Pointer != "/amount" {
		t.Fatal(err)
	}
	if asked != 3 || len(keys) != 1 {
		t.Fatal(asked, keys)
	}
	s.Close()
	_, err = client.Check(soon(t), "acme", "tokens", "1")
	var unreachable *Unreachable
	if !errors.As(err, &unreachable) {
		t.Fatal(err)
	}
}

func TestIdsAreUniqueAndInOrder(t *testing.T) {
	before := ""
	for range 10_000 {
		id := NewID()
		if len(id) != 36 || id[14] != '7' || id[:13] < before {
			t.Fatal(id, before)
		}
		before = id[:13]
	}
}

func BenchmarkTrack(b *testing.B) {
	client, err := New("http://127.0.0.1:1", "key", WithSpool(b.TempDir()), WithSpoolBytes(8<<30), WithFlushEvery(time.Hour), WithBatch(1<<30, 1<<40))
	if err != nil {
		b.Fatal(err)
	}
	data := map[string]any{"tokens": 812, "model": "gpt-5"}
	for range b.N {
		if _, err := client.Track(context.Background(), Event{Type: "llm.completion", Subject: "acme", Data: data}); err != nil {
			b.Fatal(err)
		}
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = client.Close(gone)
}
