package fleet_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/harness"
)

// Each replica has the new secret at another moment, and each secret is a world of its own in Redis.
func TestARollingRotationOfTheServiceAccountIsNoticedByNobodyWithAToken(t *testing.T) {
	t.Parallel()
	const next = "canary-secret-next-5b7a"
	f := newFleet(t, redistest.Start(t), 0, harness.Env{"SETHEALTH_SECRET": "-"})
	var files [2]string
	for i := range files {
		files[i] = filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(files[i], []byte(harness.Secret), 0o600))
		f.replicas = append(f.replicas, f.start(harness.Env{"SETHEALTH_SECRET_FILE": files[i]}))
	}
	first, second := f.replicas[0], f.replicas[1]
	f.requireShares(first, second)
	served(t, f.sethealth, first, "alice")
	served(t, f.sethealth, second, "alice")

	require.NoError(t, os.WriteFile(files[0], []byte(next), 0o600))
	f.sethealth.SetCredentials(secret.New(harness.Key), secret.New(next))
	assert.Equal(t, "minted", served(t, f.sethealth, first, "bob"), "a refusal has the file read again at once")
	assert.Equal(t, "upstream_rejected", second.Ask(harness.Session(t, "bob")).Code(), "its file is still the old one")
	for _, s := range f.replicas {
		assert.Equal(t, "cache", served(t, f.sethealth, s, "alice"), "of the old account, and valid")
	}
	require.NoError(t, os.WriteFile(files[1], []byte(next), 0o600))
	harness.Eventually(t, soon, "the second one has it too", func() bool { return second.Ask(harness.Session(t, "carol")).Status == 200 })
	f.requireShares(first, second)
	for _, s := range f.replicas {
		assert.Equal(t, "cache", served(t, f.sethealth, s, "alice"))
		assert.Zero(t, s.Metric("tokenvend_shared_tampered_total"), "entries under the old secret are not met")
		assert.NotContains(t, s.Output(), "canary-secret")
	}
}
