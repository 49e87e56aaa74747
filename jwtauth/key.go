package jwtauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/tidings-sse/tidings"
)

// Key verifies tokens. It has a Secret or a Public key.
type Key struct {
	// ID is what a token's kid must be, where both have one. Empty fits every token.
	ID string
	// Secret is shared with whoever makes the tokens: HS256, HS384 and HS512. At least 32 random bytes: who guesses it is
	// anyone. (RFC 7518, section 3.2)
	Secret []byte
	// Public is an *rsa.PublicKey of at least 2048 bits (RS256 to RS512, PS256 to PS512), an *ecdsa.PublicKey on P-256,
	// P-384 or P-521 (ES256, ES384, ES512 in that order), or an ed25519.PublicKey (EdDSA).
	Public crypto.PublicKey
	// Algorithms narrows what the key is for. Default: all that are given above.
	Algorithms []string
}

const (
	minSecret  = 32   // bytes: the shortest hash's
	minRSABits = 2048 // RFC 7518, section 3.3
)

// material returns the key as golang-jwt wants it.
func (k *Key) material() any {
	if k.Public != nil {
		return k.Public
	}
	return k.Secret
}

// fits reports whether the key may have signed a token with this kid and alg.
func (k *Key) fits(kid, alg string) bool {
	return (kid == "" || k.ID == "" || kid == k.ID) && slices.Contains(k.Algorithms, alg)
}

// check refuses a key that can't verify anything safely, and sets its algorithms.
func (k *Key) check(field string) error {
	if (len(k.Secret) > 0) == (k.Public != nil) {
		return &tidings.InvalidError{Field: field, Reason: "has not exactly one of Secret and Public", Hint: "give one"}
	}
	all, err := algorithms(k.material())
	if err != nil {
		return &tidings.InvalidError{Field: field, Reason: err.Error()}
	}
	if len(k.Algorithms) == 0 {
		k.Algorithms = all
	}
	for _, alg := range k.Algorithms {
		if !slices.Contains(all, alg) {
			return &tidings.InvalidError{Field: field, Reason: fmt.Sprintf("is not for %q", alg), Hint: fmt.Sprintf("it is for %v", all)}
		}
	}
	return nil
}

// algorithms returns what a key is for: never both a secret and a signature, and one curve's only.
func algorithms(key any) ([]string, error) {
	switch k := key.(type) {
	case []byte:
		if len(k) < minSecret {
			return nil, fmt.Errorf("is a secret of %d bytes, and must have %d at least: make one with openssl rand -base64 32", len(k), minSecret)
		}
		return []string{"HS256", "HS384", "HS512"}, nil
	case *rsa.PublicKey:
		if k.N == nil || k.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("is an RSA key of less than %d bits, which can be broken", minRSABits)
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []string{"ES256"}, nil
		case elliptic.P384():
			return []string{"ES384"}, nil
		case elliptic.P521():
			return []string{"ES512"}, nil
		}
		return nil, errors.New("is on a curve that no algorithm is for: use P-256, P-384 or P-521")
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return []string{"EdDSA"}, nil
		}
	}
	return nil, fmt.Errorf("is a %T: give an *rsa.PublicKey, an *ecdsa.PublicKey or an ed25519.PublicKey", key)
}

// ParseKeys reads public keys from PEM: PUBLIC KEY (RFC 7468, section 13), RSA PUBLIC KEY, and CERTIFICATE blocks. A private
// key is refused: a server that verifies tokens must not be able to make them.
func ParseKeys(text []byte) ([]Key, error) {
	var keys []Key
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		var pub any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			pub, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			pub, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				pub = cert.PublicKey
			}
		default:
			return nil, fmt.Errorf("it holds a %s: give the public key only, as openssl pkey -pubout writes it", block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("its %s can't be read: %w", block.Type, err)
		}
		k := Key{Public: pub}
		if err := k.check("the key"); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no key: give PEM that begins with -----BEGIN PUBLIC KEY-----")
	}
	return keys, nil
}
