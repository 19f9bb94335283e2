// Package tallystick sends usage events to a Tallystick server, each counted once, and asks what they add up to. It needs
// the standard library alone.
//
//	client, err := tallystick.New("https://meter.example.com", "tk_…", tallystick.WithSpool("/var/lib/app/usage"))
//	id, err := client.Track(ctx, tallystick.Event{
//		Type: "llm.completion", Subject: "acme", Data: map[string]any{"tokens": 812},
//	})
//
// [Client.Track] makes the event's id and time, writes the event into the spool, and returns. A goroutine sends batches, and
// repeats what was not answered with the same bytes, and so under the same ids. With a directory as spool neither a dead
// server nor a killed process loses an event: the next process that opens the directory sends what is there.
//
// What can go wrong, for errors.Is and errors.As:
//
//	*InvalidEvent   an event that no server would take; told at the caller
//	ErrSpoolFull    there is no room for another event
//	ErrClosed       the client was closed
//	*Unreachable    no answer came: no connection, cut off, or too late
//	*Problem        the server refused; its Code is stable
package tallystick
