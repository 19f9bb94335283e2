package tallystick

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Client sends events in the background, and asks at once. Safe for many goroutines; one for a process is enough.
type Client struct {
	options   options
	spool     *spool
	transport *transport
	sender    *sender

	// Meters, Customers and Limits are the resources by these names.
	Meters    Meters
	Customers Customers
	Limits    Limits

	starting sync.Mutex
	started  bool
	closed   bool
}

// Stats says how many events went which way since the client was made.
type Stats struct {
	Tracked, Accepted, Rejected int64
	Waiting                     int    // not yet with the server, those of earlier processes too
	Damaged                     int64  // cut off by a machine that went down before they were synced
	Failures                    int64  // attempts that failed
	LastFailure                 string // why the last of them did
}

// New makes a client. An empty address or key is taken from TALLYSTICK_URL and TALLYSTICK_KEY. What earlier processes left
// in the spool's directory is sent by itself. Close it at the end.
func New(address, key string, given ...Option) (*Client, error) {
	if address == "" {
		address = os.Getenv("TALLYSTICK_URL")
	}
	if key == "" {
		key = os.Getenv("TALLYSTICK_KEY")
	}
	if address == "" {
		return nil, errors.New("tallystick: no server: give an address, or set TALLYSTICK_URL")
	}
	o := defaults()
	for _, each := range given {
		each(&o)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	transport, err := newTransport(address, key, &o)
	if err != nil {
		return nil, err
	}
	spool, err := newSpool(&o)
	if err != nil {
		return nil, err
	}
	made := &Client{options: o, spool: spool, transport: transport}
	made.sender = newSender(made)
	made.Meters, made.Customers, made.Limits = Meters{made}, Customers{made}, Limits{made}
	if waiting, _ := spool.waiting(); waiting > 0 {
		made.start()
	}
	return made, nil
}

// start begins sending with the first event: who only asks has no goroutine.
func (c *Client) start() {
	c.starting.Lock()
	defer c.starting.Unlock()
	if !c.started && !c.closed {
		c.started = true
		c.sender.start()
	}
}

// Track takes one event and answers its id. It is sent in the background, under this id in every attempt, and is safe from
// the death of this process when there is a spool's directory.
//
// The error is *InvalidEvent, ErrClosed, or ErrSpoolFull: at once, or with the context's when it ended while waiting for room.
func (c *Client) Track(ctx context.Context, event Event) (string, error) {
	return c.track(ctx, event, c.options.full)
}

// A disk that others have filled has room again without a word from the server.
const roomPoll = 100 * time.Millisecond

func (c *Client) track(ctx context.Context, event Event, full FullPolicy) (string, error) {
	id, line, err := event.line(c.options.source)
	if err != nil {
		return "", err
	}
	for {
		changed := c.spool.changes()
		unsent, err := c.spool.append(line)
		if err == nil {
			c.start()
			if unsent >= int64(c.options.batchBytesMax) {
				c.sender.wake()
			}
			return id, nil
		}
		if !errors.Is(err, ErrSpoolFull) || full == FullError {
			return "", err
		}
		c.start()
		c.sender.wake()
		room := time.NewTimer(roomPoll)
		select {
		case <-changed:
		case <-room.C:
		case <-ctx.Done():
			room.Stop()
			return "", fmt.Errorf("%w: %w", ErrSpoolFull, context.Cause(ctx))
		}
		room.Stop()
	}
}

// Flush sends what waits; nil when the server has answered for all of it before the context ended.
func (c *Client) Flush(ctx context.Context) error {
	waiting, changed := c.spool.waiting()
	if waiting == 0 {
		return nil
	}
	c.start()
	c.sender.flushing.Add(1)
	defer c.sender.flushing.Add(-1)
	for {
		c.sender.wake()
		if waiting == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-c.sender.done:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("tallystick: %d events wait: %w", waiting, context.Cause(ctx))
		}
		waiting, changed = c.spool.waiting()
	}
}

// Sync has everything tracked so far on the disk, or with the server.
func (c *Client) Sync() error { return c.spool.sync() }

// Stats says where events are.
func (c *Client) Stats() Stats {
	waiting, _ := c.spool.waiting()
	found := c.sender.stats()
	found.Waiting = waiting
	c.spool.mu.Lock()
	found.Tracked, found.Damaged = c.spool.appended, c.spool.damaged
	c.spool.mu.Unlock()
	return found
}

// Close sends what waits, at most until the context ends, and lets go of everything. The error says that events were not
// answered for: with a spool's directory the next process sends them.
func (c *Client) Close(ctx context.Context) error {
	c.starting.Lock()
	if c.closed {
		c.starting.Unlock()
		return nil
	}
	c.starting.Unlock()
	err := c.Flush(ctx)
	c.starting.Lock()
	again := c.closed
	c.closed = true
	started := c.started
	c.starting.Unlock()
	if again {
		return err
	}
	if started {
		c.sender.stop()
	}
	err = errors.Join(err, c.spool.close())
	if c.options.client == nil {
		c.transport.client.CloseIdleConnections()
	}
	return err
}
