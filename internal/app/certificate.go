package app

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// certificate is the TLS pair of the public listener. A renewed pair is taken up as soon as both of its
// files fit together; until then the old pair serves.
type certificate struct {
	chain, key secret.Source
	pair       atomic.Pointer[tls.Certificate]
}

// newCertificate reads the pair, and follows its files. It is nil if there are problems.
func newCertificate(p *setting.Problems, chainFile, keyFile string) *certificate {
	c := &certificate{chain: openFile(p, "TLS_CERT_FILE", chainFile), key: openFile(p, "TLS_KEY_FILE", keyFile)}
	if !c.take(p, c.chain, c.key) {
		return nil
	}
	// Both files as they are now: either one alone says nothing.
	renew := func(string) error {
		var p setting.Problems
		if !c.take(&p, openFile(&p, "TLS_CERT_FILE", chainFile), openFile(&p, "TLS_KEY_FILE", keyFile)) {
			return errors.New("the certificate and the key are not a pair")
		}
		return nil
	}
	c.chain.SetValidator(renew)
	c.key.SetValidator(renew)
	return c
}

// take makes the two the pair that serves, or names each that is wrong: the library's own error may quote a file.
func (c *certificate) take(p *setting.Problems, chainFile, keyFile secret.Source) bool {
	chain, key := []byte(chainFile.Get().Reveal()), []byte(keyFile.Get().Reveal())
	pair, err := tls.X509KeyPair(chain, key)
	if err == nil {
		c.pair.Store(&pair)
		return true
	}
	if !x509.NewCertPool().AppendCertsFromPEM(chain) {
		p.Add("TLS_CERT_FILE", "must name a PEM certificate chain")
	}
	if !p.Has("TLS_CERT_FILE") || !bytes.Contains(key, []byte("PRIVATE KEY-----")) {
		p.Add("TLS_KEY_FILE", "must name the PEM key of the certificate in TLS_CERT_FILE, without a password")
	}
	return false
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
