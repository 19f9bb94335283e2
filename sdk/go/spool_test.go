package tallystick

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// written makes a segment of lines as a dead process leaves it.
func written(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "00000000.seg")
	made, err := newSegment(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if err := made.append(record([]byte(line + "\n"))); err != nil {
			t.Fatal(err)
		}
	}
	made.close()
	return path
}

func changed(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedSegments(t *testing.T) {
	for name, each := range map[string]struct {
		change  func([]byte) []byte
		left    string
		damaged int
	}{
		"whole":               {func(c []byte) []byte { return c }, "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n", 0},
		"torn at the end":     {func(c []byte) []byte { return c[:len(c)-3] }, "{\"a\":1}\n{\"b\":2}\n", 1},
		"zeros at the end":    {func(c []byte) []byte { return append(c, make([]byte, 4096)...) }, "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n", 0},
		"a bit in the middle": {func(c []byte) []byte { return bytes.Replace(c, []byte(`"b":2`), []byte(`"b":3`), 1) }, "{\"a\":1}\n{\"c\":3}\n", 1},
		"a mark of nonsense":  {func(c []byte) []byte { copy(c[markAt:], "99999999999999999999"); return c }, "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n", 0},
		"nothing but zeros":   {func(c []byte) []byte { return make([]byte, len(c)) }, "", 0},
		"empty":               {func(c []byte) []byte { return nil }, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, `{"a":1}`, `{"b":2}`, `{"c":3}`)
			changed(t, path, each.change)
			found, damaged, err := leftSegment(path)
			if err != nil || damaged != each.damaged {
				t.Fatal(err, damaged)
			}
			body := ""
			if found != nil {
				defer found.close()
				text, size, lines, err := found.batch(100, 1<<20)
				if err != nil || lines != found.lines || size != found.written-found.sent {
					t.Fatal(err, lines, size)
				}
				body = string(text)
			}
			if body != each.left {
				t.Fatalf("%q", body)
			}
		})
	}
	if _, _, err := leftSegment(filepath.Join("testdata", "absent")); err == nil {
		t.Fatal("an absent file")
	}
}

func TestWhatIsAcknowledgedIsNotReadAgain(t *testing.T) {
	path := written(t, `{"a":1}`, `{"b":2}`)
	first, _, err := leftSegment(path)
	if err != nil {
		t.Fatal(err)
	}
	_, size, lines, _ := first.batch(1, 1<<20)
	first.acknowledge(size, lines)
	first.close()
	second, damaged, err := leftSegment(path)
	if err != nil || damaged != 0 {
		t.Fatal(err, damaged)
	}
	defer second.close()
	if body, _, _, _ := second.batch(100, 1<<20); string(body) != "{\"b\":2}\n" {
		t.Fatalf("%q", body)
	}
}

func TestBatchesAreBoundedByBytes(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "x.seg")} {
		made, err := newSegment(path)
		if err != nil {
			t.Fatal(err)
		}
		long := `{"x":"` + string(bytes.Repeat([]byte("y"), 5000)) + `"}`
		for _, line := range []string{`{"a":1}`, `{"b":2}`, long, `{"c":3}`} {
			if err := made.append(record([]byte(line + "\n"))); err != nil {
				t.Fatal(err)
			}
		}
		var found []int
		for made.lines > 0 {
			body, size, lines, err := made.batch(100, 20)
			if err != nil || lines != bytes.Count(body, []byte("\n")) {
				t.Fatal(err, lines)
			}
			made.acknowledge(size, lines)
			found = append(found, lines)
		}
		if len(found) != 3 || found[0] != 2 || made.sent != made.written {
			t.Fatal(found)
		}
		made.remove()
	}
}
