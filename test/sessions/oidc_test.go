package sessions_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

const clientSecret = "canary-client: secret/+%" // must survive its form encoding

// provider is the certified oidc-provider of npm.
type provider struct {
	URL string
	t   testing.TB
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	return &provider{node(t, "oidc/provider.mjs", "oidc-provider"), t}
}

// tokens is a response of the token endpoint.
type tokens struct {
	Access  string `json:"access_token"`
	ID      string `json:"id_token"`
	Refresh string `json:"refresh_token"`
}

// signIn runs the authorization code flow with PKCE (RFC 7636) in a new browser. The provider signs in the user of
// login_hint. bound requests tokens with DPoP (RFC 9449).
func (p *provider) signIn(clientID, user string, bound bool) tokens {
	p.t.Helper()
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	back := newBrowser(p.t).do(p.URL+"/auth?"+url.Values{
		"client_id": {clientID}, "redirect_uri": {redirectURI}, "response_type": {"code"}, "scope": {"openid images"}, "login_hint": {user},
		"state": {state}, "nonce": {rand.Text()}, "code_challenge_method": {"S256"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])},
	}.Encode(), nil)
	page, err := url.Parse(back.Header.Get("Location"))
	require.NoError(p.t, err)
	require.Equal(p.t, state, page.Query().Get("state"), back.Body)
	proof := ""
	if bound {
		proof = p.proof()
	}
	return p.post("/token", proof, url.Values{
		"grant_type": {"authorization_code"}, "client_id": {clientID}, "redirect_uri": {redirectURI},
		"code": {page.Query().Get("code")}, "code_verifier": {verifier},
	})
}

// post sends a form, with a DPoP proof unless that is empty, and returns the tokens of the response, if any.
func (p *provider) post(path, proof string, form url.Values) (got tokens) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), "POST", p.URL+path, strings.NewReader(form.Encode()))
	require.NoError(p.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if proof != "" {
		req.Header.Set("DPoP", proof)
	}
	answer, err := harness.Send(req)
	require.NoError(p.t, err)
	require.Equal(p.t, 200, answer.Status, answer.Body)
	_ = json.Unmarshal([]byte(answer.Body), &got)
	return got
}

// proof makes a DPoP proof for the token endpoint.
func (p *provider) proof() string {
	p.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: harness.NewKey(p.t).Key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	require.NoError(p.t, err)
	proof, err := jwt.Signed(signer).Claims(map[string]any{
		"jti": rand.Text(), "htm": "POST", "htu": p.URL + "/token", "iat": time.Now().Unix(),
	}).Serialize()
	require.NoError(p.t, err)
	return proof
}

// part returns the header (0) or the claims (1) of a JWT.
func part(t testing.TB, token string, n int) (members map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3, "a JWT")
	text, err := base64.RawURLEncoding.DecodeString(parts[n])
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &members))
	return members
}

func TestAccessTokensOfACertifiedProviderSignedWithEd25519(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	upstream, s := started(t, harness.Env{"SESSION_CHECK": "jwt", "JWT_ISSUER": p.URL, "JWT_AUDIENCE": harness.Audience, "JWT_REQUIRED_CLAIMS": "scope=images"})
	before := p.signIn("viewer", "alice", false)
	require.Equal(t, "Ed25519", part(t, before.Access, 0)["alg"], "as RFC 9864 names it")
	upstream.RequireUser(t, "alice", s.Ask(before.Access))

	renewed := p.post("/token", "", url.Values{"grant_type": {"refresh_token"}, "client_id": {"viewer"}, "refresh_token": {before.Refresh}})
	require.NotEqual(t, before.Refresh, renewed.Refresh, "a refresh token can be used once")
	upstream.RequireUser(t, "alice", s.Ask(renewed.Access))

	bound := p.signIn("viewer", "mallory", true)
	require.Contains(t, part(t, bound.Access, 1), "cnf")
	for name, token := range map[string]string{
		"an ID token": before.ID, "a refresh token": renewed.Refresh, "a token bound to its sender": bound.Access,
	} {
		assert.Equal(t, 401, s.Ask(token).Status, name)
	}
	assert.Equal(t, 401, s.Do("POST", "/token", "", "Authorization", "DPoP "+bound.Access).Status)

	p.post("/rotate", "", nil)
	after := p.signIn("viewer", "bob", false)
	require.NotEqual(t, part(t, before.Access, 0)["kid"], part(t, after.Access, 0)["kid"])
	var answer harness.Answer
	harness.Eventually(t, "a token of the new key", func() bool {
		answer = s.Ask(after.Access)
		require.NotEqual(t, 401, answer.Status, "never a sign-out")
		return answer.Status != 503
	})
	upstream.RequireUser(t, "bob", answer)
	assert.Equal(t, 401, s.Ask(before.Access).Status, "signed with a key that was withdrawn")
}

func TestOpaqueTokensOfACertifiedProviderAreIntrospected(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	got, bound := p.signIn("opaque", "alice", false), p.signIn("opaque", "mallory", true)
	robot := p.post("/token", "", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"robot"}, "client_secret": {clientSecret}, "scope": {"images"},
	})
	services := map[string]*harness.Service{}
	for _, method := range []string{"post", "basic"} {
		upstream, s := started(t, harness.Env{
			"SESSION_CHECK": "introspection", "INTROSPECTION_URL": p.URL + "/token/introspection", "INTROSPECTION_AUTH": method,
			"INTROSPECTION_CLIENT_ID": "tokenvend", "INTROSPECTION_CLIENT_SECRET": clientSecret,
			"INTROSPECTION_AUDIENCE": harness.Audience, "INTROSPECTION_REQUIRED_SCOPE": "images",
		})
		services[method] = s
		upstream.RequireUser(t, "alice", s.Ask(got.Access))
		for name, token := range map[string]string{
			"a refresh token": got.Refresh, "a token bound to its sender": bound.Access, "a token of no user": robot.Access, "nonsense": "nonsense",
		} {
			assert.Equal(t, "unauthenticated", s.Ask(token).Code(), name)
		}
		assert.Regexp(t, `(?m)^introspection.*: ok`, s.AdminGet("/readyz"), "rejected tokens do not count as failures of the endpoint")
	}
	p.post("/token/revocation", "", url.Values{"client_id": {"opaque"}, "token": {got.Access}})
	for method, s := range services {
		assert.Equal(t, 401, s.Ask(got.Access).Status, "%s: revoked", method)
		assert.NotContains(t, s.Output(), "canary")
	}
}
