package server_test

import (
	"strings"
	"testing"

	"github.com/tidings-sse/tidings/internal/server"
)

func TestAVariableThatIsMisspeltIsRefusedWithTheNearestName(t *testing.T) {
	known := []string{"TIDINGS_ADDR", "TIDINGS_JWT_SECRET", "TIDINGS_MAX_CONNECTIONS", "TIDINGS_MAX_CONNECTIONS_PER_USER"}
	for name, nearest := range map[string]string{
		"TIDINGS_JWT_SECERT":                "TIDINGS_JWT_SECRET",
		"TIDINGS_JWTSECRET":                 "TIDINGS_JWT_SECRET",
		"TIDINGS_MAX_CONNECTION":            "TIDINGS_MAX_CONNECTIONS",
		"TIDINGS_MAX_CONNECTIONS_PER_USERS": "TIDINGS_MAX_CONNECTIONS_PER_USER",
		"TIDINGS_":                          "TIDINGS_ADDR",
		"TIDINGS_PORTS":                     "TIDINGS_ADDR",
		"TIDINGS_service_host":              "TIDINGS_",
	} {
		err := server.CheckEnvironment([]string{"HOME=/", "TIDINGS_ADDR=:1", name + "=the-value"}, known)
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "did you mean "+nearest) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "the-value") {
			t.Errorf("%s: the error tells its value: %v", name, err)
		}
	}
	if err := server.CheckEnvironment([]string{"TIDINGS_" + strings.Repeat("X", 10_000) + "=1"}, known); err == nil || len(err.Error()) > 300 {
		t.Errorf("a long name: %v", err)
	}
}

func TestAVariableThatIsEmptyIsRefused(t *testing.T) {
	if err := server.CheckEnvironment([]string{"TIDINGS_JWT_SECRET="}, []string{"TIDINGS_JWT_SECRET"}); err == nil || !strings.Contains(err.Error(), "TIDINGS_JWT_SECRET, which is empty") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNotTheProgramsMayBeInTheEnvironment(t *testing.T) {
	for _, v := range []string{
		"TIDINGS_ADDR=:1", "TIDING_ADDR=:1", "tidings_addr=:1", "MY_TIDINGS_ADDRESS=x", "TIDINGS=x", "",
		// what Kubernetes sets for the services "tidings" and "tidings-admin"
		"TIDINGS_SERVICE_HOST=10.0.0.1", "TIDINGS_SERVICE_PORT=8080", "TIDINGS_SERVICE_PORT_HTTP=8080", "TIDINGS_PORT=tcp://10.0.0.1:8080",
		"TIDINGS_PORT_8080_TCP=tcp://10.0.0.1:8080", "TIDINGS_PORT_8080_TCP_PROTO=tcp", "TIDINGS_PORT_8080_TCP_PORT=8080", "TIDINGS_PORT_8080_TCP_ADDR=10.0.0.1",
		"TIDINGS_ADMIN_SERVICE_HOST=10.0.0.2", "TIDINGS_ADMIN_PORT_9090_UDP_ADDR=10.0.0.2",
	} {
		if err := server.CheckEnvironment([]string{v}, []string{"TIDINGS_ADDR"}); err != nil {
			t.Errorf("%s: %v", v, err)
		}
	}
}
