package tallystick

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
)

// A segment is one file of the spool: 64 bytes of header (a magic word, and how far the server has acknowledged), then a line
// for each event, `crc32c SP json LF`. The mark in the header may be older than the truth, never newer; what is sent twice
// because of it counts once. A segment without a path lives in memory.
//
// What was written is the kernel's, so the death of the process cannot take it; that of the machine can take what was not
// synced, and a line it has torn is found by its checksum.

const (
	segmentMagic  = "tallystick-go-spool-1\n"
	segmentHeader = 64
	markAt        = 32
	checkBytes    = 9 // of a line, before the event
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errNoSegment = errors.New("no file of a spool")

type segment struct {
	path    string
	file    *os.File
	memory  []byte
	written int64 // where the next line goes
	sent    int64 // how far the server has acknowledged
	synced  int64
	lines   int // not acknowledged
}

// record is an event's line as a segment keeps it.
func record(line []byte) []byte {
	made := make([]byte, 0, checkBytes+len(line))
	made = fmt.Appendf(made, "%08x ", crc32.Checksum(line[:len(line)-1], castagnoli))
	return append(made, line...)
}

func header(sent int64) []byte {
	made := make([]byte, segmentHeader)
	copy(made, segmentMagic)
	copy(made[markAt:], fmt.Sprintf("%020d", sent))
	made[segmentHeader-1] = '\n'
	return made
}

func newSegment(path string) (*segment, error) {
	made := &segment{path: path, written: segmentHeader, sent: segmentHeader, synced: segmentHeader}
	if path == "" {
		made.memory = header(segmentHeader)
		return made, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = file.WriteAt(header(segmentHeader), 0); err != nil {
		file.Close()
		os.Remove(path)
		return nil, err
	}
	made.file = file
	return made, nil
}

// leftSegment reads one that another process has left. Lines that are damaged are taken out of the file; how many, is
// answered.
func leftSegment(path string) (*segment, int, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	if len(bytes.Trim(content, "\x00")) == 0 {
		return nil, 0, os.Remove(path) // made, and then the end came
	}
	if len(content) < segmentHeader || !bytes.HasPrefix(content, []byte(segmentMagic)) {
		return nil, 0, errNoSegment
	}
	sent, err := strconv.ParseInt(string(content[markAt:markAt+20]), 10, 64)
	if err != nil || sent < segmentHeader || sent > int64(len(content)) || content[sent-1] != '\n' {
		sent = segmentHeader // from the front again: nothing is lost by it
	}
	rest := bytes.TrimRight(content[sent:], "\x00")
	var whole []byte
	lines, damaged := 0, 0
	for len(rest) > 0 {
		var line []byte
		if end := bytes.IndexByte(rest, '\n'); end >= 0 {
			line, rest = rest[:end+1], rest[end+1:]
		} else {
			line, rest = rest, nil
		}
		if isWhole(line) {
			whole, lines = append(whole, line...), lines+1
		} else {
			damaged++
		}
	}
	if lines == 0 {
		return nil, damaged, os.Remove(path)
	}
	if damaged > 0 {
		// The same file with whole lines alone, put in its place in one step.
		if err = replaceFile(path, append(header(segmentHeader), whole...)); err != nil {
			return nil, 0, err
		}
		sent = segmentHeader
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, 0, err
	}
	return &segment{path: path, file: file, written: sent + int64(len(whole)), sent: sent, synced: segmentHeader, lines: lines}, damaged, nil
}

func replaceFile(path string, content []byte) error {
	passing := path + ".passing"
	file, err := os.OpenFile(passing, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(passing, path)
	}
	return err
}

func isWhole(line []byte) bool {
	if len(line) < checkBytes+3 || line[len(line)-1] != '\n' || line[checkBytes-1] != ' ' {
		return false
	}
	check, err := strconv.ParseUint(string(line[:checkBytes-1]), 16, 32)
	return err == nil && uint32(check) == crc32.Checksum(line[checkBytes:len(line)-1], castagnoli)
}

func (s *segment) append(record []byte) error {
	if s.file == nil {
		s.memory = append(s.memory, record...)
	} else if _, err := s.file.WriteAt(record, s.written); err != nil {
		// Part of it may be there: the next line goes over it, and until then its checksum is wrong.
		return errors.Join(err, s.file.Truncate(s.written))
	}
	s.written += int64(len(record))
	s.lines++
	return nil
}

// batch is the next events as NDJSON, at least one however long, and how much of the segment they are.
func (s *segment) batch(eventsMax, bytesMax int) (body []byte, size int64, lines int, err error) {
	left := s.written - s.sent
	for want := int64(bytesMax) + 64; ; want *= 2 {
		piece := make([]byte, min(want, left))
		if s.file == nil {
			copy(piece, s.memory[s.sent:])
		} else if _, err = s.file.ReadAt(piece, s.sent); err != nil {
			return nil, 0, 0, err
		}
		for lines < eventsMax {
			end := bytes.IndexByte(piece[size:], '\n')
			if end < checkBytes || (lines > 0 && len(body)+end+1-checkBytes > bytesMax) {
				break
			}
			body = append(body, piece[size+checkBytes:size+int64(end)+1]...)
			size += int64(end) + 1
			lines++
		}
		if lines > 0 {
			return body, size, lines, nil
		}
		if want >= left {
			return nil, 0, 0, errNoSegment // somebody else has written into it
		}
	}
}

// acknowledge notes that the first bytes that were not, so many lines, are with the server.
func (s *segment) acknowledge(size int64, lines int) {
	s.sent += size
	s.lines -= lines
	if s.file != nil {
		// A mark that cannot be written is an old mark, which costs a repetition and nothing else.
		_, _ = s.file.WriteAt(fmt.Appendf(nil, "%020d", s.sent), markAt)
	}
}

func (s *segment) close() {
	if s.file != nil {
		s.file.Close()
	}
}

func (s *segment) remove() {
	s.close()
	if s.file != nil {
		os.Remove(s.path)
	}
}
