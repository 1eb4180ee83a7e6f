package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sethealth/tokenvend/internal/auth"
)

// says is a check that always says the same.
type says struct {
	user string
	err  error
}

func (s says) Authenticate(*http.Request) (auth.Identity, error) {
	return auth.Identity{Subject: s.user}, s.err
}

// never is a check that must not be asked.
type never struct{ t *testing.T }

func (n never) Authenticate(*http.Request) (auth.Identity, error) {
	n.t.Error("a check was asked after another had decided")
	return auth.Identity{}, auth.ErrNoCredential
}

func TestTheFirstCheckWhoseCredentialIsThereDecides(t *testing.T) {
	t.Parallel()
	odd := errors.New("odd")
	for _, test := range []struct {
		name    string
		first   says
		want    error
		outcome string
	}{
		{"yes", says{user: "alice"}, nil, "ok"},
		{"a bad credential", says{user: "alice", err: fmt.Errorf("%w: x", auth.ErrUnauthenticated)}, auth.ErrUnauthenticated, "unauthenticated"},
		{"not entitled", says{err: auth.ErrForbidden}, auth.ErrForbidden, "forbidden"},
		{"an outage", says{err: auth.ErrUnavailable}, auth.ErrUnavailable, "unavailable"},
		{"an error of no known kind fails closed", says{user: "alice", err: odd}, auth.ErrUnavailable, "unavailable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			c := auth.NewChain(auth.ChainOptions{Registerer: reg, Tracer: noop.Tracer{}, Checks: []auth.Named{
				{Name: "absent", Authenticator: says{err: auth.ErrNoCredential}},
				{Name: "decides", Authenticator: test.first},
				{Name: "later", Authenticator: never{t}},
			}})
			id, err := c.Authenticate(request())
			require.ErrorIs(t, err, test.want)
			assert.Equal(t, "decides", id.Check, "named on errors too")
			if err != nil {
				assert.Empty(t, id.Subject, "no user comes with an error")
			}
			assert.Equal(t, map[string]float64{"decides/" + test.outcome: 1}, counted(t, reg))
			n, err := testutil.GatherAndCount(reg, "tokenvend_session_check_duration_seconds")
			require.NoError(t, err)
			assert.Equal(t, 3, n, "a series for each check from the start")
		})
	}
}

func TestWithoutACredentialNoCheckIsNamed(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	c := auth.NewChain(auth.ChainOptions{Registerer: reg, Checks: []auth.Named{{Name: "jwt", Authenticator: newJWT(t, withSecret)}}})
	id, err := c.Authenticate(request("Authorization", "Basic eDp5"))
	require.ErrorIs(t, err, auth.ErrNoCredential)
	assert.Zero(t, id)
	assert.Equal(t, map[string]float64{"none/no_credential": 1}, counted(t, reg))
}

func TestABearerDecidesAtTheFirstCheckForBearers(t *testing.T) {
	t.Parallel()
	c := auth.NewChain(auth.ChainOptions{Registerer: prometheus.NewRegistry(), Checks: []auth.Named{
		{Name: "jwt", Authenticator: newJWT(t, withSecret)},
		{Name: "introspection", Authenticator: never{t}},
	}})
	id, err := c.Authenticate(withBearer("opaque"))
	require.ErrorIs(t, err, auth.ErrUnauthenticated)
	assert.Equal(t, "jwt", id.Check)
}

// counted is the session checks that were counted, by "check/outcome".
func counted(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "tokenvend_session_checks_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if v := m.GetCounter().GetValue(); v != 0 {
				got[strings.Join(labels, "/")] = v
			}
		}
	}
	return got
}

func TestTheChainMakesOneSpanThatNamesNobody(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	var inner trace.SpanContext
	f := newForward(t, func(o *auth.ForwardOptions) {
		o.Inject = func(ctx context.Context, _ http.Header) { inner = trace.SpanContextFromContext(ctx) }
	})
	c := auth.NewChain(auth.ChainOptions{
		Registerer: prometheus.NewRegistry(), Tracer: provider.Tracer("test"),
		Checks: []auth.Named{{Name: "forward", Authenticator: f}},
	})
	_, err := c.Authenticate(request("Cookie", "session=canary"))
	require.NoError(t, err)
	require.Len(t, spans.Ended(), 1)
	span := spans.Ended()[0]
	assert.Equal(t, "session check", span.Name())
	assert.Equal(t, span.SpanContext().SpanID(), inner.SpanID(), "what a check asks is within the span")
	attributes := fmt.Sprint(span.Attributes())
	assert.Contains(t, attributes, "forward")
	assert.Contains(t, attributes, "ok")
	assert.NotContains(t, attributes, "alice")
	assert.NotContains(t, attributes, "canary")
}
