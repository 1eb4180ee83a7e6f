package advisories_test

import (
	"fmt"
	"strings"

	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

// driveRequests sends what a page or a stranger may send.
func driveRequests(e *evidence, s *harness.Service, sessions [][]string) {
	for i, session := range sessions {
		ask := func(method, path, body string, more ...string) {
			where := fmt.Sprintf("%s %s, session %d, %v", method, path, i, more)
			e.answer(where, s.Do(method, path, body, append(more, session...)...))
		}
		ask("POST", "/token", "")
		ask("POST", "/token", `{"min_life":1}`, "Origin", harness.Origin)
		ask("POST", "/token", `{"min_life":"`+canaryOther+`","secret":"`+harness.Secret+`"}`)
		ask("POST", "/token", harness.Secret, "Content-Type", "text/plain")
		ask("POST", "/token", strings.Repeat(harness.Secret, 400))
		ask("POST", "/token", "", "Origin", "https://evil.test")
		ask("POST", "/token", "", "X-Request-Id", canaryOther+" !")
		ask("POST", "/token?access_token="+canaryOpaque, "")
		ask("POST", "/"+canaryOpaque+"?key="+harness.Key, "")
		ask("GET", "/token/"+canaryOpaque, "")
		ask("DELETE", "/token?secret="+harness.Secret, "")
		ask("OPTIONS", "/token", "", "Origin", harness.Origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-not-granted")
	}
}

// driveSayings lets a counterpart say everything it can, for each session.
func driveSayings(e *evidence, s *harness.Service, sessions [][]string, counterpart *echo, name string) {
	for what, say := range sayings() {
		counterpart.say.Store(say)
		for i, session := range sessions {
			e.answer(fmt.Sprintf("%s says %s, session %d", name, what, i), s.Do("POST", "/token", "", e.another(session)...))
		}
		counterpart.say.Store(saying(nil))
		e.answer("in between", s.Do("POST", "/token", "", e.another(sessions[0])...)) // so that the breaker stays closed
	}
}

func driveFaults(e *evidence, s *harness.Service, sessions [][]string, upstream *harness.Sethealth) {
	for _, fault := range faults.All() {
		upstream.Set(fault.Faults)
		e.answer(fault.Name, s.Do("POST", "/token", "", e.another(sessions[0])...))
		upstream.Set(faults.Faults{})
	}
}
