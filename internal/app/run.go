package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// Limits of a connection. A slower client is disconnected.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute // more than the minute after which most balancers drop idle connections
	writeGrace        = 10 * time.Second
	// maxHeader is the maximum size of a request's headers, in bytes. A bearer token of 64 KiB beside many cookies
	// fits, so that it gets an answer that a page can read.
	maxHeader = 96 << 10
)

// Listeners are the sockets that the service accepts connections on.
type Listeners struct {
	Public net.Listener
	Admin  net.Listener // nil for none
}

// Listen opens the listeners that a Config names.
func Listen(c *Config) (Listeners, error) {
	public, err := net.Listen("tcp", c.Server.ListenAddr)
	if err != nil {
		return Listeners{}, fmt.Errorf("LISTEN_ADDR: %w", err)
	}
	if c.Server.AdminAddr == "off" {
		return Listeners{Public: public}, nil
	}
	admin, err := net.Listen("tcp", c.Server.AdminAddr)
	if err != nil {
		_ = public.Close()
		return Listeners{}, fmt.Errorf("ADMIN_ADDR: %w", err)
	}
	return Listeners{Public: public, Admin: admin}, nil
}

// Run serves until ctx ends, then drains: readiness fails for SHUTDOWN_DELAY, the listener closes, and
// requests in flight get SHUTDOWN_TIMEOUT. It returns nil after a clean drain. Logs go to logTo.
func Run(ctx context.Context, c *Config, l Listeners, build telemetry.Build, logTo io.Writer) error {
	a, err := newApp(c, build, logTo)
	if err != nil {
		return err
	}
	return a.run(ctx, l)
}

func (a *app) run(ctx context.Context, l Listeners) error {
	// Background work goes on until the drain is over.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var working sync.WaitGroup
	for _, work := range a.background {
		working.Go(func() { work(background) })
	}
	defer func() {
		stop()
		working.Wait()
		a.close()
	}()

	failed := make(chan error, 2)
	public, overTLS := a.publicServer(), a.config.Server.certificate != nil
	go func() {
		if overTLS {
			failed <- public.ServeTLS(l.Public, "", "")
		} else {
			failed <- public.Serve(l.Public)
		}
	}()
	if l.Admin != nil {
		admin := a.adminServer()
		go func() { failed <- admin.Serve(l.Admin) }()
		defer admin.Close()
		a.log.Info("serving metrics and health", "address", l.Admin.Addr().String())
	}
	for _, warning := range a.warnings() {
		a.log.Warn("configuration", "warning", warning)
	}
	a.log.Info("serving", append([]any{
		"address", l.Public.Addr().String(), "tls", overTLS, "version", a.build.Version,
	}, a.config.summary()...)...)

	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	return a.drain(public)
}

// close closes the parts in reverse order, so that each is closed before what it depends on.
func (a *app) close() {
	for _, closeIt := range slices.Backward(a.closers) {
		closeIt()
	}
}

// drain gives the balancer time to notice, closes the listener, and waits for requests in flight.
func (a *app) drain(public *http.Server) error {
	a.log.Info("draining", "delay", a.config.Server.ShutdownDelay.String(), "timeout", a.config.Server.ShutdownTimeout.String())
	a.lifecycle.Drain()
	time.Sleep(a.config.Server.ShutdownDelay)
	// A fresh context: one derived from the context that has just ended would drain nothing.
	ctx, cancel := context.WithTimeout(context.Background(), a.config.Server.ShutdownTimeout)
	defer cancel()
	if err := public.Shutdown(ctx); err != nil {
		_ = public.Close()
		return errors.New("requests were still in flight after SHUTDOWN_TIMEOUT and were cut off")
	}
	a.log.Info("drained")
	return nil
}

func (a *app) publicServer() *http.Server {
	c := a.config
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           a.public,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       api.BodyTimeout,
		WriteTimeout:      api.BodyTimeout + max(c.Sessions.ForwardConfig.Timeout, c.Sessions.IntrospectionConfig.Timeout) + c.Sethealth.Timeout + writeGrace,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		// Bounds the memory that a client can hold by not reading its answers. Each stream holds its headers, and
		// net/http queues up to four times as many streams.
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 8, MaxReceiveBufferPerStream: 16 << 10, MaxReceiveBufferPerConnection: 64 << 10,
			WriteByteTimeout: writeGrace, SendPingTimeout: 30 * time.Second, PingTimeout: 10 * time.Second,
		},
		// OPTIONS * is answered like any other unknown path.
		DisableGeneralOptionsHandler: true,
		// Failed handshakes and the like are the peer's fault.
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	server.ConnState = (&connectionLimit{server: server}).watch
	if pair := c.Server.certificate; pair != nil {
		server.TLSConfig = pair.config()
	}
	return server
}

func (a *app) adminServer() *http.Server {
	return &http.Server{
		Handler: api.NewAdmin(api.AdminOptions{
			Registry: a.registry, Lifecycle: a.lifecycle, Dependencies: a.dependencies, Pprof: a.config.Server.DebugPprof,
		}),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
}
