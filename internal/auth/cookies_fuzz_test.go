package auth_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

func FuzzCookie(f *testing.F) {
	const name = "session"
	for _, seed := range []string{"", "session=x", "session=x; session=y", `session="x"`, "a=1;session=x", "session", "session=", ";;=;session==x", "Session=x", " session =x ", `a="; session=x"`, "session=\"", "session=;session=x"} {
		f.Add(seed, "a=1")
		f.Add("a=1", seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		j := newJWT(t, func(o *options) { withSecret(o); o.Cookie = name })
		r := request("Cookie", first, "Cookie", second)
		id, err := j.Authenticate(r)
		wellFormed(t, id, err)
		if err == nil {
			t.Error("nobody signed that")
		}
	})
}

func FuzzForwardCookies(f *testing.F) {
	const name = "session"
	for _, seed := range []string{"", "session=x", "session=x; session=y", `session="x"`, "a=1;session=x", "session", "session=", ";;=;session==x", "Session=x", " session =x ", `a="; session=x"`, "session=\"", "session=;session=x"} {
		f.Add(seed, "a=1")
		f.Add("a=1", seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		fw, last := asked(t, func(c *auth.Config, _ *auth.Deps) { c.Cookies = setting.List{name} })
		result, err := fw.Authenticate(request("Cookie", first, "Cookie", second))
		wellFormed(t, result, err)
		got := last()
		if (got == nil) != errors.Is(err, auth.ErrNoCredential) {
			t.Errorf("asked: %v, %v", got != nil, err)
		}
		if got == nil {
			return
		}
		for pair := range strings.SplitSeq(got.Header.Get("Cookie"), ";") {
			if n, _, _ := strings.Cut(pair, "="); strings.Trim(n, " \t") != name {
				t.Errorf("passed on: %q", got.Header.Get("Cookie"))
			}
		}
	})
}
