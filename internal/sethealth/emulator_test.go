package sethealth_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

// emulated is a client in front of a strict emulator, over a real connection.
func emulated(t *testing.T) (*sethealth.Client, *emulator.Emulator) {
	f := defaults()
	e := emulator.New(emulator.Options{Key: f.Key.Get(), Secret: f.Secret.Get(), Strict: true})
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	f.URL = server.URL
	return f.client(t), e
}

func TestTheStrictEmulatorAcceptsTheClient(t *testing.T) {
	c, e := emulated(t)
	token, err := c.Issue(t.Context(), anna, nothing)
	require.NoError(t, err)
	claims, ok := e.Verify(token.Value.Reveal())
	require.True(t, ok)
	assert.Equal(t, "anna", claims.User)
	assert.False(t, token.Expires.After(claims.Expires), "the end is overstated")
	assert.WithinDuration(t, claims.Expires, token.Expires, 5*time.Second)
	assert.Equal(t, emulator.Request{User: "anna", ExpiresIn: time.Hour, UserAgent: "tokenvend/test"}, e.State().Last)
	require.NoError(t, c.Check(t.Context()))
	assert.Equal(t, 1, e.CallsFor("tokenvend-check"))
}

func TestARedirectNeverCarriesTheSecretElsewhere(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the target was asked")
	}))
	defer target.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		c, e := emulated(t)
		e.Set(emulator.Fault{Play: func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, target.URL+"/token", status)
			return true
		}})
		_, err := c.Issue(t.Context(), anna, nothing)
		require.ErrorIs(t, err, sethealth.ErrInvalid)
		assert.NotContains(t, err.Error(), target.URL)
	}
}
