package tallystick

import (
	"os"
	"strings"
	"testing"
)

// The code in README.md is part of the examples, which are compiled.
func TestTheReadmeIsCompiled(t *testing.T) {
	squeezed := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		for n, line := range lines {
			lines[n] = strings.TrimSpace(line)
		}
		return strings.Join(lines, "\n")
	}
	examples := squeezed("example_test.go")
	blocks := strings.Split(squeezed("README.md"), "```go\n")[1:]
	if len(blocks) < 5 {
		t.Fatal("README.md has lost its examples")
	}
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "\n```")
		if !strings.Contains(examples, code) {
			t.Errorf("not in example_test.go:\n%s", code)
		}
	}
}
