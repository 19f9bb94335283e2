// Package llm reads what language models answer of tokens, and tracks it: OpenAI (chat completions and responses), Anthropic
// and Amazon Bedrock (Converse), whole or streamed. Nothing of the vendors is imported: an answer is anything that encodes
// to the vendor's JSON.
//
// The three count differently: OpenAI's prompt_tokens include cached ones, Anthropic's and Bedrock's do not. Here InputTokens
// are all that were read.
package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	tallystick "github.com/tallystick/tallystick/sdk/go"
)

// EventType is the type of the events, unless it is set otherwise.
const EventType = "llm.completion"

// Tokens are the usage of one answer, and what it was of. Its encoding is the event's data.
type Tokens struct {
	Provider          string `json:"provider"`
	Model             string `json:"model"`
	InputTokens       int64  `json:"input_tokens"`        // all that were read
	CachedInputTokens int64  `json:"cached_input_tokens"` // of them: from the cache
	CacheWriteTokens  int64  `json:"cache_write_tokens"`  // of them: written into it
	OutputTokens      int64  `json:"output_tokens"`       // all that were written
	ReasoningTokens   int64  `json:"reasoning_tokens"`    // of them: not shown
	TotalTokens       int64  `json:"total_tokens"`

	// ResponseID is the answer's own id, and the event's: an answer tracked twice counts once.
	ResponseID string `json:"-"`
	// Found says whether there was any usage: an OpenAI stream has it only with stream_options.include_usage.
	Found bool `json:"-"`
}

// usage has the members of all vendors. Names are matched whatever their case, as those of the AWS SDK's structs need.
type usage struct {
	// OpenAI chat completions
	PromptTokens        *int64   `json:"prompt_tokens"`
	CompletionTokens    int64    `json:"completion_tokens"`
	PromptDetails       *details `json:"prompt_tokens_details"`
	CompletionDetails   *details `json:"completion_tokens_details"`
	InputTokensDetails  *details `json:"input_tokens_details"`  // OpenAI responses
	OutputTokensDetails *details `json:"output_tokens_details"` // of both
	// OpenAI responses, and Anthropic
	InputTokens              *int64 `json:"input_tokens"`
	OutputTokens             int64  `json:"output_tokens"`
	CacheReadInputTokens     *int64 `json:"cache_read_input_tokens"`
	CacheCreationInputTokens *int64 `json:"cache_creation_input_tokens"`
	// Bedrock
	BedrockInput      *int64 `json:"inputTokens"`
	BedrockOutput     *int64 `json:"outputTokens"`
	BedrockCacheRead  *int64 `json:"cacheReadInputTokens"`
	BedrockCacheWrite *int64 `json:"cacheWriteInputTokens"`
}

type details struct {
	CachedTokens     int64 `json:"cached_tokens"`
	CacheWriteTokens int64 `json:"cache_write_tokens"`
	ReasoningTokens  int64 `json:"reasoning_tokens"`
	ThinkingTokens   int64 `json:"thinking_tokens"` // Anthropic
}

type piece struct {
	ID    string `json:"id"`
	Model string `json:"model"`
	Usage *usage `json:"usage"`
	// Response is of OpenAI's streamed responses, Message of Anthropic's message_start.
	Response *piece `json:"response"`
	Message  *piece `json:"message"`
	// Metadata is of Bedrock's ConverseStream, Value the same in the AWS SDK's type.
	Metadata         *piece `json:"metadata"`
	Value            *piece `json:"value"`
	ResponseMetadata struct {
		RequestID string `json:"RequestId"`
	}
}

// Add reads an answer, or one piece of a stream. Bytes and a json.RawMessage are read as JSON; so is what a RawJSON method
// answers, as the vendors' types have it; all else is encoded.
func (t *Tokens) Add(answer any) error {
	var text []byte
	switch given := answer.(type) {
	case []byte:
		text = given
	case json.RawMessage:
		text = given
	case interface{ RawJSON() string }:
		text = []byte(given.RawJSON())
	default:
		var err error
		if text, err = json.Marshal(answer); err != nil {
			return fmt.Errorf("llm: the answer is no JSON: %w", err)
		}
	}
	var read piece
	// A member of another type than the vendors' is none of theirs: what could be read stands.
	var other *json.UnmarshalTypeError
	if err := json.Unmarshal(text, &read); err != nil && !errors.As(err, &other) {
		return fmt.Errorf("llm: the answer is no JSON: %w", err)
	}
	for _, each := range []*piece{&read, read.Response, read.Message, read.Metadata, read.Value} {
		if each == nil {
			continue
		}
		if each.Model != "" {
			t.Model = each.Model
		}
		if each.ID != "" {
			t.ResponseID = each.ID
		} else if each.ResponseMetadata.RequestID != "" {
			t.ResponseID = each.ResponseMetadata.RequestID
		}
		if each.Usage != nil {
			t.read(each.Usage)
		}
	}
	return nil
}

func (t *Tokens) read(u *usage) {
	switch {
	case u.BedrockInput != nil || u.BedrockOutput != nil:
		t.Provider = "bedrock"
		t.input(u.BedrockInput, u.BedrockCacheRead, u.BedrockCacheWrite)
		t.OutputTokens = value(u.BedrockOutput)
	case u.PromptTokens != nil:
		t.openai(*u.PromptTokens, u.CompletionTokens, u.PromptDetails, u.CompletionDetails)
	case u.InputTokensDetails != nil: // not OutputTokensDetails: Anthropic's answers have those too
		t.openai(value(u.InputTokens), u.OutputTokens, u.InputTokensDetails, u.OutputTokensDetails)
	default:
		t.Provider = "anthropic"
		t.input(u.InputTokens, u.CacheReadInputTokens, u.CacheCreationInputTokens)
		// message_start and each message_delta carry the count so far, not a difference.
		t.OutputTokens = max(t.OutputTokens, u.OutputTokens)
		if u.OutputTokensDetails != nil {
			t.ReasoningTokens = max(t.ReasoningTokens, u.OutputTokensDetails.ThinkingTokens)
		}
	}
	t.Found = true
	t.TotalTokens = t.InputTokens + t.OutputTokens
}

// input reads tokens that are counted beside those of the cache. A later piece of a stream may repeat some of the three.
func (t *Tokens) input(fresh, cached, written *int64) {
	beside := t.InputTokens - t.CachedInputTokens - t.CacheWriteTokens
	if fresh != nil {
		beside = *fresh
	}
	if cached != nil {
		t.CachedInputTokens = *cached
	}
	if written != nil {
		t.CacheWriteTokens = *written
	}
	t.InputTokens = beside + t.CachedInputTokens + t.CacheWriteTokens
}

func (t *Tokens) openai(input, output int64, of, written *details) {
	t.Provider, t.InputTokens, t.OutputTokens = "openai", input, output
	if of != nil {
		t.CachedInputTokens, t.CacheWriteTokens = of.CachedTokens, of.CacheWriteTokens
	}
	if written != nil {
		t.ReasoningTokens = written.ReasoningTokens
	}
}

func value(number *int64) int64 {
	if number == nil {
		return 0
	}
	return *number
}

// Read reads a whole answer.
func Read(answer any) (Tokens, error) {
	var found Tokens
	err := found.Add(answer)
	return found, err
}

// Tracker is a *tallystick.Client.
type Tracker interface {
	Track(context.Context, tallystick.Event) (string, error)
}

// About is what an event says beside the tokens. Subject is required.
type About struct {
	Subject string
	Model   string         // for Bedrock, whose answers do not name it
	Type    string         // of the event; default EventType
	Data    map[string]any // added to the event's data
}

// Track tracks the tokens of a whole answer. The id is empty when it has no usage.
func Track(ctx context.Context, client Tracker, about About, answer any) (string, error) {
	stream := NewStream(client, about)
	if err := stream.Add(answer); err != nil {
		return "", err
	}
	return stream.Close(ctx)
}

// Stream collects the pieces of one streamed answer. Not safe for several goroutines.
type Stream struct {
	Tokens Tokens
	client Tracker
	about  About
	closed bool
}

// NewStream begins one.
func NewStream(client Tracker, about About) *Stream {
	return &Stream{Tokens: Tokens{Model: about.Model}, client: client, about: about}
}

// Add reads a piece; see Tokens.Add.
func (s *Stream) Add(piece any) error { return s.Tokens.Add(piece) }

// Close tracks what was collected, also where the stream was left early. The id is empty when there was no usage, and when
// it was closed before.
func (s *Stream) Close(ctx context.Context) (string, error) {
	if s.closed || !s.Tokens.Found {
		return "", nil
	}
	s.closed = true
	text, err := json.Marshal(s.Tokens)
	if err != nil {
		return "", err
	}
	data := map[string]any{}
	if err := json.Unmarshal(text, &data); err != nil {
		return "", err
	}
	for name, each := range s.about.Data {
		data[name] = each
	}
	event := tallystick.Event{Type: s.about.Type, Subject: s.about.Subject, Data: data}
	if event.Type == "" {
		event.Type = EventType
	}
	if s.Tokens.ResponseID != "" {
		event.ID, event.Source = s.Tokens.ResponseID, "llm/"+s.Tokens.Provider
	}
	return s.client.Track(ctx, event)
}
