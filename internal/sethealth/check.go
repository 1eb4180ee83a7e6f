package sethealth

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// checkUser is who Check buys its token for.
const checkUser = "tokenvend-check"

// report is what State remembers of the last mint.
type report struct {
	when time.Time
	err  error
}

// Check buys one token. The error says what is wrong and how to mend it.
func (c *Client) Check(ctx context.Context) error {
	_, err := c.Issue(ctx, checkUser, 0)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrRejected):
		return fmt.Errorf("%w; check SETHEALTH_KEY and SETHEALTH_SECRET, and that the service account may mint tokens", err)
	case errors.Is(err, ErrInvalid):
		return fmt.Errorf("%w; check that SETHEALTH_URL is the API itself, and this machine's clock", err)
	default:
		return fmt.Errorf("%w; check SETHEALTH_URL, the name server, the way out of this network, and Sethealth's status", err)
	}
}

// State is one line on how the last mint went.
func (c *Client) State() string {
	last := c.last.Load()
	if last == nil {
		return "not asked yet"
	}
	ago := time.Since(last.when).Round(time.Second)
	if last.err == nil {
		return fmt.Sprintf("ok, last answer %v ago", ago)
	}
	breaker := ""
	if c.breaker.state() != breakerClosed {
		breaker = ", calls are held back"
	}
	return fmt.Sprintf("failing, %v ago: %v%s", ago, last.err, breaker)
}
