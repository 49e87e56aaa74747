package server

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// envPrefix is what the program's variables begin with.
const envPrefix = "TIDINGS_"

// CheckEnvironment refuses a variable that begins as the program's do and is not one of known, naming the nearest one: a
// limit or a secret that is misspelt would silently not be there. What Kubernetes sets in every container beside a service
// that is called tidings (TIDINGS_SERVICE_HOST, TIDINGS_PORT_8080_TCP and so on) is nobody's mistake. A value is never part
// of the error.
func CheckEnvironment(environ, known []string) error {
	// "tidings-web" is TIDINGS_WEB_SERVICE_HOST: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
	ofService := regexp.MustCompile(`^TIDINGS_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if value == "" && slices.Contains(known, name) {
			return fmt.Errorf("the environment has %s, which is empty: give it a value, or unset it", name)
		}
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) || ofService.MatchString(name) {
			continue
		}
		return fmt.Errorf("the environment has %s, which is no variable of tidings: did you mean %s? If it is something else's, give it another prefix", shortened(name), nearest(name, known))
	}
	return nil
}
