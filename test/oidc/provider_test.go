// Package oidc_test drives the built binary against a certified OpenID provider that runs in this process.
package oidc_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/sethealth/tokenvend/test/harness"
)

const (
	audience     = harness.Audience
	clientSecret = "canary-client: secret/+%" // must survive its form-encoding inside Basic
)

// client is registered with the provider.
type client struct {
	op.Client // only what follows is ever asked
	id        string
	secret    string
	tokens    op.AccessTokenType
	grants    []oidc.GrantType
}

var clients = map[string]*client{
	"viewer":    {id: "viewer", tokens: op.AccessTokenTypeJWT, grants: []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}},
	"opaque":    {id: "opaque", tokens: op.AccessTokenTypeBearer, grants: []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}},
	"robot":     {id: "robot", secret: clientSecret, tokens: op.AccessTokenTypeJWT, grants: []oidc.GrantType{oidc.GrantTypeClientCredentials}},
	"tokenvend": {id: "tokenvend", secret: clientSecret},
}

func (c *client) GetID() string                       { return c.id }
func (c *client) RedirectURIs() []string              { return []string{redirectURI} }
func (c *client) ApplicationType() op.ApplicationType { return op.ApplicationTypeUserAgent }
func (c *client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c *client) GrantTypes() []oidc.GrantType         { return c.grants }
func (c *client) LoginURL(id string) string            { return "/login?id=" + id }
func (c *client) AccessTokenType() op.AccessTokenType  { return c.tokens }
func (c *client) IDTokenLifetime() time.Duration       { return 5 * time.Minute }
func (c *client) DevMode() bool                        { return false }
func (c *client) IsScopeAllowed(scope string) bool     { return scope == "images" }
func (c *client) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c *client) ClockSkew() time.Duration             { return 0 }
func (c *client) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}

func (c *client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return c.RestrictAdditionalIdTokenScopes()
}

func (c *client) AuthMethod() oidc.AuthMethod {
	if c.secret == "" {
		return oidc.AuthMethodNone // a page: PKCE in place of a secret
	}
	return oidc.AuthMethodBasic
}

// provider is the OpenID provider.
type provider struct {
	*harness.Site
	t       testing.TB
	storage *storage
	fetches atomic.Int64 // how often the key set was asked for
}

// newProvider makes one that answers once it is Up.
func newProvider(t testing.TB) *provider {
	t.Helper()
	mux := http.NewServeMux()
	p := &provider{Site: harness.NewSite(t, mux), t: t, storage: newStorage()}
	config := &op.Config{CodeMethodS256: true, GrantTypeRefreshToken: true}
	_, _ = rand.Read(config.CryptoKey[:])
	standard, err := op.NewProvider(config, p.storage, op.StaticIssuer(p.URL), op.WithAllowInsecure())
	require.NoError(t, err)
	mux.Handle("/", standard)
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		standard.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		p.storage.signIn(r.FormValue("id"))
		http.Redirect(w, r, op.AuthCallbackURL(standard)(op.ContextWithIssuer(r.Context(), p.URL), r.FormValue("id")), http.StatusFound)
	})
	return p
}

// tokens are the answer of the token endpoint.
type tokens struct {
	Access  string `json:"access_token"`
	ID      string `json:"id_token"`
	Refresh string `json:"refresh_token"`
}

func (p *provider) signIn(clientID, user string) tokens {
	p.t.Helper()
	return p.token(signIn(p.t, p.URL+"/authorize", clientID, "openid offline_access images", user))
}

func (p *provider) token(form url.Values) (got tokens) {
	p.t.Helper()
	resp, err := http.PostForm(p.URL+"/oauth/token", form)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, resp.StatusCode, string(body))
	require.NoError(p.t, json.Unmarshal(body, &got))
	return got
}

func (p *provider) robot() string {
	p.t.Helper()
	return p.token(url.Values{"grant_type": {"client_credentials"}, "client_id": {"robot"}, "client_secret": {clientSecret}, "scope": {"images"}}).Access
}

func (p *provider) revoke(clientID, token string) {
	p.t.Helper()
	resp, err := http.PostForm(p.URL+"/revoke", url.Values{"client_id": {clientID}, "token": {token}, "token_type_hint": {"access_token"}})
	require.NoError(p.t, err)
	defer resp.Body.Close()
	require.Equal(p.t, http.StatusOK, resp.StatusCode)
}

// sign makes a token with the provider's own key, as a provider of other habits would.
func (p *provider) sign(typ, keyID string, claims map[string]any) string {
	p.t.Helper()
	current, err := p.storage.SigningKey(context.Background())
	require.NoError(p.t, err)
	if keyID == "" {
		keyID = current.ID()
	}
	return harness.Sign(p.t, jose.ES256, jose.JSONWebKey{Key: current.Key(), KeyID: keyID}, claims, "typ", typ)
}

func (p *provider) claims(user string) map[string]any {
	return map[string]any{"iss": p.URL, "aud": audience, "sub": user, "exp": time.Now().Add(5 * time.Minute).Unix(), "iat": time.Now().Unix()}
}

// redirectURI is where OpenID providers send a browser back to. Nothing listens there.
const redirectURI = "https://app.example.com/callback"

// newBrowser keeps cookies and follows redirects up to redirectURI.
func newBrowser(t testing.TB) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if next.URL.Host == "app.example.com" {
			return http.ErrUseLastResponse
		}
		return nil
	}}
}

// signIn is the authorization code flow with PKCE (RFC 7636), as a new browser and a page go through it, at
// a provider that signs in the user of login_hint. It returns the form that the token endpoint takes.
func signIn(t testing.TB, authorize, clientID, scope, user string) url.Values {
	t.Helper()
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	resp, err := newBrowser(t).Get(authorize + "?" + url.Values{
		"client_id": {clientID}, "redirect_uri": {redirectURI}, "response_type": {"code"}, "scope": {scope}, "login_hint": {user},
		"state": {state}, "nonce": {rand.Text()}, "code_challenge_method": {"S256"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])},
	}.Encode())
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	page, err := resp.Location()
	require.NoError(t, err, "%d %s", resp.StatusCode, body)
	require.Equal(t, state, page.Query().Get("state"))
	return url.Values{
		"grant_type": {"authorization_code"}, "client_id": {clientID}, "redirect_uri": {redirectURI},
		"code": {page.Query().Get("code")}, "code_verifier": {verifier},
	}
}
