package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/strictjson"
)

const listTenants = "list the issuers of the tenants, comma separated, instead of an address for many tenants"

var errManyTenants = errors.New("JWT_ISSUER is for many tenants: " + listTenants)

// get fetches the key set, whose address comes from JWT_JWKS_URL or discovery.
func (s *keyServer) get(ctx context.Context) (*keySet, error) {
	address, err := s.JWKSURL, error(nil)
	if address == "" {
		if address, err = s.discover(ctx); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
	}
	body, err := s.load(ctx, address)
	if err != nil {
		return nil, err
	}
	return parseJWKS(body, s.allowed)
}

// discover returns the key set's address (OpenID Connect Discovery 1.0, section 4).
func (s *keyServer) discover(ctx context.Context) (string, error) {
	body, err := s.load(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	document, err := strictjson.Object(bytes.TrimPrefix(body, []byte("\ufeff")))
	if err != nil {
		return "", errors.New("the document is not a valid JSON object")
	}
	named, _ := document["issuer"].(string)
	switch address, _ := document["jwks_uri"].(string); {
	case named != s.issuer && manyTenants(s.issuer, named):
		return "", errManyTenants
	case strings.TrimSuffix(named, "/") == strings.TrimSuffix(s.issuer, "/") && named != s.issuer:
		return "", errors.New("the document's issuer differs from JWT_ISSUER in its trailing slash")
	case named != s.issuer:
		return "", errors.New("the document's issuer is not JWT_ISSUER")
	case setting.CheckURL(address, s.InsecureHTTPHosts) != nil:
		return "", errors.New("the document's jwks_uri is not an https:// URL (http:// only for a host of INSECURE_HTTP_HOSTS)")
	default:
		return address, nil
	}
}

// manyTenants reports whether tenants share an issuer's address, such as Microsoft's /common. The discovery document
// of such an address names an issuer with a placeholder.
func manyTenants(iss, named string) bool {
	return strings.Contains(named, "{") || sharedByTenants.MatchString(iss)
}

var sharedByTenants = regexp.MustCompile(`^[^/]+//[^/]+/(common|organizations|consumers)(/|$)`)

func (s *keyServer) load(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("its address is not a URL")
	}
	req.Header = http.Header{"Accept": {"application/json"}, "User-Agent": {s.UserAgent}}
	switch answer, err := s.client.Ask(req); {
	case err != nil:
		return nil, err
	case answer.Status/100 == 3:
		return nil, fmt.Errorf("it redirects (status %d), and redirects are not followed; configure the final address", answer.Status)
	case answer.Status != http.StatusOK:
		return nil, fmt.Errorf("it answers with status %d", answer.Status)
	default:
		return answer.Body, nil
	}
}
