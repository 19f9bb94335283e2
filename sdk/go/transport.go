package tallystick

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	answerBytesMax = 64 << 20
	retryAfterMax  = time.Hour
	userAgent      = "tallystick-go/0.1.0"
)

var errNotJSON = errors.New("the answer is no JSON: is there a proxy?")

// passing are the statuses of failures that may pass.
func passing(status int) bool {
	switch status {
	case 408, 425, 429, 500, 502, 503, 504:
		return true
	}
	return false
}

type transport struct {
	base    string
	key     string
	timeout time.Duration
	client  *http.Client
}

func newTransport(address, key string, o *options) (*transport, error) {
	parsed, err := url.Parse(address)
	if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" || parsed.RawQuery != "" || parsed.Fragment != "" {
		return nil, fmt.Errorf("tallystick: %q is not the address of a server; https://host[:port] is", address)
	}
	client := o.client
	if client == nil {
		client = &http.Client{
			Transport: http.DefaultTransport.(*http.Transport).Clone(),
			// A redirected POST would become a GET: the address of the server is to be mended instead.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &transport{strings.TrimRight(address, "/"), key, o.timeout, client}, nil
}

// answer is a whole answer, whatever its status.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send makes one attempt. The error is *Unreachable, or the context's.
func (t *transport) send(ctx context.Context, method, path string, body []byte, header http.Header) (*answer, error) {
	bounded, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(bounded, method, t.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, &Unreachable{method, path, err}
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("User-Agent", userAgent)
	if request.Header.Get("Accept") == "" {
		request.Header.Set("Accept", "application/json")
	}
	if t.key != "" {
		request.Header.Set("Authorization", "Bearer "+t.key)
	}
	response, err := t.client.Do(request)
	if err == nil {
		defer response.Body.Close()
		var found []byte
		found, err = io.ReadAll(io.LimitReader(response.Body, answerBytesMax+1))
		if err == nil && len(found) > answerBytesMax {
			err = fmt.Errorf("the answer is larger than %d bytes", answerBytesMax)
		}
		if err == nil {
			return &answer{response.StatusCode, response.Header, found}, nil
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, &Unreachable{method, path, err}
}

// retryAfter is when to come again, as the server says (RFC 9110 section 10.2.3): seconds, or a date.
func (a *answer) retryAfter() time.Duration {
	text := strings.TrimSpace(a.header.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, retryAfterMax)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(time.Until(at), 0), retryAfterMax)
}

// decode reads the document into `into` (nil: it is not wanted). The error is *Problem, or errNotJSON.
func (a *answer) decode(into any) error {
	if a.status >= 300 {
		return problemOf(a)
	}
	if into == nil || len(a.body) == 0 {
		return nil
	}
	if json.Unmarshal(a.body, into) != nil {
		return fmt.Errorf("HTTP %d: %w", a.status, errNotJSON)
	}
	return nil
}

// delays are the waits before further attempts: doubling, anywhere in the upper half, never before the server says so.
type delays struct {
	least, most time.Duration
	failures    int
}

func (d *delays) next(retryAfter time.Duration) time.Duration {
	span := d.most
	if d.failures < 30 && d.least<<d.failures < d.most {
		span = d.least << d.failures
	}
	d.failures++
	return max(time.Duration(float64(span)*(0.5+rand.Float64()/2)), retryAfter)
}

func (d *delays) reset() { d.failures = 0 }

// pause waits; the error is the context's.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
