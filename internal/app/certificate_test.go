package app_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/app"
)

// pairOfFiles is a new certificate and its key.
func pairOfFiles(t *testing.T) (chainFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano())}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	chainFile, keyFile = filepath.Join(dir, "chain"), filepath.Join(dir, "key")
	require.NoError(t, os.WriteFile(chainFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	return chainFile, keyFile
}

func TestACertificateIsRenewedAfterItsKeyDidNotAnswer(t *testing.T) {
	chainFile, keyFile := pairOfFiles(t)
	environment(t, env{"TLS_CERT_FILE": chainFile, "TLS_KEY_FILE": keyFile})
	config, err := app.LoadConfig()
	require.NoError(t, err)
	chain, pair := config.Certificate()
	first := pair()

	nextChain, nextKey := pairOfFiles(t)
	require.NoError(t, os.Remove(keyFile))
	require.NoError(t, syscall.Mkfifo(keyFile, 0o600))
	silent, err := os.OpenFile(keyFile, os.O_RDWR, 0)
	require.NoError(t, err)
	defer silent.Close()
	require.NoError(t, os.Rename(nextChain, chainFile))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.ErrorContains(t, chain.Reload(ctx), "are not a pair")
	assert.Same(t, first, pair())

	require.NoError(t, os.Rename(nextKey, keyFile))
	require.Eventually(t, func() bool { return chain.Reload(ctx) == nil }, time.Minute, 10*time.Millisecond)
	assert.NotSame(t, first, pair())
}
