package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/secret"
)

// certificate is the TLS pair of the public listener. A renewed pair is taken up as soon as both of its
// files fit together; until then the old pair serves.
type certificate struct {
	chain, key secret.Source

	mu                 sync.Mutex
	chainSeen, keySeen secret.Value
	pair               *tls.Certificate
}

func newCertificate(chainFile, keyFile string) (*certificate, error) {
	chain, err := secret.FromFile("TLS_CERT_FILE", chainFile)
	if err != nil {
		return nil, err
	}
	key, err := secret.FromFile("TLS_KEY_FILE", keyFile)
	if err != nil {
		return nil, err
	}
	c := &certificate{chain: chain, key: key}
	if _, err = c.current(); err != nil {
		return nil, err
	}
	// Both files as they are now: either one alone says nothing.
	fits := func(string) error {
		if _, err := tls.LoadX509KeyPair(chainFile, keyFile); err != nil {
			return errPair // the library's own may quote the file
		}
		return nil
	}
	chain.SetValidator(fits)
	key.SetValidator(fits)
	return c, nil
}

var errPair = errors.New("the certificate and the key are not a pair")

// current is the newest pair that fits together. It fails only if there never was one.
func (c *certificate) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	chain, key := c.chain.Get(), c.key.Get()
	if chain == c.chainSeen && key == c.keySeen {
		return c.pair, nil
	}
	pair, err := tls.X509KeyPair([]byte(chain.Reveal()), []byte(key.Reveal()))
	if err == nil {
		c.pair, c.chainSeen, c.keySeen = &pair, chain, key
	} else if c.pair == nil {
		return nil, fmt.Errorf("app: TLS pair: %w", err)
	}
	return c.pair, nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current() },
	}
}

// register exports when the certificate in use ends.
func (c *certificate) register(reg prometheus.Registerer) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_tls_certificate_expiry_timestamp_seconds",
		Help: "When the TLS certificate in use ends, in Unix time.",
	}, func() float64 {
		pair, err := c.current()
		if err != nil || pair.Leaf == nil {
			return 0
		}
		return float64(pair.Leaf.NotAfter.UnixNano()) / float64(time.Second)
	}))
}
