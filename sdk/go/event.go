package tallystick

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	eventBytesMax     = 1 << 20
	nameCharactersMax = 256
	timeFormat        = "2006-01-02T15:04:05.000000Z"
)

// Event is one use of something. Type and Subject are required.
type Event struct {
	// ID is made where it is empty, and kept through every attempt. Give your own where the same event may be tracked
	// twice, by another process too: identity is (Source, ID), for ever.
	ID string
	// Source defaults to that of WithSource, and "/".
	Source string
	// Type is what was used, such as "api.request".
	Type string
	// Subject is who used it: a customer's key, or one of its subjects.
	Subject string
	// Time defaults to the moment it is tracked.
	Time time.Time
	// Data is whatever encodes to a JSON object: a map, a struct, a json.RawMessage; nil for none. Give exact quantities as
	// Decimal, json.Number, integers or text: the server reads a number's digits, never a binary float.
	Data any
}

// Decimal is an exact decimal number as text, such as "0.1". It encodes to a JSON string.
type Decimal string

// NewID makes a UUID of version 7 (RFC 9562): random, and in the order of time, which is kinder to an index.
func NewID() string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		panic("tallystick: the system has no random numbers: " + err.Error())
	}
	var millisecond [8]byte
	binary.BigEndian.PutUint64(millisecond[:], uint64(time.Now().UnixMilli()))
	copy(id[:6], millisecond[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[:8], id[:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// wire is an event as the contract has it.
type wire struct {
	ID      string          `json:"id"`
	Source  string          `json:"source"`
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Time    string          `json:"time"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// whole gives an event its id, source and time, and checks it.
func (e Event) whole(source string) (wire, error) {
	var empty []string
	for _, each := range []struct{ name, value string }{{"Type", e.Type}, {"Subject", e.Subject}} {
		if each.value == "" {
			empty = append(empty, each.name)
		}
	}
	if len(empty) > 0 {
		return wire{}, &InvalidEvent{Reason: strings.Join(empty, " and ") + " must not be empty"}
	}
	if utf8.RuneCountInString(e.Subject) > nameCharactersMax {
		return wire{}, &InvalidEvent{Reason: fmt.Sprintf("Subject is longer than %d characters", nameCharactersMax)}
	}
	made := wire{ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject}
	if made.ID == "" {
		made.ID = NewID()
	}
	if made.Source == "" {
		made.Source = source
	}
	when := e.Time
	if when.IsZero() {
		when = time.Now()
	}
	made.Time = when.UTC().Format(timeFormat)
	if e.Data != nil {
		data, err := json.Marshal(e.Data)
		if err != nil {
			return wire{}, &InvalidEvent{Reason: "Data is no JSON: " + err.Error(), Err: err}
		}
		switch {
		case bytes.Equal(data, []byte("null")):
		case data[0] != '{':
			return wire{}, &InvalidEvent{Reason: "Data must encode to a JSON object"}
		default:
			made.Data = data
		}
	}
	return made, nil
}

// line is the event as one line of JSON, made once: every attempt to send it sends these bytes.
func (e Event) line(source string) (id string, line []byte, err error) {
	made, err := e.whole(source)
	if err != nil {
		return "", nil, err
	}
	line, err = json.Marshal(made)
	if err != nil {
		return "", nil, &InvalidEvent{Reason: err.Error(), Err: err}
	}
	if len(line) > eventBytesMax {
		return "", nil, &InvalidEvent{Reason: fmt.Sprintf("the event has %d bytes; at most %d may be", len(line), eventBytesMax)}
	}
	return made.ID, append(line, '\n'), nil
}
