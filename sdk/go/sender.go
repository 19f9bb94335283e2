package tallystick

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	adoptEvery         = 30 * time.Second
	compressedBytesMin = 2048
	resultRejected     = "rejected"
)

// sender takes events from the spool to the server, in order, until each was answered for.
type sender struct {
	client   *Client
	wakeUp   chan struct{}
	done     chan struct{} // closed when it has been told to stop
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	flushing atomic.Int32
	delays   delays
	// eventsMax is how many events the server takes at a time, once it has said that a batch was too large.
	eventsMax int

	mu     sync.Mutex
	counts Stats
}

func newSender(c *Client) *sender {
	ctx, cancel := context.WithCancel(context.Background())
	return &sender{
		client: c, wakeUp: make(chan struct{}, 1), done: make(chan struct{}), ctx: ctx, cancel: cancel,
		delays: delays{least: c.options.retryMin, most: c.options.retryMax}, eventsMax: c.options.batchEventsMax,
	}
}

func (s *sender) start() {
	s.running.Add(1)
	go s.run()
	if s.client.options.spool != "" && s.client.options.syncEvery > 0 {
		s.running.Add(1)
		go s.syncing()
	}
}

// stop ends it; a request under way is given up, and its events stay in the spool.
func (s *sender) stop() {
	close(s.done)
	s.cancel()
	s.running.Wait()
}

// wake says that there is a full batch, or that somebody waits.
func (s *sender) wake() {
	select {
	case s.wakeUp <- struct{}{}:
	default:
	}
}

func (s *sender) stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

func (s *sender) syncing() {
	defer s.running.Done()
	for pause(s.ctx, s.client.options.syncEvery) == nil {
		if err := s.client.spool.sync(); err != nil {
			s.client.options.logger.Error("tallystick: the spool cannot be synced", "error", err)
		}
	}
}

func (s *sender) run() {
	defer s.running.Done()
	timer := time.NewTicker(s.client.options.flushEvery)
	defer timer.Stop()
	adopted := time.Now()
	for {
		if s.flushing.Load() == 0 {
			select {
			case <-timer.C:
			case <-s.wakeUp:
			case <-s.ctx.Done():
				return
			}
		} else if s.ctx.Err() != nil {
			return
		}
		if s.client.options.spool != "" && time.Since(adopted) > adoptEvery {
			adopted = time.Now()
			s.client.spool.adopt()
		}
		if !s.sendAll() {
			return
		}
		if s.flushing.Load() > 0 {
			// Whoever flushes finds that nothing waits, and goes.
			if pause(s.ctx, time.Millisecond) != nil {
				return
			}
		}
	}
}

// sendAll answers false at the end.
func (s *sender) sendAll() bool {
	for s.ctx.Err() == nil {
		taken, err := s.client.spool.batch(s.eventsMax, s.client.options.batchBytesMax)
		if err != nil {
			s.failed("the spool cannot be read: " + err.Error())
			if pause(s.ctx, s.delays.next(0)) != nil {
				return false
			}
			continue
		}
		if taken == nil {
			return true
		}
		if !s.send(taken) {
			return false
		}
	}
	return false
}

// send tries until there is an answer for every event of the batch, or the end.
func (s *sender) send(b *batch) bool {
	for {
		var retryAfter time.Duration
		found, err := s.post(b.body)
		switch {
		case s.ctx.Err() != nil:
			return false
		case err != nil:
			s.failed(err.Error())
		default:
			refused, err := rejectedIn(found)
			if err == nil {
				s.settle(b, refused)
				s.delays.reset()
				return true
			}
			if found.status == 400 || found.status == 413 || found.status == 422 {
				// Something in it cannot be taken, or all of it is too much: find out which.
				if b.lines > 1 {
					b = b.half()
					if found.status == 413 {
						s.eventsMax = b.lines
					}
					continue
				}
				problem := problemOf(found)
				s.settle(b, []ingested{{Status: resultRejected, Code: problem.Code, Detail: problem.Detail}})
				return true
			}
			retryAfter = found.retryAfter()
			s.failed(err.Error())
			if found.status >= 300 && !passing(found.status) {
				// No key, no scope, no such path: only people mend that, and the events wait for them.
				retryAfter = max(retryAfter, s.client.options.retryMax/2)
			}
		}
		if pause(s.ctx, s.delays.next(retryAfter)) != nil {
			return false
		}
	}
}

func (s *sender) post(body []byte) (*answer, error) {
	header := http.Header{"Content-Type": {"application/x-ndjson"}}
	if s.client.options.compress && len(body) >= compressedBytesMin {
		var packed bytes.Buffer
		writer, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
		if _, err := writer.Write(body); err == nil && writer.Close() == nil {
			body = packed.Bytes()
			header.Set("Content-Encoding", "gzip")
		}
	}
	return s.client.transport.send(s.ctx, http.MethodPost, "/v1/events", body, header)
}

func (s *sender) failed(why string) {
	s.mu.Lock()
	s.counts.Failures++
	s.counts.LastFailure = why
	s.mu.Unlock()
	s.client.options.logger.Warn("tallystick: events wait in the spool", "why", why)
}

// settle tells of the events, then lets go of all.
func (s *sender) settle(b *batch, refused []ingested) {
	o := &s.client.options
	if len(refused) > 0 || o.onResult != nil {
		why := make(map[int]ingested, len(refused))
		for _, each := range refused {
			why[each.Index] = each
		}
		for index, line := range bytes.Split(bytes.TrimSuffix(b.body, []byte("\n")), []byte("\n")) {
			each, isRefused := why[index]
			if isRefused || o.onResult != nil {
				s.tell(line, each, !isRefused)
			}
		}
	}
	s.mu.Lock()
	s.counts.Rejected += int64(len(refused))
	s.counts.Accepted += int64(b.lines - len(refused))
	s.mu.Unlock()
	s.client.spool.acknowledge(b)
}

func (s *sender) tell(line []byte, found ingested, accepted bool) {
	o := &s.client.options
	var event wire
	_ = json.Unmarshal(line, &event) // it is our own
	result := Result{event.ID, event.Source, accepted, found.Code, found.Detail, bytes.Clone(line)}
	if o.onResult != nil {
		o.onResult(result)
	}
	if accepted {
		return
	}
	if o.onRejected != nil {
		o.onRejected(result)
	} else if o.onResult == nil {
		o.logger.Error("tallystick: an event was rejected", "id", event.ID, "code", found.Code, "detail", found.Detail)
	}
}

// half is the first half of a batch.
func (b *batch) half() *batch {
	lines, end := b.lines/2, 0
	for range lines {
		end += bytes.IndexByte(b.body[end:], '\n') + 1
	}
	return &batch{b.segment, b.body[:end], int64(end + lines*checkBytes), lines}
}

// ingested is what the server says of one event.
type ingested struct {
	Index  int    `json:"index"`
	ID     string `json:"id"`
	Status string `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// rejectedIn reads the events that were not taken. An error: this answer is not about events.
func rejectedIn(a *answer) ([]ingested, error) {
	if a.status >= 300 && a.status != http.StatusUnprocessableEntity {
		return nil, problemOf(a)
	}
	var document struct {
		Results *[]ingested `json:"results"`
	}
	err := json.Unmarshal(a.body, &document)
	if err != nil || document.Results == nil {
		if a.status >= 300 {
			return nil, problemOf(a)
		}
		return nil, errors.Join(errNotJSON, err)
	}
	var found []ingested
	for _, each := range *document.Results {
		if each.Status == resultRejected {
			found = append(found, each)
		}
	}
	if a.status >= 300 && len(found) == 0 {
		return nil, problemOf(a)
	}
	return found, nil
}
