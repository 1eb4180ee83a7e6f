package main

import (
	"crypto/x509"
	"encoding/pem"
)

func publicKey(content string) any {
	block, _ := pem.Decode([]byte(content))
	if block == nil {
		fail("JWT_PUBLIC_KEY is no PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		fail(err)
	}
	return key
}
