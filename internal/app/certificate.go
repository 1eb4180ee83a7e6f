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

// certificate is the TLS pair of the public listener. A renewed pair is used as soon as both files match; until then
// the old pair serves.
type certificate struct {
	chain, key secret.Source
	pair       atomic.Pointer[tls.Certificate]
}

// newCertificate reads the pair and follows its files. It returns nil if there are problems.
func newCertificate(p *setting.Problems, chainFile, keyFile string) *certificate {
	c := &certificate{chain: openFile(p, "TLS_CERT_FILE", chainFile), key: openFile(p, "TLS_KEY_FILE", keyFile)}
	if !c.take(p, c.chain, c.key) {
		return nil
	}
	// Read both files anew: each may have changed since the watcher read it.
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

// take starts to use the pair, or names each file that is wrong. The library's error may quote a file, so it is not
// shown.
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

// expiry exports when the certificate in use expires.
func (c *certificate) expiry() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenvend_tls_certificate_expiry_timestamp_seconds",
		Help: "When the TLS certificate in use expires, in Unix time.",
	}, func() float64 { return float64(c.pair.Load().Leaf.NotAfter.UnixNano()) / float64(time.Second) })
}
