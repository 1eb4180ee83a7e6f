// Package advisories_test tests the built binary for published vulnerabilities of similar software. Each subtest has
// their ids. docs/security.md lists them.
package advisories_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// suite has a test for each row of docs/security.md that names no other test, by the row's ids.
var suite = map[string]func(t *testing.T){
	"CVE-2026-40575":                    forwardedHeadersSkipNoCheck,
	"CVE-2026-34457":                    noUserAgentIsSpecial,
	"CVE-2026-41059":                    noTokenAt(fragments...),
	"CVE-2025-64484":                    otherSpellingsAreNotTheUserHeader,
	"CVE-2025-54576":                    theQueryChangesNothing,
	"GHSA-4mq7-pvjg-xp2r":               noTwoEndpointsShareACache,
	"CVE-2021-32701":                    theScopeIsCheckedOnHitsToo,
	"GHSA-p224-6x5r-fjpm":               noTokenAt(traversals...),
	"oathkeeper-html-sign-in":           aSignInPageIsNoSession,
	"CVE-2024-47616":                    tokensOfAnotherKindAreRefused,
	"CVE-2022-24797":                    diagnosticsAreNotPublic,
	"CVE-2025-52477":                    aTokenChoosesNoRequest,
	"CVE-2024-34079":                    endlessAnswersAreCutOff,
	"coreos-go-oidc-482 tilegroxy-883":  unknownKidsShareOneFetch,
	"oathkeeper-1232 oauth2-proxy-2246": anOutageIsNoRefusal,
	"oauth2-proxy-3487":                 anIssuerThatIsDownAtStartIsWaitedFor,
	"oauth2-proxy-735 oauth2-proxy-3427 traefik-forward-auth-186": thePreflightNeedsNoCredential,
	"expressjs-cors-143":                 aPageCanReadEveryError,
	"GHSA-mh55-gqvf-xfwm go-chi-cors-36": aFatPreflightIsCheap,
	"CVE-2018-20744":                     nearMissesOfAnOriginAreRefused,
	"golang-go-79793":                    noRedirectCarriesTheSecret,
	"gestalt-348 tailscale-18919":        aLeaderThatLeavesFailsNobody,
	"GHSA-3fxj-6jh8-hvhx":                aSpoofedAddressIsNotBelieved,
	"CVE-2025-69725":                     noTokenAt(redirects...),
	"CVE-2025-30204 CVE-2025-27144":      dotsAreCheap,
	"CVE-2024-51744":                     aBadSignatureIsNeverJustExpired,
	"CVE-2024-28122 CVE-2026-34986":      encryptedTokensAreRefused,
	"CVE-2024-21664":                     jsonFormsAreRefused,
	"CVE-2022-21449":                     aZeroSignatureIsRefused,
	"RFC-8725":                           bestPracticesOfTokens,
	"envconfig-187":                      noWrongValueIsPrinted,
	"oauth2-proxy-3180 oauth2-proxy-2659 kubernetes-111947": filesAreTrimmedAndFollowed,
	"orthanc-auth-service sethealth-python":                 noSecretAppearsAnywhere,
	"ory-hydra-1250 ory-fosite-207":                         refreshTokensAreRefused,
	"traefik-13902 haproxy-581":                             connectionsSignInNobody,
	"azure-b2c-sample-1":                                    aPlaceholderIsNobody,
	"same-name-two-checks":                                  equalNamesAreNotOneUser,
	"FuelSDK-Node-Auth-53 pwa-kit-3860":                     aRejectedTokenIsReplaced,
	"cybozu-well-13 containerd-580 kapacitor-737":           theLogNeverDecidesWhetherTheServiceLives,
}

var (
	fragments = []string{
		"/token#/healthz", "/token%23/healthz", "/healthz#/token", "/healthz%23/token", "/token%3f/healthz", "/token%00", "/token%0d%0a",
	}
	traversals = []string{
		"//token", "/healthz/../token", "/healthz/..%2ftoken", "/healthz/%2e%2e/token", "/healthz/..;/token", "/healthz/..%5ctoken",
		"/healthz/..%252ftoken", "/client.js/../token", "/./token", "/token/", "/token/.", "/token;x=y", "/%74oken", "/TOKEN", "\\token",
	}
	redirects = []string{
		"//evil.test/", "//evil.test/token/", "/\\evil.test/", "/%5cevil.test/", "/%2f%2fevil.test/", "/.//evil.test",
		"http://evil.test/", "/healthz/",
	}
)

func TestAdvisories(t *testing.T) {
	for ids, test := range suite {
		t.Run(ids, func(t *testing.T) {
			t.Parallel() // each has a service of its own
			test(t)
		})
	}
}

// start starts a service and its Sethealth, with changes to the minimal environment.
func start(t *testing.T, changes ...harness.Env) (*harness.Sethealth, *harness.Service) {
	t.Helper()
	upstream := harness.NewSethealth(t)
	env := upstream.Env()
	for _, change := range changes {
		env = env.With(change)
	}
	return upstream, harness.Start(t, env)
}

// counting is a server that counts requests.
type counting struct {
	*httptest.Server
	asked atomic.Int64
}

func newCounting(t *testing.T, handler http.HandlerFunc) *counting {
	t.Helper()
	c := &counting{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		handler(w, r)
	}))
	t.Cleanup(c.Close)
	return c
}

// raw sends a request that net/http's client would change. It joins the lines by CRLF.
func raw(t *testing.T, s *harness.Service, lines ...string) harness.Answer {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	lines = append(lines, "Host: tokens.example.com", "Connection: close", "Content-Length: 0", "", "")
	_, err = io.WriteString(conn, strings.Join(lines, "\r\n"))
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return harness.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
}

const mebibyte = 1 << 20

// requireCheap requires that each of n runs allocates fewer bytes in the service than a bound.
func requireCheap(t *testing.T, s *harness.Service, n int, each float64, run func()) {
	t.Helper()
	allocated := func() float64 { return s.Metric("go_memstats_alloc_bytes_total") }
	run() // warm up
	before := allocated()
	scrape := allocated() - before
	before = allocated()
	for range n {
		run()
	}
	assert.Less(t, allocated()-before, float64(n)*each+2*scrape+mebibyte)
}
