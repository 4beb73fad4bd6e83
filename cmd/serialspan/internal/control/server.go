package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/configs"
)

// Agent is what the server needs of an agent. Methods may be called at once
// from several goroutines. Errors that are a *client.Error, or wrap a
// client.Code, keep their code on the way to the user; all others are
// client.Failed.
type Agent interface {
	Status() client.Status
	Nodes() []client.Node
	Devices() []client.Device
	LeftAlone() []client.LeftAlone
	Attachments() []client.Attachment
	Sessions() []client.Session
	// Watch returns a channel that signals that one of the above may have
	// changed, and a function that ends it. What only grows, such as numbers
	// of bytes, need not be signalled.
	Watch() (changes <-chan struct{}, stop func())
	// Resolve says which device NAME or NAME@NODE means now.
	Resolve(name string) (client.Resolution, error)
	// Ping measures the way to the member with this name or NodeID.
	Ping(ctx context.Context, node string) (client.Pong, error)
	// PathSizes tries how large a datagram gets through to each member, until ctx
	// ends at the latest.
	PathSizes(ctx context.Context) []client.PathSize
	// Signal moves modem lines of a device, and returns when that is done.
	Signal(ctx context.Context, device string, words []string) error
	// RotateSecret begins to rotate the cluster secret, and returns the new
	// key number; Status tells how far it is.
	RotateSecret(ctx context.Context, request client.RotateRequest) (uint32, error)
	// RemoveNode removes the node with this name, alias or NodeID.
	RemoveNode(ctx context.Context, node string) (client.Removal, error)
	// Attach makes an attachment; the request has been checked as far as it
	// can be without knowing devices. It returns when the PTY or listener is
	// there, without waiting for the device. Caller(ctx) is who asks.
	Attach(ctx context.Context, request client.AttachRequest) (client.Attachment, error)
	// Detach removes the attachment with this ID.
	Detach(ctx context.Context, id string) error
	// Monitor opens a device to read along; otherwise as Console. Read gives
	// whole records of bridge/capture, as far as the buffer has room for them.
	Monitor(ctx context.Context, device string) (io.ReadCloser, error)
	// Console opens a device for raw bytes; ctx governs the opening only.
	// Close unblocks Read and Write. Read ends with io.EOF, or with an error
	// that says why the device was lost.
	Console(ctx context.Context, device string, take client.Take) (io.ReadWriteCloser, error)
	// OpenPort opens a device as a port; ctx governs the opening only.
	OpenPort(ctx context.Context, device string, o PortOptions) (Port, error)
}

// Config says what to serve and where. Agent is required, the rest works as
// its zero value.
type Config struct {
	Agent Agent
	// Socket is the path of the socket; default client.DefaultSocket().
	Socket string
	// Mode is the permissions of the socket; default 0660.
	Mode fs.FileMode
	// Group is the group of the socket, name or number; default the agent's.
	Group string
	// LinkDirs are where an agent of root makes links for other users;
	// default none.
	LinkDirs []string
	// OnListening is called by Run when the socket is ready; default nothing.
	OnListening func()
	// Logger gets each request at debug level; nil discards.
	Logger *slog.Logger
}

const (
	// maxRequest bounds the body of a request, in bytes.
	maxRequest = 64 << 10
	// headerTimeout bounds how long a client may take to say what it wants.
	headerTimeout = 10 * time.Second
	// shutdownTimeout bounds how long answers may still take at the end.
	shutdownTimeout = 2 * time.Second
)

// server serves one control socket.
type server struct {
	config   Config
	logger   *slog.Logger
	links    configs.LinkRule
	consoles consoles
}

func newServer(config Config) *server {
	if config.Socket == "" {
		config.Socket = client.DefaultSocket()
	}
	logger := config.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &server{config: config, logger: logger, links: configs.NewLinkRule(config.LinkDirs)}
}

// Run makes the socket and serves it until ctx ends; then it ends the consoles
// and removes the socket. The error is nil if ctx ended it.
func Run(ctx context.Context, config Config) error { return newServer(config).run(ctx) }

func (s *server) run(ctx context.Context) error {
	listener, err := listen(s.config.Socket, s.config.Mode, s.config.Group)
	if err != nil {
		return err
	}
	defer listener.remove()
	web := &http.Server{
		Handler:           s.handler(ctx),
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withCaller,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	if s.config.OnListening != nil {
		s.config.OnListening()
	}
	select {
	case <-ctx.Done():
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if web.Shutdown(last) != nil {
			web.Close()
		}
		<-served
		err = nil
	case err = <-served:
		web.Close()
		err = fmt.Errorf("serve control socket %q: %w", s.config.Socket, err)
	}
	s.consoles.stop()
	return err
}

func (s *server) handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	agent := s.config.Agent
	for list, get := range map[client.List]func() any{
		client.ListStatus: func() any {
			status := agent.Status()
			if status.Counters == nil {
				status.Counters = map[string]uint64{}
			}
			status.Problems = filled(status.Problems)
			return client.StatusAnswer{API: client.Version, Status: status}
		},
		client.ListNodes: func() any { return client.NodesAnswer{API: client.Version, Nodes: filled(agent.Nodes())} },
		client.ListDevices: func() any {
			return client.DevicesAnswer{API: client.Version, Devices: filled(agent.Devices()), LeftAlone: agent.LeftAlone()}
		},
		client.ListAttachments: func() any {
			return client.AttachmentsAnswer{API: client.Version, Attachments: filled(agent.Attachments())}
		},
		client.ListSessions: func() any { return client.SessionsAnswer{API: client.Version, Sessions: filled(agent.Sessions())} },
	} {
		mux.HandleFunc("GET /v1/"+string(list), func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Query().Get("watch") {
			case "", "0":
				answer(w, get())
			case "1":
				s.watch(w, r, get)
			default:
				refuse(w, client.Errorf(client.Invalid, "write ?watch=1", "list %s: watch is neither 0 nor 1", list))
			}
		})
	}
	mux.HandleFunc("GET /v1/resolve", s.resolve)
	mux.HandleFunc("POST /v1/ping", s.ping)
	mux.HandleFunc("POST /v1/sizes", s.sizes)
	mux.HandleFunc("POST /v1/signal", s.signal)
	mux.HandleFunc("POST /v1/secret/rotate", s.rotate)
	mux.HandleFunc("POST /v1/nodes/remove", s.remove)
	mux.HandleFunc("POST /v1/attachments", s.attach)
	mux.HandleFunc("DELETE /v1/attachments/{id}", s.detach)
	mux.HandleFunc("POST /v1/console", func(w http.ResponseWriter, r *http.Request) { s.console(ctx, w, r) })
	mux.HandleFunc("POST /v1/ports", func(w http.ResponseWriter, r *http.Request) { s.ports(ctx, w, r) })
	mux.HandleFunc("POST /v1/monitor", func(w http.ResponseWriter, r *http.Request) { s.monitor(ctx, w, r) })
	mux.HandleFunc("GET /v1/console/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, client.ErrorAnswer{API: client.Version, Error: s.consoles.why(r.PathValue("id"))})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, client.Errorf(client.Invalid, "", "handle %s %s: this agent has no such request", r.Method, r.URL.Path))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.logger.Debug("control request", "request", r.Method+" "+r.URL.Path)
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		mux.ServeHTTP(w, r)
	})
}

// filled makes [] in JSON of a nil list.
func filled[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (s *server) resolve(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	if name == "" {
		refuse(w, client.Errorf(client.Invalid, "write ?name=NAME", "resolve device: no name given"))
		return
	}
	resolution, err := s.config.Agent.Resolve(name)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, client.ResolveAnswer{API: client.Version, Resolution: resolution})
}

func (s *server) ping(w http.ResponseWriter, r *http.Request) {
	node := r.URL.Query().Get("node")
	if node == "" {
		refuse(w, client.Errorf(client.Invalid, "write ?node=NAME", "ping: no node given"))
		return
	}
	pong, err := s.config.Agent.Ping(r.Context(), node)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, client.PingAnswer{API: client.Version, Pong: pong})
}

// sizesTime bounds how long sizes are tried.
const sizesTime = 8 * time.Second

func (s *server) sizes(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), sizesTime)
	defer cancel()
	answer(w, client.PathSizesAnswer{API: client.Version, Paths: s.config.Agent.PathSizes(ctx)})
}

func (s *server) signal(w http.ResponseWriter, r *http.Request) {
	var request client.SignalRequest
	if err := read(r, &request); err != nil {
		refuse(w, client.Errorf(client.Invalid, "", "read signal request: %v", err))
		return
	}
	if request.Device == "" {
		refuse(w, client.Errorf(client.Invalid, "write NAME or NAME@NODE", "signal: no device given"))
		return
	}
	if err := s.config.Agent.Signal(r.Context(), request.Device, request.Words); err != nil {
		refuse(w, err)
		return
	}
	answer(w, client.SignalAnswer{API: client.Version})
}

// read reads the body of a request strictly.
func read(r *http.Request, out any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	return decoder.Decode(out)
}

func (s *server) attach(w http.ResponseWriter, r *http.Request) {
	var request client.AttachRequest
	if err := read(r, &request); err != nil {
		refuse(w, client.Errorf(client.Invalid, "", "read attach request: %v", err))
		return
	}
	if err := errors.Join(checkAttach(request), checkPTY(s.links, callerOf(r.Context()), request.PTY)); err != nil {
		refuse(w, err)
		return
	}
	attachment, err := s.config.Agent.Attach(r.Context(), request)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, client.AttachmentAnswer{API: client.Version, Attachment: attachment})
}

func (s *server) detach(w http.ResponseWriter, r *http.Request) {
	attachment, err := pick(s.config.Agent.Attachments(), r.PathValue("id"))
	if err == nil {
		err = s.config.Agent.Detach(r.Context(), attachment.ID)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, client.AttachmentAnswer{API: client.Version, Attachment: attachment})
}

func answer(w http.ResponseWriter, value any) {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		refuse(w, fmt.Errorf("encode answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(data, '\n'))
}

func refuse(w http.ResponseWriter, err error) {
	failure := client.AsError(err)
	data, err := json.MarshalIndent(client.ErrorAnswer{API: client.Version, Error: failure}, "", "  ")
	if err != nil {
		http.Error(w, failure.Text, failure.Code.HTTPStatus())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(failure.Code.HTTPStatus())
	w.Write(append(data, '\n'))
}
