package harness

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// RedirectURI is where OpenID providers send a browser back to. Nothing listens there.
const RedirectURI = "https://app.example.com/callback"

// NewBrowser keeps cookies and follows redirects up to RedirectURI.
func NewBrowser(t testing.TB) *http.Client {
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

// SignIn is the authorization code flow with PKCE (RFC 7636), as a new browser and a page go through it, at
// a provider that signs in the user of login_hint. It returns the form that the token endpoint takes.
func SignIn(t testing.TB, authorize, clientID, scope, user string) url.Values {
	t.Helper()
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	resp, err := NewBrowser(t).Get(authorize + "?" + url.Values{
		"client_id": {clientID}, "redirect_uri": {RedirectURI}, "response_type": {"code"}, "scope": {scope}, "login_hint": {user},
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
		"grant_type": {"authorization_code"}, "client_id": {clientID}, "redirect_uri": {RedirectURI},
		"code": {page.Query().Get("code")}, "code_verifier": {verifier},
	}
}
