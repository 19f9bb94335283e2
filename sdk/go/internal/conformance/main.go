// Command conformance is the driver of the conformance suite (sdk/CONFORMANCE.md).
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	tallystick "github.com/tallystick/tallystick/sdk/go"
	"github.com/tallystick/tallystick/sdk/go/llm"
)

type answer map[string]any

type event struct {
	ID, Source, Type, Subject, Time string
	Data                            json.RawMessage
}

func (e event) event() (tallystick.Event, error) {
	made := tallystick.Event{ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject}
	if e.Data != nil {
		made.Data = e.Data
	}
	if e.Time == "" {
		return made, nil
	}
	var err error
	made.Time, err = time.Parse(time.RFC3339Nano, e.Time)
	return made, err
}

type driver struct {
	client *tallystick.Client

	mu         sync.Mutex
	rejections []answer
}

func milliseconds(number int) time.Duration { return time.Duration(number) * time.Millisecond }

func bounded(timeoutMS int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), milliseconds(timeoutMS))
}

func (d *driver) answer(line []byte) (answer, error) {
	ctx := context.Background()
	var op struct{ Op string }
	if err := json.Unmarshal(line, &op); err != nil {
		return nil, err
	}
	var given struct {
		event
		URL, Key, Spool string
		SpoolBytes      int64  `json:"spool_bytes"`
		SegmentBytes    int64  `json:"segment_bytes"`
		BatchEvents     int    `json:"batch_events"`
		BatchBytes      int    `json:"batch_bytes"`
		FlushMS         int    `json:"flush_ms"`
		TimeoutMS       int    `json:"timeout_ms"`
		RetryMSMin      int    `json:"retry_ms_min"`
		RetryMSMax      int    `json:"retry_ms_max"`
		OnFull          string `json:"on_full"`
		Count, Workers  int
		Pieces          []json.RawMessage
		Model           string
		Events          []event
		WaitRecorded    bool `json:"wait_recorded"`
		Meter, Customer string
		Amount          tallystick.Decimal
		TTLSeconds      int `json:"ttl_seconds"`
		Reservation     string
		Definition      json.RawMessage
		Parameters      struct {
			From, To time.Time
			Customer string
			GroupBy  []string `json:"group_by"`
			Window   string
		}
	}
	if err := json.Unmarshal(line, &given); err != nil {
		return nil, err
	}
	switch op.Op {
	case "configure":
		d.rejections = []answer{}
		policy := tallystick.FullWait
		if given.OnFull == "error" {
			policy = tallystick.FullError
		}
		var err error
		d.client, err = tallystick.New(given.URL, given.Key,
			tallystick.WithSpool(given.Spool), tallystick.WithSpoolBytes(given.SpoolBytes),
			tallystick.WithSegmentBytes(given.SegmentBytes), tallystick.WithBatch(given.BatchEvents, given.BatchBytes),
			tallystick.WithFlushEvery(milliseconds(given.FlushMS)), tallystick.WithTimeout(milliseconds(given.TimeoutMS)),
			tallystick.WithRetry(milliseconds(given.RetryMSMin), milliseconds(given.RetryMSMax)),
			tallystick.WithFull(policy), tallystick.WithOnRejected(d.rejected),
			tallystick.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
		return answer{}, err
	case "track":
		made, err := given.event.event()
		if err != nil {
			return nil, err
		}
		id, err := d.client.Track(ctx, made)
		return answer{"id": id}, err
	case "track_many":
		return d.trackMany(ctx, given.event, given.Count, given.Workers)
	case "llm":
		about := llm.About{Subject: given.Subject, Model: given.Model}
		var id string
		var err error
		if len(given.Pieces) == 1 {
			id, err = llm.Track(ctx, d.client, about, given.Pieces[0])
		} else {
			stream := llm.NewStream(d.client, about)
			for _, piece := range given.Pieces {
				err = errors.Join(err, stream.Add(piece))
			}
			if err == nil {
				id, err = stream.Close(ctx)
			}
		}
		if id == "" {
			return answer{"id": nil}, err
		}
		return answer{"id": id}, err
	case "flush":
		ctx, cancel := bounded(given.TimeoutMS)
		defer cancel()
		return answer{"complete": d.client.Flush(ctx) == nil}, nil
	case "close":
		ctx, cancel := bounded(given.TimeoutMS)
		defer cancel()
		return answer{"complete": d.client.Close(ctx) == nil}, nil
	case "stats":
		found := d.client.Stats()
		return answer{"tracked": found.Tracked, "accepted": found.Accepted, "rejected": found.Rejected, "waiting": found.Waiting}, nil
	case "rejections":
		d.mu.Lock()
		defer d.mu.Unlock()
		return answer{"rejections": d.rejections}, nil
	case "send":
		var events []tallystick.Event
		for _, each := range given.Events {
			made, err := each.event()
			if err != nil {
				return nil, err
			}
			events = append(events, made)
		}
		found, err := d.client.Send(ctx, events, given.WaitRecorded)
		if err != nil {
			return nil, err
		}
		return answer{"results": found.Results, "rejected": found.Rejected, "accepted": found.Accepted}, nil
	case "usage":
		query := tallystick.UsageQuery{
			From: given.Parameters.From, To: given.Parameters.To, GroupBy: given.Parameters.GroupBy, Window: given.Parameters.Window,
		}
		if given.Parameters.Customer != "" {
			query.Customers = []string{given.Parameters.Customer}
		}
		found, err := d.client.Usage(ctx, given.Meter, query)
		if err != nil {
			return nil, err
		}
		return answer{"rows": found.Rows}, nil
	case "check":
		found, err := d.client.Check(ctx, given.Customer, given.Meter, given.Amount)
		if err != nil {
			return nil, err
		}
		return answer{
			"allowed": found.Allowed, "limit": found.Limit, "used": found.Used, "held": found.Held, "remaining": found.Remaining,
		}, nil
	case "reserve":
		ttl := time.Duration(given.TTLSeconds) * time.Second
		found, err := d.client.Reserve(ctx, given.Customer, given.Meter, given.Amount, ttl)
		if err != nil {
			return nil, err
		}
		return answer{"reservation": found.ID}, nil
	case "settle":
		return answer{}, d.client.Reservation(given.Reservation).Settle(ctx, given.Amount, nil)
	case "release":
		return answer{}, d.client.Reservation(given.Reservation).Release(ctx)
	case "create_meter":
		var meter tallystick.Meter
		if err := json.Unmarshal(given.Definition, &meter); err != nil {
			return nil, err
		}
		made, err := d.client.Meters.Create(ctx, meter)
		if err != nil {
			return nil, err
		}
		return answer{"key": made.Key}, nil
	case "create_customer":
		var customer tallystick.Customer
		if err := json.Unmarshal(given.Definition, &customer); err != nil {
			return nil, err
		}
		made, err := d.client.Customers.Create(ctx, customer)
		if err != nil {
			return nil, err
		}
		again, err := d.client.Customers.Get(ctx, made.Key)
		if err != nil {
			return nil, err
		}
		return answer{"key": again.Key}, nil
	}
	return nil, errors.New("unknown op " + op.Op)
}

func (d *driver) rejected(found tallystick.Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rejections = append(d.rejections, answer{"id": found.ID, "code": found.Code, "detail": found.Detail})
}

func (d *driver) trackMany(ctx context.Context, of event, count, workers int) (answer, error) {
	var numbers, refused atomic.Int64
	var mu sync.Mutex
	var running sync.WaitGroup
	var failed error
	ids := []string{}
	for range workers {
		running.Add(1)
		go func() {
			defer running.Done()
			for n := numbers.Add(1) - 1; n < int64(count); n = numbers.Add(1) - 1 {
				id, err := d.client.Track(ctx, tallystick.Event{Type: of.Type, Subject: of.Subject, Data: map[string]any{"n": n}})
				mu.Lock()
				switch {
				case err == nil:
					ids = append(ids, id)
				case errors.Is(err, tallystick.ErrSpoolFull):
					refused.Add(1)
				default:
					failed = err
				}
				mu.Unlock()
			}
		}()
	}
	running.Wait()
	return answer{"ids": ids, "refused": refused.Load()}, failed
}

func failure(err error) answer {
	var problem *tallystick.Problem
	var unreachable *tallystick.Unreachable
	var invalid *tallystick.InvalidEvent
	kind := "other"
	switch {
	case errors.As(err, &problem):
		return answer{"ok": false, "kind": "problem", "status": problem.Status, "code": problem.Code, "detail": problem.Detail}
	case errors.As(err, &unreachable):
		kind = "unreachable"
	case errors.As(err, &invalid):
		kind = "invalid_event"
	case errors.Is(err, tallystick.ErrSpoolFull):
		kind = "spool_full"
	}
	return answer{"ok": false, "kind": kind, "detail": err.Error()}
}

func main() {
	d := &driver{}
	input := bufio.NewReader(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			said, failed := d.answer(line)
			if failed != nil {
				said = failure(failed)
			} else {
				said["ok"] = true
			}
			if output.Encode(said) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
