package auth_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

func TestDiscovery(t *testing.T) {
	t.Parallel()
	document := func(issuer, uri string) string {
		return fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q,"x":[1]}`, issuer, uri)
	}
	for _, test := range []struct{ name, issuer, document, says string }{
		{"the document's set is used", issuer, "\ufeff" + document(issuer, keysURL), ""},
		{"an issuer with a slash", issuer + "/", document(issuer+"/", keysURL), ""},
		{"plain http at a host that is listed", "http://keycloak:8080", document("http://keycloak:8080", "http://keycloak:8080/keys"), ""},
		{"another issuer", issuer, document("https://canary.example", keysURL), "the document's issuer is not JWT_ISSUER"},
		{"a trailing slash too many", issuer, document(issuer+"/", keysURL), "differs from JWT_ISSUER in its trailing slash"},
		{"keys without TLS", issuer, document(issuer, "http://issuer.example/keys"), "https"},
		{"no keys", issuer, document(issuer, ""), "https"},
		{"no document", issuer, "<html>canary", "JSON"},
		{"issuer twice", issuer, `{"issuer":"https://evil.example",` + document(issuer, keysURL)[1:], "JSON"},
		{"many tenants by a placeholder", "https://login.example/x", document("https://login.example/{tenantid}", keysURL), "list the issuers of the tenants"},
		{"many tenants by the path", "https://login.example/consumers/v2.0", document("https://login.example/9188040d/v2.0", keysURL), "list the issuers of the tenants"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &provider{discovery: test.document, document: jwks("a", &rsaKey().PublicKey)}
			j := newJWT(t, func(o *options) {
				o.Issuers, o.Transport, o.InsecureHTTPHosts = setting.List{test.issuer}, p, setting.List{"keycloak"}
			})
			requireCheck(t, j, test.says)
			if test.says != "" {
				assert.Equal(t, 1, p.count(), "the address is not fetched")
				return
			}
			expect(t, j, withBearer(sign(jose.RS256, rsaKey(), kid("a"), good(claims{"iss": test.issuer}))), nil)
			assert.Equal(t, 1, p.asked[strings.TrimSuffix(test.issuer, "/")+"/.well-known/openid-configuration"])
			assert.Equal(t, 2, p.count())
			expectSoon(t, j, withBearer(sign(jose.RS256, rsaKey(), kid("b"), good(claims{"iss": test.issuer}))), auth.ErrUnauthenticated)
			assert.Equal(t, 4, p.count(), "an unknown kid causes a fetch, of the document too")
		})
	}
}

func TestCheckNamesAddressesThatCannotWork(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		iss, jwks string
		answers   transport
		says      string
	}{
		{"https://login.example/common/v2.0", "", answering(503, ""), "list the issuers of the tenants"},
		{"https://login.example/common/v2.0", keysURL, answering(200, jwks("a", &rsaKey().PublicKey)), "list the issuers of the tenants"},
		{issuer, "", answering(301, "", "Location", "https://canary.example"), "redirects (status 301)"},
		{issuer, keysURL, answering(302, "", "Location", "https://canary.example"), "final address; check JWT_JWKS_URL"},
		{"https://login.example/commons", "", answering(404, ""), "discovery: it answers with status 404; check JWT_ISSUER"},
	} {
		requireCheck(t, newJWT(t, func(o *options) {
			o.Issuers, o.JWKSURL, o.Transport = setting.List{test.iss}, test.jwks, test.answers
		}), test.says)
	}
	given := newJWT(t, func(o *options) {
		o.Secret, o.Issuers = static("JWT_SECRET", hmacKey), setting.List{"https://login.example/common/v2.0"}
	})
	requireCheck(t, given, "list the issuers of the tenants")
}
