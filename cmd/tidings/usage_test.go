package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAMistakePointsToTheHelpOfItsCommand(t *testing.T) {
	for help, args := range map[string][]string{
		"tidings --help":              {"nonsense"},
		"tidings serve --help":        {"serve", "--nonsense"},
		"tidings send --help":         {"send"},
		"tidings listen --help":       {"listen", "--count", "0"},
		"tidings token --help":        {"token"},
		"tidings token mint --help":   {"token", "mint"},
		"tidings config check --help": {"config", "check", "--max-topics", "many"},
	} {
		if out := run(t, "", args...); out.code != exitUsage || !strings.HasSuffix(out.stderr, "\n"+help+" says more.\n") {
			t.Errorf("%q: %+v", args, out)
		}
	}
}

func TestANegativeNumberIsRefusedInTheWordsOfItsFlag(t *testing.T) {
	for want, args := range map[string][]string{
		`--count: "-1" is not more than zero`:      {"listen", "--count", "-1"},
		`--ttl: "-1s" is not more than zero`:       {"send", "--everyone", "--ttl", "-1s"},
		`--connections: "-5" is not more than`:     {"bench", "-n", "-5"},
		`--connect-rate: it`:                       {"bench", "--connect-rate", "-.5"},
		`--max-sends-per-second: "-3" is less`:     {"serve", "--max-sends-per-second", "-3"},
		`--max-event-bytes: "-1MiB" is not a size`: {"serve", "--max-event-bytes", "-1MiB"},
	} {
		if out := run(t, "", args...); out.code != exitUsage || !strings.Contains(out.stderr, want) {
			t.Errorf("%q: %+v", args, out)
		}
	}
	if out := run(t, "", "send", "--url", closedPort(t), "--user", "-5", "--", "-5"); out.code != exitFailed || !strings.Contains(out.stderr, "nothing listens") {
		t.Errorf("an id and data that are negative numbers: %+v", out)
	}
}

func TestAMisspeltVariableIsRefused(t *testing.T) {
	t.Setenv("TIDINGS_JWT_SECERT", "0123456789abcdefghijklmnopqrstuvwxyz")
	for _, args := range [][]string{{"serve", "--addr", "127.0.0.1:0"}, {"config", "check"}, {"token", "inspect", "--explain", "x.y.z"}, {"token", "mint", "--user", "u"}, {"send", "--user", "u", "1"}, {"listen", "--for", "1s"}, {"bench"}} {
		out := run(t, "", args...)
		if out.code != exitUsage || !strings.Contains(out.stderr, "TIDINGS_JWT_SECERT") || !strings.Contains(out.stderr, "did you mean TIDINGS_JWT_SECRET?") || strings.Contains(out.stderr, "0123456789") {
			t.Errorf("%q: %+v", args, out)
		}
	}
	if out := run(t, "", "version"); out.code != exitOK {
		t.Errorf("version: %+v", out)
	}
}

func TestAnEmptyVariableIsRefusedAsIfItWereMisspelt(t *testing.T) {
	t.Setenv("TIDINGS_JWT_SECRET", "")
	for _, args := range [][]string{{"serve", "--addr", "127.0.0.1:0"}, {"token", "mint", "--user", "u"}} {
		if out := run(t, "", args...); out.code != exitUsage || !strings.Contains(out.stderr, "TIDINGS_JWT_SECRET, which is empty: give it a value, or unset it") {
			t.Errorf("%q: %+v", args, out)
		}
	}
}

func TestATokenIsNotMintedWithAnEmptySecret(t *testing.T) {
	for _, secret := range []string{"", " "} {
		if out := run(t, "", "token", "mint", "--user", "u", "--jwt-secret", secret); out.code != exitUsage || !strings.Contains(out.stderr, "--jwt-secret is empty") {
			t.Errorf("%q: %+v", secret, out)
		}
	}
}

func TestAFlagIsNotEmpty(t *testing.T) {
	for flag, rest := range map[string]string{
		"--data-dir": "serve", "--tls-cert": "config check", "--type": "send --everyone 1", "--exclude-client": "send --everyone 1",
		"--topic": "listen", "--last-event-id": "listen", "--user": "token mint", "--url": "bench",
	} {
		if out := run(t, "", append(strings.Fields(rest), flag, "")...); out.code != exitUsage || !strings.Contains(out.stderr, flag+" is empty: give it a value, or leave it out") {
			t.Errorf("%s %s: %+v", rest, flag, out)
		}
	}
}

func TestATokenIsNotMintedForLessThanASecond(t *testing.T) {
	t.Setenv("TIDINGS_JWT_SECRET", "0123456789abcdefghijklmnopqrstuvwxyz")
	if out := run(t, "", "token", "mint", "--user", "u", "--for", "1ms"); out.code != exitUsage || !strings.Contains(out.stderr, "give 1s or more") {
		t.Errorf("%+v", out)
	}
}

func TestTheVariablesOfOtherCommandsAreNoMistake(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tidings.yaml")
	if err := os.WriteFile(file, []byte("max-topics: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"TIDINGS_URL": "http://127.0.0.1:1", "TIDINGS_TOKEN": "t", "TIDINGS_CONFIG": file} {
		t.Setenv(name, value)
	}
	if out := run(t, "", "config", "check"); out.code != exitOK {
		t.Errorf("%+v", out)
	}
}

func TestATokenIsNotMintedForATopicWithAStarInItsMiddle(t *testing.T) {
	t.Setenv("TIDINGS_JWT_SECRET", "0123456789abcdefghijklmnopqrstuvwxyz")
	for _, args := range [][]string{{"--topic", "a*b"}, {"--topic", "*b"}, {"--topic", "**"}, {"--send", "topic:a*b"}} {
		out := run(t, "", append([]string{"token", "mint", "--user", "bob"}, args...)...)
		if out.code != exitUsage || !strings.Contains(out.stderr, args[0]) || !strings.Contains(out.stderr, "not at its end: write the topic exactly, or as") {
			t.Errorf("%q: %+v", args, out)
		}
	}
	for _, args := range [][]string{{"--topic", "a*"}, {"--topic", "*"}, {"--topic", "a"}, {"--send", "topic:a.*"}, {"--send", "*"}} {
		if out := run(t, "", append([]string{"token", "mint", "--user", "bob"}, args...)...); out.code != exitOK {
			t.Errorf("%q: %+v", args, out)
		}
	}
}
