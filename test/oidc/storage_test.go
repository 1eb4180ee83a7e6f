package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

var errUnknown = errors.New("not known")

// storage is what the provider keeps: users' logins under way, tokens, keys. In memory, as little of it as
// the flows of these tests need.
type storage struct {
	mu       sync.Mutex
	logins   map[string]*login // by id and by code
	tokens   map[string]*grant
	refresh  map[string]*grant
	signing  *key
	verifies []op.Key
}

func newStorage() *storage {
	s := &storage{logins: map[string]*login{}, tokens: map[string]*grant{}, refresh: map[string]*grant{}}
	s.rotate()
	return s
}

// key is an ES256 key, which is its own public half for op.
type key struct {
	id      string
	private *ecdsa.PrivateKey
}

func (k *key) ID() string                                  { return k.id }
func (k *key) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k *key) Key() any                                    { return k.private }

type publicKey struct{ *key }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return &k.private.PublicKey }

// rotate signs with a new key from now on and retires the one before.
func (s *storage) rotate() {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // never: the curve is known
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signing = &key{rand.Text(), private}
	s.verifies = []op.Key{publicKey{s.signing}}
}

func (s *storage) SigningKey(context.Context) (op.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signing, nil
}

func (s *storage) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verifies, nil
}

func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

// login is an authorization request, from its beginning to the tokens.
type login struct {
	*oidc.AuthRequest
	id, user string
	at       time.Time
	// forAPI: op asks for the audience of the access token next, and then for that of the ID token, by
	// one and the same method.
	forAPI bool
}

func (l *login) GetID() string                      { return l.id }
func (l *login) GetACR() string                     { return "" }
func (l *login) GetAMR() []string                   { return []string{"pwd"} }
func (l *login) GetAuthTime() time.Time             { return l.at }
func (l *login) GetClientID() string                { return l.ClientID }
func (l *login) GetNonce() string                   { return l.Nonce }
func (l *login) GetRedirectURI() string             { return l.RedirectURI }
func (l *login) GetResponseType() oidc.ResponseType { return l.ResponseType }
func (l *login) GetResponseMode() oidc.ResponseMode { return l.ResponseMode }
func (l *login) GetScopes() []string                { return l.Scopes }
func (l *login) GetState() string                   { return l.State }
func (l *login) GetSubject() string                 { return l.user }
func (l *login) Done() bool                         { return l.user != "" }
func (l *login) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: l.CodeChallenge, Method: l.CodeChallengeMethod}
}

func (l *login) GetAudience() []string {
	if l.forAPI {
		l.forAPI = false
		return []string{audience}
	}
	return []string{l.ClientID}
}

func (s *storage) CreateAuthRequest(_ context.Context, r *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &login{AuthRequest: r, id: rand.Text()}
	s.logins[l.id] = l
	return l, nil
}

// signIn ends the user's part of a login, which needs no more than the hint.
func (s *storage) signIn(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins[id].user, s.logins[id].at = s.logins[id].LoginHint, time.Now()
}

func (s *storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.logins[id]; ok {
		return l, nil
	}
	return nil, errUnknown
}

func (s *storage) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	return s.AuthRequestByID(ctx, "code "+code)
}

func (s *storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins["code "+code] = s.logins[id]
	return nil
}

func (s *storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, l := range s.logins {
		if l.id == id {
			delete(s.logins, name)
		}
	}
	return nil
}

// grant is what a user, or a client for itself, has been granted.
type grant struct {
	client, user string
	scopes       []string
	ends, at     time.Time
}

func (g *grant) GetAMR() []string          { return []string{"pwd"} }
func (g *grant) GetAudience() []string     { return []string{audience} }
func (g *grant) GetAuthTime() time.Time    { return g.at }
func (g *grant) GetClientID() string       { return g.client }
func (g *grant) GetScopes() []string       { return g.scopes }
func (g *grant) GetSubject() string        { return g.user }
func (g *grant) SetCurrentScopes([]string) {}

func (s *storage) CreateAccessToken(_ context.Context, r op.TokenRequest) (id string, ends time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &grant{user: r.GetSubject(), scopes: r.GetScopes(), at: time.Now(), ends: time.Now().Add(5 * time.Minute)}
	switch r := r.(type) {
	case *login:
		g.client = r.ClientID
		r.forAPI = clients[r.ClientID].AccessTokenType() == op.AccessTokenTypeJWT
	case *grant:
		g.client = r.client
	}
	id = rand.Text()
	s.tokens[id] = g
	return id, g.ends, nil
}

func (s *storage) CreateAccessAndRefreshTokens(ctx context.Context, r op.TokenRequest, before string) (id, refresh string, ends time.Time, err error) {
	id, ends, err = s.CreateAccessToken(ctx, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refresh, before)
	refresh = rand.Text()
	s.refresh[refresh] = s.tokens[id]
	return id, refresh, ends, err
}

func (s *storage) TokenRequestByRefreshToken(_ context.Context, refresh string) (op.RefreshTokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.refresh[refresh]; ok {
		return g, nil
	}
	return nil, errUnknown
}

func (s *storage) TerminateSession(context.Context, string, string) error { return nil }

func (s *storage) RevokeToken(_ context.Context, id, _, client string) *oidc.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.tokens[id]; ok && g.client != client {
		return oidc.ErrInvalidClient()
	}
	delete(s.tokens, id)
	return nil
}

func (s *storage) GetRefreshTokenInfo(context.Context, string, string) (user, id string, err error) {
	return "", "", op.ErrInvalidRefreshToken
}

func (s *storage) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	if err := s.AuthorizeClientIDSecret(ctx, id, secret); err != nil {
		return nil, err
	}
	return clients[id], nil
}

func (s *storage) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	return &grant{client: id, user: id, scopes: scopes}, nil
}

func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if c, ok := clients[id]; ok {
		return c, nil
	}
	return nil, errUnknown
}

func (s *storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if c, ok := clients[id]; ok && c.secret != "" && c.secret == secret {
		return nil
	}
	return errUnknown
}

// SetIntrospectionFromToken answers a resource server that may ask (RFC 7662). An error is active: false.
func (s *storage) SetIntrospectionFromToken(_ context.Context, answer *oidc.IntrospectionResponse, id, user, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.tokens[id]
	if !ok || g.ends.Before(time.Now()) {
		return errUnknown
	}
	answer.Subject, answer.Scope, answer.ClientID, answer.TokenType = user, g.scopes, g.client, oidc.BearerToken
	answer.Audience, answer.Expiration = []string{audience}, oidc.FromTime(g.ends)
	return nil
}

func (s *storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

func (s *storage) SetUserinfoFromToken(context.Context, *oidc.UserInfo, string, string, string) error {
	return nil
}

func (s *storage) GetPrivateClaimsFromScopes(_ context.Context, _, _ string, scopes []string) (map[string]any, error) {
	if slices.Contains(scopes, "images") {
		return map[string]any{"roles": []string{"viewer"}}, nil
	}
	return nil, nil
}

func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errUnknown
}

func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errUnknown
}

func (s *storage) Health(context.Context) error { return nil }
