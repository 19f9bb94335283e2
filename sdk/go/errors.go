package tallystick

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrSpoolFull says that events wait for the server, and there is no room for another.
	ErrSpoolFull = errors.New("tallystick: events wait for the server, and there is no room for another")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("tallystick: the client is closed")
)

// InvalidEvent is an event that cannot be sent: a required part is missing, or its data is no JSON object.
type InvalidEvent struct {
	Reason string
	Err    error // what was wrong with the data; may be nil
}

func (e *InvalidEvent) Error() string { return "tallystick: invalid event: " + e.Reason }
func (e *InvalidEvent) Unwrap() error { return e.Err }

// Unreachable says that no answer came. Whether the request was carried out is not known; repeating it is safe.
type Unreachable struct {
	Method, Path string
	Err          error
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("tallystick: %s %s: %v", e.Method, e.Path, e.Err)
}
func (e *Unreachable) Unwrap() error { return e.Err }

// Fault is one fault of a refused request.
type Fault struct {
	Pointer string `json:"pointer"` // JSON pointer into the body, or the parameter's name
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

// Problem is the server's refusal: an RFC 9457 document.
type Problem struct {
	Status     int
	Code       string // stable; docs/reference/errors.md lists them
	Title      string
	Detail     string
	Faults     []Fault
	RequestID  string
	RetryAfter time.Duration   // 0: the server names none
	Document   json.RawMessage // all of it; nil when the answer was no JSON
}

func (p *Problem) Error() string {
	return fmt.Sprintf("tallystick: HTTP %d %s: %s", p.Status, p.Code, p.Detail)
}

// problemOf reads a refusal, whoever wrote it: a proxy in between may answer with a page.
func problemOf(a *answer) *Problem {
	var document struct {
		Code, Title, Detail string
		Errors              []Fault
	}
	found := &Problem{Status: a.status, RequestID: a.header.Get("X-Request-Id"), RetryAfter: a.retryAfter()}
	if json.Unmarshal(a.body, &document) == nil {
		found.Document = a.body
	}
	found.Code, found.Title, found.Detail, found.Faults = document.Code, document.Title, document.Detail, document.Errors
	if found.Code == "" {
		found.Code = fmt.Sprintf("http_%d", a.status)
	}
	if found.Title == "" {
		found.Title = fmt.Sprintf("HTTP %d", a.status)
	}
	if found.Detail == "" {
		found.Detail = found.Title
	}
	return found
}
