package app

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/ratelimit"
	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/telemetry"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

// newClient is the way to Sethealth.
func (a *app) newClient(credentials *sethealth.Credentials, build telemetry.Build, userID sethealth.UserID) (*sethealth.Client, error) {
	c := a.config
	return sethealth.New(sethealth.Options{
		URL: c.SethealthURL, Credentials: credentials, UserID: userID, TestMode: c.SethealthTestMode,
		TTL: c.TokenTTL, Timeout: c.SethealthTimeout, AttemptTimeout: c.SethealthAttemptTimeout, MaxRetries: c.SethealthMaxRetries,
		UserAgent: "tokenvend/" + build.Version, Logger: a.log, Registerer: a.registry, Tracer: a.tracing.Tracer(),
	})
}

// newIssuer stacks the caches on the client, and makes the limiter, which shares Redis with them.
func (a *app) newIssuer(credentials *sethealth.Credentials, build telemetry.Build) (sethealth.Issuer, api.Limiter, error) {
	c := a.config
	client, err := a.newClient(credentials, build, sethealth.UserID(c.TokenUserID))
	if err != nil {
		return nil, nil, err
	}
	a.depend("sethealth", client)
	a.closers = append(a.closers, client.Close)

	var source sethealth.Issuer = client
	var limit ratelimit.Shared
	if c.TokenCache == "redis" {
		if source, limit, err = a.share(client, credentials); err != nil {
			return nil, nil, err
		}
	}
	size := c.TokenCacheSize
	if c.TokenCache == "off" {
		size = 0
	}
	cache, err := tokencache.New(tokencache.Options{
		Source: source, TTL: c.TokenTTL, MinLife: c.TokenMinLife, Size: size,
		Account: credentials.Account, Logger: a.log, Registerer: a.registry,
	})
	if err != nil {
		return nil, nil, err
	}
	a.closers = append(a.closers, cache.Close)
	limiter, err := a.newLimiter(limit)
	return cache, limiter, err
}

// share puts Redis between the cache and the client, and under the limit.
func (a *app) share(client *sethealth.Client, credentials *sethealth.Credentials) (sethealth.Issuer, ratelimit.Shared, error) {
	c := a.config
	redis, err := redisx.New(redisx.Options{URL: c.RedisURL.Var, Logger: a.log, Registerer: a.registry})
	if err != nil {
		return nil, nil, err
	}
	a.depend("redis", redis)
	a.closers = append(a.closers, redis.Close)
	// What two replicas must have in common to share: all that a token depends on.
	space := redisx.NewSpace(credentials, c.SethealthURL, c.TokenTTL.String(), c.TokenUserID, strconv.FormatBool(c.SethealthTestMode))
	limit := ratelimit.NewRedis(redis, space)
	if c.TokenTTL == 0 { // tokens whose end nobody knows cannot be shared
		return client, limit, nil
	}
	shared, err := tokencache.NewShared(tokencache.SharedOptions{
		Source: client, Redis: redis, Space: space, Timeout: c.SethealthTimeout, Logger: a.log, Registerer: a.registry,
	})
	if err != nil {
		return nil, nil, err
	}
	a.closers = append(a.closers, shared.Close)
	return shared, limit, nil
}

func (a *app) newLimiter(shared ratelimit.Shared) (api.Limiter, error) {
	c := a.config
	if c.RateLimit.N == 0 {
		return nil, nil
	}
	return ratelimit.New(ratelimit.Options{
		Burst: c.RateLimit.N, Period: c.RateLimit.Per, Size: c.TokenCacheSize, Registerer: a.registry, Shared: shared,
	})
}

// newSessions builds the checks of SESSION_CHECK, in its order.
func (a *app) newSessions() (*auth.Chain, error) {
	var checks []auth.Named
	a.lifecycle = &api.Lifecycle{Ready: func() bool { return true }}
	for _, name := range a.config.SessionCheck {
		check, err := a.newSession(name)
		if err != nil {
			return nil, fmt.Errorf("app: session check %s: %w", name, err)
		}
		checks = append(checks, auth.Named{Name: name, Authenticator: check})
	}
	return auth.NewChain(auth.ChainOptions{Checks: checks, Registerer: a.registry, Tracer: a.tracing.Tracer()}), nil
}

func (a *app) newSession(name string) (auth.Authenticator, error) {
	switch name {
	case "jwt":
		return a.newJWT()
	case "forward":
		return a.newForward()
	case "introspection":
		return a.newIntrospection()
	default:
		return auth.NewProxy(auth.ProxyOptions{UserHeader: a.config.ProxyUserHeader, TrustedProxies: a.config.TrustedProxies})
	}
}

func (a *app) newJWT() (auth.Authenticator, error) {
	c := a.config
	audiences := []string(c.JWTAudience)
	if audiences[0] == "any" {
		audiences = nil
	}
	jwt, err := auth.NewJWT(auth.JWTOptions{
		Issuer: c.JWTIssuer, JWKSURL: c.JWTJWKSURL, PublicKey: c.JWTPublicKey.Var, Secret: c.JWTSecret.Var,
		Audiences: audiences, Algorithms: c.JWTAlgorithms, Cookie: c.JWTCookie, Header: c.JWTHeader,
		SubjectClaim: c.JWTSubjectClaim, RequiredClaims: c.JWTRequiredClaims, Leeway: c.JWTLeeway, Remember: c.TokenCacheSize,
		Logger: a.log, Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	a.depend("jwt", jwt)
	a.lifecycle.Ready = jwt.Ready
	a.background = append(a.background, jwt.Run)
	return jwt, nil
}

func (a *app) newForward() (auth.Authenticator, error) {
	c := a.config
	forward, err := auth.NewForward(auth.ForwardOptions{
		URL: c.ForwardURL, Cookies: c.ForwardCookies, UserHeader: c.ForwardUserHeader, UserField: c.ForwardUserField,
		Timeout: c.ForwardTimeout, CacheTTL: c.ForwardCacheTTL, Remember: c.TokenCacheSize, ClientIP: api.ClientIP, Scheme: api.Scheme(c.TrustedProxies), Inject: a.tracing.Inject, Logger: a.log, Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	a.depend("forward", forward)
	return forward, nil
}

func (a *app) newIntrospection() (auth.Authenticator, error) {
	c := a.config
	introspection, err := auth.NewIntrospection(auth.IntrospectionOptions{
		URL: c.IntrospectionURL, ClientID: c.IntrospectionClientID, ClientSecret: c.IntrospectionClientSecret.Var,
		Inject: a.tracing.Inject, RequiredScope: c.IntrospectionRequiredScope, Audience: c.IntrospectionAudience, SubjectField: c.IntrospectionSubjectField,
		Timeout: c.IntrospectionTimeout, CacheTTL: c.IntrospectionCacheTTL, Remember: c.TokenCacheSize, Logger: a.log, Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	a.depend("introspection", introspection)
	return introspection, nil
}

// depend takes up a system that `tokenvend check` reaches and the admin listener tells of.
func (a *app) depend(name string, on interface {
	Check(context.Context) error
	State() string
},
) {
	a.dependencies = append(a.dependencies, dependency{name: name, check: on.Check, state: on.State})
}
