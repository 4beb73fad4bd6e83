package client_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/bridge/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agent answers requests on a unix socket for the test and returns its path.
func agent(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return socket
}

func TestCodes(t *testing.T) {
	exits := map[client.Code]int{
		client.Failed: 1, client.Invalid: 2, client.NotFound: 3, client.Busy: 4, client.Refused: 4, client.Away: 3,
		client.Ambiguous: 3, client.Kicked: 4, client.Exists: 4, client.Stopping: 1,
	}
	words := map[string]bool{}
	for code := client.Failed; code <= client.Stopping; code++ {
		text, err := json.Marshal(&client.Error{Code: code, Text: "t", Next: "n"})
		if err != nil {
			t.Fatal(err)
		}
		var back client.Error
		if err := json.Unmarshal(text, &back); err != nil || back.Code != code || !errors.Is(&back, code) {
			t.Errorf("%d: %s comes back as %+v, %v", code, text, back, err)
		}
		if code.ExitCode() != exits[code] || code.HTTPStatus() < 400 || words[code.String()] {
			t.Errorf("%v: exit code %d, HTTP status %d", code, code.ExitCode(), code.HTTPStatus())
		}
		words[code.String()] = true
	}
	var newer client.Code
	if err := newer.UnmarshalText([]byte("from-the-future")); err != nil || newer != client.Failed {
		t.Errorf("unknown word: %v, %v", newer, err)
	}
	if client.Code(99).ExitCode() != 1 {
		t.Error("unknown code is no failure")
	}
}

func TestAsError(t *testing.T) {
	busy := client.Errorf(client.Busy, "wait", "open %q: in use", "a")
	for _, test := range []struct {
		err  error
		want client.Error
	}{
		{busy, client.Error{Code: client.Busy, Text: `open "a": in use`, Next: "wait"}},
		{fmt.Errorf("around: %w", busy), client.Error{Code: client.Busy, Text: `open "a": in use`, Next: "wait"}},
		{fmt.Errorf("open device: %w", client.Away), client.Error{Code: client.Away, Text: "open device: away"}},
		{io.ErrUnexpectedEOF, client.Error{Code: client.Failed, Text: "unexpected EOF"}},
	} {
		if have := client.AsError(test.err); *have != test.want {
			t.Errorf("%v: have %+v", test.err, *have)
		}
	}
	if client.AsError(nil) != nil {
		t.Error("nil became an error")
	}
	if have := busy.Error(); have != `open "a": in use; wait` {
		t.Errorf("have %q", have)
	}
}

func TestValues(t *testing.T) {
	for _, d := range []time.Duration{0, time.Millisecond, 90 * time.Second, 1000 * time.Hour} {
		text, err := json.Marshal(client.Seconds(d))
		var back client.Seconds
		if err == nil {
			err = json.Unmarshal(text, &back)
		}
		if err != nil || time.Duration(back) != d {
			t.Errorf("%v: %s, %v, %v", d, text, time.Duration(back), err)
		}
	}
	if json.Unmarshal([]byte(`"x"`), new(client.Seconds)) == nil {
		t.Error("text became seconds")
	}
	for _, take := range []client.Take{client.TakeNormal, client.TakePolite, client.TakeForce} {
		var back client.Take
		if text, _ := take.MarshalText(); back.UnmarshalText(text) != nil || back != take {
			t.Errorf("%v comes back as %v", take, back)
		}
	}
	take := client.TakeForce
	if err := take.UnmarshalText(nil); err != nil || take != client.TakeNormal {
		t.Errorf("no text: %v, %v", take, err)
	}
	if take.UnmarshalText([]byte("all")) == nil || client.Take(7).String() != "take 7" {
		t.Error("unknown take was taken")
	}
}

func TestNoAgent(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{filepath.Join(dir, "none"), filepath.Join(dir, "no", "dir"), file, filepath.Join(file, "x")} {
		c := client.New(client.Config{Socket: socket})
		_, callErr := c.Status(t.Context())
		_, openErr := c.OpenRaw(t.Context(), "a", client.TakeNormal)
		for _, err := range []error{callErr, openErr} {
			typed, ok := errors.AsType[*client.NoAgentError](err)
			if !errors.Is(err, client.ErrNoAgent) || !ok || typed.Socket != socket || err.Error() != "no agent at "+socket+`: start it with "serialspan agent"` {
				t.Errorf("%s: %v", socket, err)
			}
		}
	}
}

func TestStrangeAnswers(t *testing.T) {
	for _, test := range []struct {
		name, body string
		status     int
	}{
		{"not JSON", "<html>", 200}, {"error not JSON", "<html>", 500}, {"error without error", "{}", 404}, {"wrong types", `{"epoch": "x"}`, 200},
	} {
		socket := agent(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			io.WriteString(w, test.body)
		})
		c := client.New(client.Config{Socket: socket})
		if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "same version") {
			t.Errorf("%s: %v", test.name, err)
		}
		if _, err := c.OpenRaw(t.Context(), "a", client.TakeNormal); err == nil {
			t.Errorf("%s: opened", test.name)
		}
	}
}

func TestUnknownKeysIgnored(t *testing.T) {
	socket := agent(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"api": "serialspan/v1", "node": "a", "colour": "blue"}`)
	})
	status, err := client.New(client.Config{Socket: socket}).Status(t.Context())
	if err != nil || status.Node != "a" {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestCallContext(t *testing.T) {
	asked := make(chan struct{})
	socket := agent(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	})
	c := client.New(client.Config{Socket: socket})
	for name, call := range map[string]func(context.Context) error{
		"status": func(ctx context.Context) error { _, err := c.Status(ctx); return err },
		"open":   func(ctx context.Context) error { _, err := c.OpenRaw(ctx, "a", client.TakeNormal); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOpenRawBytesWithAnswer: bytes that come in one piece with the 101 are
// the device's first.
func TestOpenRawBytesWithAnswer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	asked := make(chan *http.Request, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: serialspan-raw\r\n\r\nfirst")
		asked <- request
	}()
	raw, err := client.New(client.Config{Socket: socket}).OpenRaw(t.Context(), "garage zwave@b", client.TakeForce)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	request := <-asked
	if request.Method != "POST" || request.URL.Path != "/v1/console" || request.FormValue("device") != "garage zwave@b" || request.FormValue("take") != "force" ||
		request.Header.Get("Upgrade") != client.Upgrade {
		t.Errorf("asked for %s %s %v", request.Method, request.URL, request.Header)
	}
	listener.Close()
	have, err := io.ReadAll(raw)
	if string(have) != "first" || !errors.Is(err, client.Stopping) {
		t.Errorf("read %q, %v", have, err)
	}
}

func TestFindSocket(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	want := "/run/user/7/serialspan/agent.sock"
	if os.Geteuid() == 0 {
		want = "/run/serialspan/agent.sock"
	}
	if have := client.DefaultSocket(); have != want {
		t.Errorf("default %q, want %q", have, want)
	}
	t.Setenv("SERIALSPAN_CONTROL_SOCKET", "/x/y.sock")
	if have := client.New(client.Config{}).Socket(); have != "/x/y.sock" {
		t.Errorf("from the environment %q", have)
	}
}

// TestFieldsHaveKeys: every field of the API has a key in snake case of its
// own, so that none is named by accident.
func TestFieldsHaveKeys(t *testing.T) {
	for _, v := range []any{
		client.Status{}, client.Node{}, client.Pong{}, client.Hardware{}, client.Device{}, client.Resolution{}, client.PTYSpec{},
		client.AttachRequest{}, client.Attachment{}, client.Session{}, client.Error{},
	} {
		seen := map[string]bool{}
		for i := range reflect.TypeOf(v).NumField() {
			field := reflect.TypeOf(v).Field(i)
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key == "" || key != strings.ToLower(key) || seen[key] {
				t.Errorf("%T.%s has key %q", v, field.Name, key)
			}
			seen[key] = true
		}
	}
}
