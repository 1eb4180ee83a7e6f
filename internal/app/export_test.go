package app

import (
	"crypto/tls"

	"github.com/sethealth/tokenvend/internal/secret"
)

// Misspelt finds names that are nearly ours, Authorities an SSL_CERT_FILE that is of no use.
var Misspelt, Authorities = misspelt, authorities

// Certificate is the chain of the TLS pair, and how to get the pair in use.
func (c *Config) Certificate() (chain secret.Source, pair func() *tls.Certificate) {
	return c.Server.certificate.chain, c.Server.certificate.pair.Load
}
