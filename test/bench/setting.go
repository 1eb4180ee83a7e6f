//go:build linux

package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/test/bench/load"
)

// stage is one algorithm's sessions, with a stand-in for Sethealth behind the servers.
type stage struct {
	settings
	*workshop
	signer    *signer
	crowd     *crowd
	upstream  *server
	sethealth string // its address
	env       []string
}

func newStage(s settings, w *workshop, algorithm jose.SignatureAlgorithm, tokenSize int) (*stage, error) {
	st := &stage{settings: s, workshop: w}
	var err error
	if st.signer, err = newSigner(algorithm); err != nil {
		return nil, err
	}
	if st.crowd, err = newCrowd(st.signer, 0, s.users); err != nil {
		return nil, err
	}
	env := []string{fmt.Sprint("TOKEN_SIZE=", tokenSize)}
	scheme, trusted := "http://", ""
	if s.tls {
		scheme, trusted = "https://", w.path("upstream.pem")
		env = append(env, "TLS_CERT_TO="+trusted)
	}
	if st.upstream, err = w.peer("upstream", env, s.loadCPU); err != nil {
		return nil, err
	}
	if err := os.Setenv("SSL_CERT_FILE", trusted); err != nil { // for connectionsMade
		return nil, err
	}
	st.sethealth = scheme + st.upstream.addr
	st.env = append([]string{
		"SSL_CERT_FILE=" + trusted, "SETHEALTH_URL=" + st.sethealth, "SETHEALTH_KEY=key", "SETHEALTH_SECRET=secret",
		"SESSION_CHECK=jwt", "JWT_AUDIENCE=" + audience, "CORS_ALLOWED_ORIGINS=" + origin,
		"RATE_LIMIT=100000/1s", "MAX_IN_FLIGHT=20000", "TOKEN_CACHE_SIZE=1200000", "TOKEN_TTL=6h",
	}, st.signer.env...)
	return st, nil
}

// turn is what a server did in one turn.
type turn struct {
	load.Result
	cpu time.Duration
}

// cost is the processor time of one answer. Unlike the rate it does not fall when something else takes
// part of the CPU.
func (t turn) cost() float64 { return float64(t.cpu) / float64(t.Answers) }

// ask puts the load of the warm path on a server for one turn.
func (st *stage) ask(s *server, change ...func(*load.Options)) (turn, error) {
	o := load.Options{Addr: s.addr, Request: st.crowd.request, Connections: st.connections, For: st.each, CPU: st.loadCPU}
	for _, c := range change {
		c(&o)
	}
	before := s.cpu()
	result, err := load.InThread(o)
	r := turn{result, s.cpu() - before}
	if err == nil && r.Refusals > 0 {
		err = fmt.Errorf("%d of %d requests refused: %s", r.Refusals, r.Refusals+r.Answers, r.Status)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", s.name, err)
	}
	return r, s.log.Truncate(0)
}

// warm asks once for each user, so that all of them are known.
func (st *stage) warm(s *server) error {
	_, err := st.ask(s, func(o *load.Options) {
		o.Request, o.Count, o.For = st.crowd.inOrder, len(st.crowd.users), 10*time.Minute
	})
	return err
}

// profile takes a CPU profile of tokenvend under the load of the warm path.
func profile(s settings, w *workshop, file string) error {
	st, err := newStage(s, w, jose.HS256, 300)
	if err != nil {
		return err
	}
	server, err := w.tokenvend("tokenvend", append(st.env, "DEBUG_PPROF=true"), s.serverCPU)
	if err != nil {
		return err
	}
	if s.only != "cold" {
		if err := st.warm(server); err != nil {
			return err
		}
	}
	var taking sync.WaitGroup
	var page string
	var failed error
	taking.Go(func() {
		page, failed = get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", server.admin, max(1, int(s.each.Seconds())-1)))
	})
	r, err := st.ask(server, func(o *load.Options) { o.Count = s.users * 1000; o.Request = st.crowd.inOrder })
	taking.Wait()
	if err != nil || failed != nil {
		return fmt.Errorf("profile: %v, %v", err, failed)
	}
	fmt.Printf("%.0f answers a second\n", r.Rate())
	return os.WriteFile(file, []byte(page), 0o600)
}
