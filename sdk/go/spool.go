package tallystick

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// A spool is where events wait for the server: segments in order, bounded, shared with nobody while this process lives.
//
// Each process has a directory of its own in the spool's, with a lock that the system lets go when the process dies. Whoever
// finds a directory whose lock is free takes its segments over, so what a killed process left is sent by the next one.
type spool struct {
	directory    string // empty: in memory
	home         string
	bytesMax     int64
	segmentBytes int64
	syncAlways   bool
	lock         *os.File

	mu       sync.Mutex
	segments []*segment
	open     *segment
	made     int
	closed   bool
	changed  chan struct{} // closed, and made anew, when something was acknowledged
	appended int64
	damaged  int64

	syncMu sync.Mutex // held around a sync: a segment's file is not closed under it
}

const (
	lockName      = "owner"
	segmentSuffix = ".seg"
	homePrefix    = "go-"
)

func newSpool(o *options) (*spool, error) {
	made := &spool{
		directory: o.spool, bytesMax: o.spoolBytesMax, segmentBytes: o.segmentBytes,
		syncAlways: o.spool != "" && o.syncEvery <= 0, changed: make(chan struct{}),
	}
	if o.spool == "" {
		return made, nil
	}
	if err := os.MkdirAll(o.spool, 0o700); err != nil {
		return nil, fmt.Errorf("tallystick: the spool cannot be made: %w", err)
	}
	if err := made.own(); err != nil {
		return nil, fmt.Errorf("tallystick: the spool cannot be made: %w", err)
	}
	made.adopt()
	return made, nil
}

// own makes this process's directory, locked before anybody can find it.
func (s *spool) own() error {
	name := fmt.Sprintf("%s%d-%s", homePrefix, os.Getpid(), NewID())
	s.home = filepath.Join(s.directory, name)
	passing := filepath.Join(s.directory, "."+name)
	if runtime.GOOS == "windows" {
		passing = s.home // there the lock comes with the file, and a directory that holds it cannot be renamed
	}
	if err := os.Mkdir(passing, 0o700); err != nil {
		return err
	}
	var err error
	if s.lock, err = lockFile(filepath.Join(passing, lockName), true); err != nil || passing == s.home {
		return err
	}
	return os.Rename(passing, s.home)
}

// append keeps one event; how much of its segment is unsent. When this returns, the death of the process cannot take the
// event (with a directory). The error is ErrSpoolFull, ErrClosed, or the disk's.
func (s *spool) append(line []byte) (int64, error) {
	kept := record(line)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	if s.open == nil || s.open.written+int64(len(kept)) > s.segmentBytes {
		if err := s.next(int64(len(kept))); err != nil {
			return 0, err
		}
	}
	if err := s.open.append(kept); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrSpoolFull, err)
	}
	if s.syncAlways {
		if err := s.open.file.Sync(); err != nil {
			return 0, fmt.Errorf("tallystick: the event is in the spool, but was not synced: %w", err)
		}
	}
	s.appended++
	return s.open.written - s.open.sent, nil
}

func (s *spool) next(size int64) error {
	s.dropSent(true)
	var held int64
	for _, each := range s.segments {
		held += max(each.written, s.segmentBytes)
	}
	if len(s.segments) > 0 && held+max(size, s.segmentBytes) > s.bytesMax {
		return ErrSpoolFull
	}
	path := ""
	if s.home != "" {
		path = filepath.Join(s.home, fmt.Sprintf("%08d%s", s.made, segmentSuffix))
	}
	made, err := newSegment(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSpoolFull, err)
	}
	s.made++
	s.segments = append(s.segments, made)
	s.open = made
	return nil
}

// batch is the oldest events, as NDJSON; nil: there are none.
type batch struct {
	segment *segment
	body    []byte
	size    int64
	lines   int
}

func (s *spool) batch(eventsMax, bytesMax int) (*batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	for _, each := range s.segments {
		if each.lines > 0 {
			body, size, lines, err := each.batch(eventsMax, bytesMax)
			return &batch{each, body, size, lines}, err
		}
	}
	return nil, nil
}

// acknowledge notes that the server has a batch, or will never take it.
func (s *spool) acknowledge(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return // an answer that came after the end: the next process sends these again
	}
	b.segment.acknowledge(b.size, b.lines)
	s.dropSent(false)
	close(s.changed)
	s.changed = make(chan struct{})
}

// dropSent removes segments that the server has; the open one too when it is half full, or has to make room.
func (s *spool) dropSent(openToo bool) {
	kept := s.segments[:0]
	for _, each := range s.segments {
		stays := each.lines > 0 || (each == s.open && !openToo && each.written < s.segmentBytes/2)
		if stays {
			kept = append(kept, each)
			continue
		}
		if each == s.open {
			s.open = nil
		}
		s.syncMu.Lock()
		each.remove()
		s.syncMu.Unlock()
	}
	clear(s.segments[len(kept):])
	s.segments = kept
}

// waiting is how many events are not yet with the server, and a channel that is closed when there may be fewer.
func (s *spool) waiting() (int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := 0
	for _, each := range s.segments {
		found += each.lines
	}
	return found, s.changed
}

// changes is a channel that is closed when something is acknowledged, or the spool is closed.
func (s *spool) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// sync has everything on the disk that is not with the server.
func (s *spool) sync() error {
	s.mu.Lock()
	type unsynced struct {
		segment *segment
		file    *os.File
		written int64
	}
	var found []unsynced
	for _, each := range s.segments {
		if each.file != nil && each.lines > 0 && each.synced < each.written {
			found = append(found, unsynced{each, each.file, each.written})
		}
	}
	s.mu.Unlock()
	var failed []error
	for _, each := range found {
		s.syncMu.Lock()
		err := each.file.Sync()
		s.syncMu.Unlock()
		if errors.Is(err, os.ErrClosed) {
			continue // sent and removed meanwhile
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		s.mu.Lock()
		each.segment.synced = max(each.segment.synced, each.written)
		s.mu.Unlock()
	}
	return errors.Join(failed...)
}

// adopt takes over what dead processes left.
func (s *spool) adopt() {
	others, err := os.ReadDir(s.directory)
	if err != nil {
		return
	}
	for _, other := range others {
		path := filepath.Join(s.directory, other.Name())
		if !other.IsDir() || path == s.home || !strings.HasPrefix(other.Name(), homePrefix) {
			continue
		}
		lock, err := lockFile(filepath.Join(path, lockName), false)
		if err != nil {
			continue // it lives
		}
		found, _ := filepath.Glob(filepath.Join(path, "*"+segmentSuffix))
		for _, each := range found {
			s.adoptSegment(each)
		}
		lock.Close()
		// What nobody knows stays, and so does its directory.
		os.Remove(filepath.Join(path, lockName))
		os.Remove(path)
	}
}

func (s *spool) adoptSegment(path string) {
	s.mu.Lock()
	number := s.made
	s.made++
	s.mu.Unlock()
	here := filepath.Join(s.home, fmt.Sprintf("%08d%s", number, segmentSuffix))
	if os.Rename(path, here) != nil {
		return
	}
	found, damaged, err := leftSegment(here)
	if err != nil {
		os.Rename(here, here+".damaged")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged += int64(damaged)
	if found == nil {
		return
	}
	if s.closed {
		found.close()
		return
	}
	s.segments = append(s.segments, found)
}

// close lets go of everything. What is unsent stays on the disk for the next process.
func (s *spool) close() error {
	err := s.sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.dropSent(true)
	s.syncMu.Lock()
	for _, each := range s.segments {
		each.close()
	}
	s.syncMu.Unlock()
	empty := len(s.segments) == 0
	s.segments, s.open = nil, nil
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
		if empty {
			os.Remove(filepath.Join(s.home, lockName))
			os.Remove(s.home)
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return err
}
