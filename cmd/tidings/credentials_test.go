package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	credentialSecret = "0123456789abcdefghijklmnopqrstuvwxyz"
	credentialKey    = "an-api-key-of-the-tests-0123456789"
)

// mint returns a token.
func mint(t testing.TB, args ...string) string {
	t.Helper()
	o := run(t, "", append([]string{"token", "mint", "--jwt-secret", credentialSecret, "--user", "bob"}, args...)...)
	if o.code != exitOK {
		t.Fatalf("%+v", o)
	}
	return strings.TrimSpace(o.stdout)
}

func TestBenchPresentsItsTokenAndItsKey(t *testing.T) {
	url, _ := serve(t, "--jwt-secret", credentialSecret, "--api-key", "billing:"+credentialKey)
	bench := []string{"bench", "--url", url, "-n", "4", "--rate", "50", "--duration", "200ms"}
	with := func(args ...string) outcome { return run(t, "", append(bench, args...)...) }
	for _, args := range [][]string{
		{"--token", mint(t), "--api-key", credentialKey},
		{"--token", mint(t), "--api-key", "billing:" + credentialKey + " other:x"},
		{"--token", mint(t, "--send", "*")}, // the token sends, too
		{"--token", mint(t, "--topic", "t*"), "--api-key", credentialKey, "--topics", "2", "--mix", "broadcast=1,topic=1"},
		{"--token", mint(t), "--api-key", credentialKey, "--protocol", "http2"},
	} {
		if o := with(args...); o.code != exitOK || !strings.Contains(o.stdout, "10 of 10 events") || !strings.Contains(o.stdout, "0 lost") {
			t.Errorf("%q: %+v", args[2:], o)
		}
	}
	for want, args := range map[string][]string{
		"status 401": nil,
		"TIDINGS_TOKEN: tidings token mint makes one":  {"--api-key", credentialKey},
		"no event could be published: status 403 (10)": {"--token", mint(t)},
		"may send with --api-key or TIDINGS_API_KEY":   {"--token", mint(t), "--api-key", "a-wrong-key-of-the-tests-0123456789"},
		"is not the token's":                           {"--token", mint(t), "--mix", "topic"},
		"streams are its user's":                       {"--token", mint(t), "--mix", "user"},
		"is a key's hash":                              {"--token", mint(t), "--api-key", "sha256:00"},
	} {
		if o := with(args...); o.code == exitOK || !strings.Contains(o.stderr, want) {
			t.Errorf("%q, want %q: %+v", args, want, o)
		}
	}
}

func TestBenchPresentsNothingToAnotherServer(t *testing.T) {
	url, _ := serve(t, "--jwt-secret", credentialSecret, "--api-key", credentialKey)
	t.Setenv("TIDINGS_TOKEN", mint(t))
	t.Setenv("TIDINGS_API_KEY", credentialKey)
	if o := run(t, "", "bench", "-n", "1", "--duration", "10ms", "--stream", url+"/api/sse"); o.code != exitFailed || !strings.Contains(o.stderr, "status 401") {
		t.Errorf("its streams: %+v", o)
	}
	if o := run(t, "", "bench", "-n", "1", "--duration", "100ms", "--stream", url+"/api/sse", "--header", "Authorization: Bearer "+mint(t), "--publish", url+"/api/sse/send", "--publish-body", `{"data":{data}}`); o.code != exitFailed || !strings.Contains(o.stderr, "status 401") {
		t.Errorf("its events: %+v", o)
	}
}

func TestWhoIsNotLetInIsToldOfTheVariable(t *testing.T) {
	url, _ := serve(t, "--jwt-secret", credentialSecret, "--api-key", credentialKey)
	for _, args := range [][]string{
		{"listen", "--url", url},
		{"send", "--url", url, "--everyone"},
		{"send", "--url", url, "--ndjson"},
		{"send", "--url", url, "--everyone", "--token", "a-wrong-key-of-the-tests-0123456789"},
	} {
		if o := run(t, "{}\n", args...); o.code != exitFailed || !strings.Contains(o.stderr, "TIDINGS_TOKEN, or --token") {
			t.Errorf("%q: %+v", args, o)
		}
	}
}

// authority makes one, and a certificate for 127.0.0.1 that it has signed. It returns their files.
func authority(t testing.TB) (ca, cert, key string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		name = filepath.Join(dir, name)
		must(os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return name
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, root, root, signer.Public(), signer)
	must(err)
	ca = write("ca.pem", "CERTIFICATE", der)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err = x509.CreateCertificate(rand.Reader, leaf, root, own.Public(), signer)
	must(err)
	cert = write("cert.pem", "CERTIFICATE", der)
	der, err = x509.MarshalPKCS8PrivateKey(own)
	must(err)
	return ca, cert, write("key.pem", "PRIVATE KEY", der)
}

func TestAServersCertificateMayBeOfAnAuthorityOfOnesOwn(t *testing.T) {
	ca, cert, key := authority(t)
	url, _ := serve(t, "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(url, "https://") {
		t.Fatalf("the server is at %s", url)
	}
	heard := begin(t, "listen", "--url", url, "--ca", ca, "--client", "x", "--count", "1")
	eventually(t, "it is connected", func() bool { return strings.Contains(heard.stderr.String(), "tidings.connected") })
	if o := run(t, "", "send", "--url", url, "--ca", ca, "--client", "x", "1"); o.code != exitOK || !strings.Contains(o.stdout, "to 1 connection") {
		t.Errorf("%+v", o)
	}
	if line := heard.line(); !strings.HasSuffix(line, "\t1") {
		t.Errorf("it heard %q", line)
	}
	for _, protocol := range []string{"http1", "http2"} {
		if o := run(t, "", "bench", "--url", url, "--ca", ca, "-n", "3", "--rate", "50", "--duration", "200ms", "--protocol", protocol); o.code != exitOK || !strings.Contains(o.stdout, "10 of 10 events") {
			t.Errorf("bench, %s: %+v", protocol, o)
		}
	}
	for _, args := range [][]string{{"send", "--client", "x"}, {"listen", "--client", "x"}} { // neither tries again
		if o := run(t, "", append(args, "--url", url)...); o.code != exitFailed || !strings.Contains(o.stderr, "give its certificate with --ca") {
			t.Errorf("%q: %+v", args, o)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, name := range map[string]string{"holds no certificate": empty, "no such file": empty + "x"} {
		for _, args := range [][]string{{"listen"}, {"send", "--everyone"}, {"bench"}} {
			if o := run(t, "", append(args, "--url", url, "--ca", name)...); o.code != exitUsage || !strings.Contains(o.stderr, want) || !strings.Contains(o.stderr, "--ca") {
				t.Errorf("%q: %+v", args, o)
			}
		}
	}
}

func TestTheWrongSchemeIsSaid(t *testing.T) {
	_, cert, key := authority(t)
	secure, _ := serve(t, "--tls-cert", cert, "--tls-key", key)
	plain, _ := serve(t)
	toTLS, toPlain := strings.Replace(secure, "https:", "http:", 1), strings.Replace(plain, "http:", "https:", 1)
	for _, args := range [][]string{{"send", "--everyone"}, {"send", "--ndjson"}, {"listen"}, {"bench", "-n", "1"}} {
		if o := run(t, "{}\n", append(args, "--url", toTLS)...); o.code != exitFailed || !strings.Contains(o.stderr, "TLS") || !strings.Contains(o.stderr, "write https://") {
			t.Errorf("%q: %+v", args, o)
		}
	}
	for _, args := range [][]string{{"send", "--everyone"}, {"send", "--ndjson"}} {
		if o := run(t, "{}\n", append(args, "--url", toPlain)...); !strings.Contains(o.stderr, "doesn't speak TLS: write http://") {
			t.Errorf("%q: %+v", args, o)
		}
	}
	listens := begin(t, "listen", "--url", toPlain) // it tries again: another server may be there
	eventually(t, "listen says it", func() bool { return strings.Contains(listens.stderr.String(), "doesn't speak TLS: write http://") })
}
