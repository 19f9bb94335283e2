package tallystick

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"time"
)

// Rat is the number, for arithmetic.
func (d Decimal) Rat() (*big.Rat, error) {
	found, ok := new(big.Rat).SetString(string(d))
	if !ok {
		return nil, fmt.Errorf("tallystick: %q is no decimal number", string(d))
	}
	return found, nil
}

// Do asks any route of the contract: `path` begins with "/v1/", `body` is encoded and `into` decoded as JSON (nil: none).
// What may pass is tried again; a POST carries one Idempotency-Key through all attempts. The error is *Problem,
// *Unreachable or the context's.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, body, into any) error {
	target := path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	header := http.Header{}
	var sent []byte
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return fmt.Errorf("tallystick: the body is no JSON: %w", err)
		}
		header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPost {
		header.Set("Idempotency-Key", NewID())
	}
	waits := delays{least: c.options.retryMin, most: c.options.retryMax}
	for attempt := 1; ; attempt++ {
		var retryAfter time.Duration
		found, err := c.transport.send(ctx, method, target, sent, header)
		if err == nil {
			err = found.decode(into)
			retryAfter = found.retryAfter()
			if errors.Is(err, errNotJSON) {
				err = &Unreachable{method, path, err}
			} else if !passing(found.status) {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if attempt >= c.options.questionAttempts {
			return err
		}
		if err := pause(ctx, waits.next(retryAfter)); err != nil {
			return err
		}
	}
}

// Receipt is what became of events that were sent at once.
type Receipt struct {
	Accepted   int    `json:"accepted"` // durable
	Recorded   int    `json:"recorded"` // counted: only where that was waited for, instead of Accepted
	Duplicates int    `json:"duplicates"`
	Conflicts  int    `json:"conflicts"`
	Rejected   int    `json:"rejected"`
	Position   string `json:"position"` // for UsageQuery.MinPosition
	Results    []struct {
		Index  int    `json:"index"`
		ID     string `json:"id"`
		Status string `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"results"` // of the events that were not accepted (or are duplicates or conflicts)
}

// Send sends events now, past the spool, and answers what became of each: for tests and small jobs. `waitRecorded`: until
// they count. What the server rejects is in the Receipt and no error, also where it is all of them.
func (c *Client) Send(ctx context.Context, events []Event, waitRecorded bool) (*Receipt, error) {
	whole := make([]wire, len(events))
	for n, event := range events {
		// The server judges what is missing, and says so in the receipt.
		made, err := Event{event.ID, event.Source, orDot(event.Type), orDot(event.Subject), event.Time, event.Data}.whole(c.options.source)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", n, err)
		}
		made.Type, made.Subject = event.Type, event.Subject
		whole[n] = made
	}
	query := url.Values{}
	if waitRecorded {
		query.Set("wait", "recorded")
	}
	found := &Receipt{}
	err := c.Do(ctx, http.MethodPost, "/v1/events", query, whole, found)
	var problem *Problem
	if errors.As(err, &problem) && json.Unmarshal(problem.Document, found) == nil && len(found.Results) > 0 {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

func orDot(text string) string {
	if text == "" {
		return "."
	}
	return text
}

// UsageQuery is a question about a meter; every member may be left out.
type UsageQuery struct {
	From, To        time.Time // [From, To); default: the last 30 days
	Window          string    // minute, 5m, 15m, hour, day, week, month, quarter, year; empty: one total
	Timezone        string    // of the windows; default UTC
	Customers       []string
	IncludeChildren bool
	GroupBy         []string                  // customer, subject, or dimensions
	Filter          map[string]map[string]any // {"model": {"in": []string{"a", "b"}}}
	OrderBy         string                    // value or -value
	Limit           int
	Fill            string // none or zero
	AsOf            time.Time
	MinPosition     string // wait until this position is recorded: read your own writes
}

// MarshalJSON writes the contract's names, and what is empty not at all.
func (q UsageQuery) MarshalJSON() ([]byte, error) {
	made := map[string]any{}
	for name, value := range map[string]string{
		"window": q.Window, "timezone": q.Timezone, "order_by": q.OrderBy, "fill": q.Fill, "min_position": q.MinPosition,
	} {
		if value != "" {
			made[name] = value
		}
	}
	for name, value := range map[string]time.Time{"from": q.From, "to": q.To, "as_of": q.AsOf} {
		if !value.IsZero() {
			made[name] = value.UTC().Format(timeFormat)
		}
	}
	if len(q.Customers) > 0 {
		made["customer"] = q.Customers
	}
	if q.IncludeChildren {
		made["include_children"] = true
	}
	if len(q.GroupBy) > 0 {
		made["group_by"] = q.GroupBy
	}
	if len(q.Filter) > 0 {
		made["filter"] = q.Filter
	}
	if q.Limit > 0 {
		made["limit"] = q.Limit
	}
	return json.Marshal(made)
}

// Usage answers a question about a meter.
type Usage struct {
	Meter       string     `json:"meter"`
	Aggregation string     `json:"aggregation"`
	Unit        string     `json:"unit"`
	From        time.Time  `json:"from"`
	To          time.Time  `json:"to"`
	Rows        []UsageRow `json:"rows"`
	Position    string     `json:"position"`
}

// UsageRow is one window of one group.
type UsageRow struct {
	WindowStart time.Time          `json:"window_start"`
	WindowEnd   time.Time          `json:"window_end"`
	Group       map[string]*string `json:"group"` // nil: the dimension was absent
	Value       *Decimal           `json:"value"` // nil: the maximum, the average and the like of nothing
}

// Usage asks what a meter shows.
func (c *Client) Usage(ctx context.Context, meter string, query UsageQuery) (*Usage, error) {
	found := &Usage{}
	if err := c.Do(ctx, http.MethodPost, "/v1/meters/"+url.PathEscape(meter)+"/usage", nil, query, found); err != nil {
		return nil, err
	}
	return found, nil
}

// Check says whether an amount may be used. Amounts are nil when no limit speaks.
type Check struct {
	Allowed   bool       `json:"allowed"`
	Limit     *Decimal   `json:"limit"`
	Used      *Decimal   `json:"used"`
	Held      *Decimal   `json:"held"`
	Remaining *Decimal   `json:"remaining"`
	ResetAt   *time.Time `json:"reset_at"`
	Rule      string     `json:"rule"`
	Reason    string     `json:"reason"`
}

type amountOf struct {
	Customer   string  `json:"customer"`
	Meter      string  `json:"meter"`
	Amount     Decimal `json:"amount"`
	TTLSeconds int     `json:"ttl_seconds,omitempty"`
}

// Check asks whether a customer may use an amount. Nothing is held.
func (c *Client) Check(ctx context.Context, customer, meter string, amount Decimal) (*Check, error) {
	found := &Check{}
	if err := c.Do(ctx, http.MethodPost, "/v1/check", nil, amountOf{Customer: customer, Meter: meter, Amount: amount}, found); err != nil {
		return nil, err
	}
	return found, nil
}

// Reservation is an amount that is held until it is settled, released, or its time is over.
type Reservation struct {
	ID string `json:"id"`
	Check
	ExpiresAt time.Time `json:"expires_at"`
	client    *Client
}

// Reserve holds an amount, for whole seconds. The error is a *Problem with Code "limit_exceeded" where there is not so much left.
func (c *Client) Reserve(ctx context.Context, customer, meter string, amount Decimal, ttl time.Duration) (*Reservation, error) {
	found := &Reservation{client: c}
	given := amountOf{customer, meter, amount, int(ttl / time.Second)}
	if err := c.Do(ctx, http.MethodPost, "/v1/reservations", nil, given, found); err != nil {
		return nil, err
	}
	return found, nil
}

// Reservation is one whose id is known.
func (c *Client) Reservation(id string) *Reservation { return &Reservation{ID: id, client: c} }

// Settle says what was really used; the rest is given back, and the event recorded in the same step. Nil: the server makes
// one. It may be repeated with the same amount.
func (r *Reservation) Settle(ctx context.Context, amount Decimal, event *Event) error {
	given := struct {
		Amount Decimal `json:"amount"`
		Event  *wire   `json:"event"`
	}{Amount: amount}
	if event != nil {
		made, err := event.whole(r.client.options.source)
		if err != nil {
			return err
		}
		given.Event = &made
	}
	return r.client.Do(ctx, http.MethodPost, "/v1/reservations/"+url.PathEscape(r.ID)+"/settle", nil, given, nil)
}

// Release gives all of it back.
func (r *Reservation) Release(ctx context.Context) error {
	return r.client.Do(ctx, http.MethodPost, "/v1/reservations/"+url.PathEscape(r.ID)+"/release", nil, struct{}{}, nil)
}
