package tallystick

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOneEventOfEachRequest(t *testing.T) {
	s := newSink(t)
	client := s.client(t)
	counting := Counting{
		Subject: func(r *http.Request) string { return r.Header.Get("X-Customer") },
		Data:    func(r *http.Request) map[string]any { return map[string]any{"route": "any"} },
	}
	handler := client.Middleware(counting)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("tea"))
		w.(http.Flusher).Flush()
		_, _ = io.Copy(w, strings.NewReader("more"))
	}))
	server := httptest.NewServer(handler)
	defer server.Close()
	for _, path := range []string{"/a?secret=1", "/panic", "/nobody"} {
		request, _ := http.NewRequest(http.MethodPost, server.URL+path, nil)
		if path != "/nobody" {
			request.Header.Set("X-Customer", "acme")
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
		}
	}
	if err := client.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	found := map[string]map[string]any{}
	for _, text := range s.events {
		var event struct {
			Type, Subject string
			Data          map[string]any
		}
		if json.Unmarshal(text, &event) != nil || event.Type != "http.request" || event.Subject != "acme" {
			t.Fatal(string(text))
		}
		found[event.Data["path"].(string)] = event.Data
	}
	a := found["/a"]
	if len(found) != 2 || a["status"] != 418.0 || a["response_bytes"] != 7.0 || a["method"] != "POST" || a["route"] != "any" {
		t.Fatal(found)
	}
	if found["/panic"]["status"] != 500.0 {
		t.Fatal(found["/panic"])
	}
}
