//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/test/bench/load"
)

// cold prints how tokenvend serves users it has never seen, against one call for each request as the
// official Go client makes it (alone, and behind the obvious design's session check and log): answers a
// second, and new connections to Sethealth for each thousand.
func cold(s settings, w *workshop) error {
	st, err := newStage(s, w, jose.HS256, 300)
	if err != nil {
		return err
	}
	var rows []*row
	for _, name := range []string{"percall", "percall keeping connections", "obvious", "obvious keeping connections"} {
		keep := strconv.FormatBool(strings.HasSuffix(name, "connections"))
		server, err := w.peer(name, append(st.env, "TOKEN_CACHE=off", "KEEP_CONNECTIONS="+keep), s.serverCPU)
		if err != nil {
			return err
		}
		rows = append(rows, &row{server: server, stage: st})
	}
	own, err := w.tokenvend("tokenvend", append(st.env, "TOKEN_CACHE_SIZE=100000"), s.serverCPU)
	if err != nil {
		return err
	}
	rows = append(rows, &row{server: own, stage: st})
	if s.other != "" {
		other, err := w.service("other", s.other, append(st.env, "TOKEN_CACHE_SIZE=100000"), s.serverCPU)
		if err != nil {
			return err
		}
		rows = append(rows, &row{server: other, stage: st})
	}
	opened := make([]int, len(rows))
	first := 0
	for round := range s.rounds {
		for i, r := range rows {
			// Sessions nobody has seen, and as many as can be used up.
			if st.crowd, err = newCrowd(st.signer, first, s.users); err != nil {
				return err
			}
			first += s.users
			before, err := st.connectionsMade()
			if err != nil {
				return err
			}
			result, err := st.ask(r.server, func(o *load.Options) { o.Request, o.Count, o.For = st.crowd.inOrder, s.users, time.Minute })
			if err != nil {
				return err
			}
			after, err := st.connectionsMade()
			if err != nil {
				return err
			}
			r.results, opened[i] = append(r.results, result), opened[i]+after-before
		}
		for _, r := range rows {
			r.ratios = append(r.ratios, r.results[round].Rate()/rows[0].results[round].Rate())
		}
	}
	fmt.Printf("%-28s %10s %12s %15s %9s %22s\n", "server, every user new", "answers/s", "of the first", "least to most", "CPU each", "new connections/1,000")
	for i, r := range rows {
		fmt.Printf("%-28s %10.0f %12.2f %7.2f to %4.2f %9s %22.1f\n", r.name, median(rates(r.results)), median(r.ratios),
			slices.Min(r.ratios), slices.Max(r.ratios), r.cost().Round(100*time.Nanosecond), 1000*float64(opened[i])/float64(s.users*s.rounds))
	}
	return nil
}

func (st *stage) connectionsMade() (int, error) {
	page, err := get(st.sethealth + "/connections")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(page)
}

// start prints how long it takes from exec to the first vended token, and what an idle process weighs.
func start(s settings, w *workshop) error {
	st, err := newStage(s, w, jose.HS256, 300)
	if err != nil {
		return err
	}
	request := st.crowd.request(nil, 0)
	var took []float64
	idle := 0
	for range s.rounds {
		began := time.Now()
		own, err := w.tokenvend("tokenvend", st.env, s.serverCPU)
		if err != nil {
			return err
		}
		if err := once(own.addr, request); err != nil {
			return err
		}
		took = append(took, float64(time.Since(began)))
		time.Sleep(time.Second)
		idle, _ = own.memory()
		own.stop()
	}
	fmt.Printf("exec to the first token: %s, least %s; idle: %.1f MB\n", time.Duration(median(took)).Round(100*time.Microsecond),
		time.Duration(slices.Min(took)).Round(100*time.Microsecond), float64(idle)/1e6)
	return nil
}

// once sends one request and takes its first line for the answer.
func once(addr string, request []byte) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(request); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.Contains(line, " 200 ") {
		err = fmt.Errorf("the answer is %s", line)
	}
	return err
}
