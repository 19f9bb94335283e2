package tallystick

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// Page is a part of a list.
type Page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"` // nil: this was the last
}

// each gives every item of a list to a function, page by page, until it fails.
func each[T any](ctx context.Context, c *Client, path string, given func(T) error) error {
	query := url.Values{"limit": {strconv.Itoa(1000)}}
	for {
		var page Page[T]
		if err := c.Do(ctx, http.MethodGet, path, query, nil, &page); err != nil {
			return err
		}
		for _, item := range page.Items {
			if err := given(item); err != nil {
				return err
			}
		}
		if page.NextCursor == nil {
			return nil
		}
		query.Set("cursor", *page.NextCursor)
	}
}

func call[T any](ctx context.Context, c *Client, method, path string, body any) (*T, error) {
	found := new(T)
	if err := c.Do(ctx, method, path, nil, body, found); err != nil {
		return nil, err
	}
	return found, nil
}

// Meter says what is counted of which events.
type Meter struct {
	Key         string            `json:"key,omitempty"`
	Name        string            `json:"name,omitempty"`
	EventType   string            `json:"event_type,omitempty"`
	Aggregation string            `json:"aggregation,omitempty"` // count, sum, min, max, average, latest, unique_count, p95, …
	Value       any               `json:"value,omitempty"`       // "$.tokens", or {"cel": "…"}
	Dimensions  map[string]string `json:"dimensions,omitempty"`
	Filter      string            `json:"filter,omitempty"` // a CEL expression
	Unit        string            `json:"unit,omitempty"`
	PairBy      string            `json:"pair_by,omitempty"` // of duration: what a start and its stop have in common
	Of          any               `json:"of,omitempty"`      // a meter over a meter: {"aggregation": "max", "window": "day"}
	Version     int               `json:"version,omitempty"`
}

// Meters are the meters of the tenant.
type Meters struct{ client *Client }

// Create makes a meter. It counts events recorded before it existed, too.
func (m Meters) Create(ctx context.Context, meter Meter) (*Meter, error) {
	return call[Meter](ctx, m.client, http.MethodPost, "/v1/meters", meter)
}

// Get reads one.
func (m Meters) Get(ctx context.Context, key string) (*Meter, error) {
	return call[Meter](ctx, m.client, http.MethodGet, "/v1/meters/"+url.PathEscape(key), nil)
}

// Each gives every meter to a function, until it fails.
func (m Meters) Each(ctx context.Context, given func(Meter) error) error {
	return each(ctx, m.client, "/v1/meters", given)
}

// Change makes a new version with these members changed.
func (m Meters) Change(ctx context.Context, key string, members map[string]any) (*Meter, error) {
	return call[Meter](ctx, m.client, http.MethodPatch, "/v1/meters/"+url.PathEscape(key), members)
}

// Archive takes it out of use; its history stays.
func (m Meters) Archive(ctx context.Context, key string) error {
	return m.client.Do(ctx, http.MethodDelete, "/v1/meters/"+url.PathEscape(key), nil, nil, nil)
}

// Customer is somebody whose usage is counted.
type Customer struct {
	Key         string            `json:"key,omitempty"`
	Name        string            `json:"name,omitempty"`
	Subjects    []string          `json:"subjects,omitempty"`
	Parent      string            `json:"parent,omitempty"`
	Currency    string            `json:"currency,omitempty"`
	Timezone    string            `json:"timezone,omitempty"`
	Email       string            `json:"email,omitempty"`
	ExternalIDs map[string]string `json:"external_ids,omitempty"`
	Traits      map[string]any    `json:"traits,omitempty"`
}

// Customers are the customers of the tenant.
type Customers struct{ client *Client }

// Create makes a customer.
func (m Customers) Create(ctx context.Context, customer Customer) (*Customer, error) {
	return call[Customer](ctx, m.client, http.MethodPost, "/v1/customers", customer)
}

// Get reads one.
func (m Customers) Get(ctx context.Context, key string) (*Customer, error) {
	return call[Customer](ctx, m.client, http.MethodGet, "/v1/customers/"+url.PathEscape(key), nil)
}

// Each gives every customer to a function, until it fails.
func (m Customers) Each(ctx context.Context, given func(Customer) error) error {
	return each(ctx, m.client, "/v1/customers", given)
}

// Change changes these members.
func (m Customers) Change(ctx context.Context, key string, members map[string]any) (*Customer, error) {
	return call[Customer](ctx, m.client, http.MethodPatch, "/v1/customers/"+url.PathEscape(key), members)
}

// Archive takes the customer out of use; history stays.
func (m Customers) Archive(ctx context.Context, key string) error {
	return m.client.Do(ctx, http.MethodDelete, "/v1/customers/"+url.PathEscape(key), nil, nil, nil)
}

// Limit says how much may be used in a period, by one customer, or by each of a plan.
type Limit struct {
	Key      string  `json:"key,omitempty"`
	Name     string  `json:"name,omitempty"`
	Customer string  `json:"customer,omitempty"` // "*": each by itself
	Plan     string  `json:"plan,omitempty"`
	Meter    string  `json:"meter,omitempty"`
	Cost     bool    `json:"cost,omitempty"` // money instead of a meter's units
	Amount   Decimal `json:"amount,omitempty"`
	Period   string  `json:"period,omitempty"`  // day, week, month, billing, rolling:PT5H
	Enforce  string  `json:"enforce,omitempty"` // hard or soft
	Fail     string  `json:"fail,omitempty"`    // open or closed
}

// Limits are the limits of the tenant.
type Limits struct{ client *Client }

// Create makes a limit.
func (m Limits) Create(ctx context.Context, limit Limit) (*Limit, error) {
	return call[Limit](ctx, m.client, http.MethodPost, "/v1/limits", limit)
}

// Get reads one.
func (m Limits) Get(ctx context.Context, key string) (*Limit, error) {
	return call[Limit](ctx, m.client, http.MethodGet, "/v1/limits/"+url.PathEscape(key), nil)
}

// Each gives every limit to a function, until it fails.
func (m Limits) Each(ctx context.Context, given func(Limit) error) error {
	return each(ctx, m.client, "/v1/limits", given)
}

// Change changes these members.
func (m Limits) Change(ctx context.Context, key string, members map[string]any) (*Limit, error) {
	return call[Limit](ctx, m.client, http.MethodPatch, "/v1/limits/"+url.PathEscape(key), members)
}

// Delete removes it.
func (m Limits) Delete(ctx context.Context, key string) error {
	return m.client.Do(ctx, http.MethodDelete, "/v1/limits/"+url.PathEscape(key), nil, nil, nil)
}
