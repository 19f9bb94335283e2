package tallystick_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	tallystick "github.com/tallystick/tallystick/sdk/go"
	"github.com/tallystick/tallystick/sdk/go/llm"
)

func Example() {
	ctx := context.Background()
	client, err := tallystick.New("https://meter.example.com", "tk_…", tallystick.WithSpool("/var/lib/app/usage"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close(ctx)

	// In batches, in the background. An id is made where there is none, and kept through every retry: counted once.
	_, err = client.Track(ctx, tallystick.Event{
		Type: "llm.completion", Subject: "acme", Data: map[string]any{"tokens": 812, "model": "gpt-5"},
	})
	if err != nil {
		log.Print(err)
	}

	usage, err := client.Usage(ctx, "tokens", tallystick.UsageQuery{Window: "day", GroupBy: []string{"model"}})
	if err != nil {
		log.Fatal(err)
	}
	for _, row := range usage.Rows {
		fmt.Println(row.WindowStart, *row.Group["model"], *row.Value) // "812", exactly
	}
}

func ExampleClient_Reserve() {
	ctx := context.Background()
	client, err := tallystick.New("", "") // TALLYSTICK_URL and TALLYSTICK_KEY
	if err != nil {
		log.Fatal(err)
	}
	held, err := client.Reserve(ctx, "acme", "tokens", "1000", time.Minute)
	var problem *tallystick.Problem
	if errors.As(err, &problem) && problem.Code == "limit_exceeded" {
		fmt.Println("acme has used it up")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	if err := held.Settle(ctx, "812", nil); err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_Middleware() {
	client, err := tallystick.New("", "")
	if err != nil {
		log.Fatal(err)
	}
	counted := client.Middleware(tallystick.Counting{
		Subject: func(r *http.Request) string { return r.Header.Get("X-Customer") },
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", counted(http.DefaultServeMux)))
}

func Example_languageModels() {
	ctx := context.Background()
	client, err := tallystick.New("", "")
	if err != nil {
		log.Fatal(err)
	}
	var pieces []any // what the vendor's client gives, piece by piece
	stream := llm.NewStream(client, llm.About{Subject: "acme"})
	for _, piece := range pieces {
		if err := stream.Add(piece); err != nil {
			log.Print(err)
		}
	}
	if _, err := stream.Close(ctx); err != nil {
		log.Print(err)
	}
}
