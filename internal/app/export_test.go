package app

import (
	"crypto/tls"

	"github.com/sethealth/tokenvend/internal/secret"
)

// Misspelt finds names that are nearly ours.
var Misspelt = misspelt

// Certificate returns the certificate chain of the TLS pair, and a function that returns the pair in use.
func (c *Config) Certificate() (chain secret.Source, pair func() *tls.Certificate) {
	return c.Server.certificate.chain, c.Server.certificate.pair.Load
}
