//go:build !race

// The race detector changes what is allocated, so these tests are left out of builds with it; `make test`
// runs them once more without it.

package telemetry_test

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

func TestALineAllocatesNothingOfItsOwn(t *testing.T) {
	log := telemetry.NewLogger(io.Discard, 0, "json")
	now := time.Now()
	each := testing.AllocsPerRun(1000, func() {
		line := log.Line(0, now, "request")
		line.String("request_id", "0123456789")
		line.Int("status", 200)
		line.Seconds("duration", time.Millisecond)
		line.Write()
	})
	assert.LessOrEqual(t, each, 1.0, "the group that it is written with")
}
