package app

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/secret"
)

// certificate is the TLS pair of the public listener. A renewed pair is taken up as soon as both of its
// files fit together; until then the old pair serves.
type certificate struct {
	chain, key secret.Source
	pair       atomic.Pointer[tls.Certificate]
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
	pair, err := tls.X509KeyPair([]byte(chain.Get().Reveal()), []byte(key.Get().Reveal()))
	if err != nil {
		return nil, err
	}
	c := &certificate{chain: chain, key: key}
	c.pair.Store(&pair)
	// Both files as they are now: either one alone says nothing.
	renew := func(string) error {
		pair, err := tls.LoadX509KeyPair(chainFile, keyFile)
		if err != nil {
			return errors.New("the certificate and the key are not a pair") // the library's own error may quote the file
		}
		c.pair.Store(&pair)
		return nil
	}
	chain.SetValidator(renew)
	key.SetValidator(renew)
	return c, nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil },
	}
}

// expiry exports when the certificate in use ends.
func (c *certificate) expiry() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_tls_certificate_expiry_timestamp_seconds",
		Help: "When the TLS certificate in use ends, in Unix time.",
	}, func() float64 { return float64(c.pair.Load().Leaf.NotAfter.UnixNano()) / float64(time.Second) })
}
