package llm

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	tallystick "github.com/tallystick/tallystick/sdk/go"
)

type kept struct{ events []tallystick.Event }

func (k *kept) Track(_ context.Context, event tallystick.Event) (string, error) {
	k.events = append(k.events, event)
	return "id", nil
}

// The same table that the conformance suite puts to every SDK.
func TestAnswersOfTheVendors(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "tests", "sdk", "conformance", "llm.json"))
	if os.IsNotExist(err) {
		t.Skip("outside of the repository")
	}
	var cases []struct {
		Name, Model string
		Pieces      []json.RawMessage
		Data        map[string]any
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, each := range cases {
		t.Run(each.Name, func(t *testing.T) {
			k := &kept{}
			stream := NewStream(k, About{Subject: "acme", Model: each.Model})
			for _, piece := range each.Pieces {
				if err := stream.Add(piece); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if _, err := stream.Close(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			if each.Data == nil {
				if len(k.events) != 0 {
					t.Fatal(k.events)
				}
				return
			}
			if len(k.events) != 1 || !reflect.DeepEqual(k.events[0].Data, each.Data) {
				t.Fatalf("%+v", k.events)
			}
		})
	}
}

// The AWS SDK's types have no JSON names, and wrap what a stream gives.
func TestTypesOfTheAWSSDK(t *testing.T) {
	input, output, cached := int32(40), int32(7), int32(50)
	type tokenUsage struct{ InputTokens, OutputTokens, CacheReadInputTokens *int32 }
	type event struct{ Usage *tokenUsage }
	type member struct{ Value event }
	found, err := Read(member{event{&tokenUsage{&input, &output, &cached}}})
	if err != nil || found.Provider != "bedrock" || found.InputTokens != 90 || found.CachedInputTokens != 50 || found.TotalTokens != 97 {
		t.Fatal(err, found)
	}
}

type vendors struct{ text string }

func (v vendors) RawJSON() string { return v.text }

func TestTypesThatKeepTheirJSON(t *testing.T) {
	found, err := Read(vendors{`{"id":"msg_1","model":"claude","usage":{"input_tokens":3,"output_tokens":4}}`})
	if err != nil || found.Provider != "anthropic" || found.TotalTokens != 7 || found.ResponseID != "msg_1" {
		t.Fatal(err, found)
	}
	if _, err := Read([]byte("<html>")); err == nil {
		t.Fatal("no JSON")
	}
	if found, err := Read(map[string]any{"id": 7, "metadata": map[string]string{"user": "x"}}); err != nil || found.Found {
		t.Fatal(err, found)
	}
}
