package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tidings-sse/tidings/internal/server"
	"github.com/tidings-sse/tidings/jwtauth"
)

// tokenCmd makes tokens and looks at them.
type tokenCmd struct {
	Mint    mintCmd    `cmd:"" help:"Make a token, signed with the secret."`
	Inspect inspectCmd `cmd:"" help:"Say what a token holds, and whether it is valid."`
}

type mintCmd struct {
	Secret   []string        `name:"jwt-secret" env:"TIDINGS_JWT_SECRET" sep:" " required:"" placeholder:"SECRET" help:"The secret to sign with, the server's. The first one, if there are several."`
	User     string          `required:"" placeholder:"ID" help:"The user."`
	Session  string          `placeholder:"ID" help:"The session. Default: none."`
	Topic    []string        `placeholder:"NAME" help:"A topic that may be listened to, exact or with a * at the end. Repeatable. Default: none."`
	Send     []string        `placeholder:"TO" help:"To whom may be sent: *, self, user:ID, session:ID or topic:NAME. Repeatable. Default: nobody."`
	Issuer   string          `name:"jwt-issuer" env:"TIDINGS_JWT_ISSUER" placeholder:"ISS" help:"Its iss. Default: none."`
	Audience []string        `name:"jwt-audience" env:"TIDINGS_JWT_AUDIENCE" placeholder:"AUD" help:"Its aud: the first one, if there are several. Default: none."`
	For      server.Duration `default:"1h" help:"How long it is valid."`
}

// Help is shown under the summary.
func (mintCmd) Help() string {
	return `Example, with TIDINGS_JWT_SECRET set:

  curl -N -H "Authorization: Bearer $(tidings token mint --user bob)" http://127.0.0.1:8080/api/sse

The claims have their usual names (sub, sid, topics, send). It is for trying out and for scripts: a back end signs tokens by itself, with the JWT library of its language.`
}

// Validate refuses rights that would be to nothing.
func (c *mintCmd) Validate() error {
	if len(c.Secret) == 0 || strings.TrimSpace(c.Secret[0]) == "" {
		return errors.New("--jwt-secret is empty: give the server's")
	}
	if c.For > 0 && time.Duration(c.For) < time.Second {
		return fmt.Errorf("--for is %v: a token's times are whole seconds; give 1s or more", c.For)
	}
	for _, topic := range c.Topic {
		if err := checkPattern("--topic", topic); err != nil {
			return err
		}
	}
	for _, to := range c.Send {
		if topic, ok := strings.CutPrefix(to, "topic:"); ok {
			if err := checkPattern("--send "+to, topic); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkPattern refuses a pattern of topics whose * is not at its end: there it would be a part of the name.
func checkPattern(flag, pattern string) error {
	if at := strings.IndexByte(pattern, '*'); at >= 0 && at < len(pattern)-1 {
		return fmt.Errorf("%s: %q has a * that is not at its end: write the topic exactly, or as %q", flag, pattern, pattern[:at+1])
	}
	return nil
}

// Run prints the token.
func (c *mintCmd) Run(p *program) error {
	now := time.Now()
	claims := jwt.MapClaims{"sub": c.User, "iat": now.Unix(), "exp": now.Add(time.Duration(c.For)).Unix()}
	if c.Session != "" {
		claims["sid"] = c.Session
	}
	if len(c.Topic) > 0 {
		claims["topics"] = c.Topic
	}
	if len(c.Send) > 0 {
		claims["send"] = c.Send
	}
	if c.Issuer != "" {
		claims["iss"] = c.Issuer
	}
	if len(c.Audience) > 0 {
		claims["aud"] = c.Audience[0]
	}
	secret := []byte(c.Secret[0])
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
	if err != nil {
		return err
	}
	// What a server would refuse is not given out.
	o := &jwtauth.Options{Keys: []jwtauth.Key{{Secret: secret}}, Issuer: c.Issuer}
	verifier, err := jwtauth.New(o)
	if err != nil {
		return fmt.Errorf("--jwt-secret: %w", err)
	}
	if _, err := verifier.Verify(p.ctx, signed); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, signed)
	return err
}

type inspectCmd struct {
	Token   string     `arg:"" optional:"" help:"The token; read from stdin if it is - or left out, so that it isn't seen in the list of processes."`
	Explain bool       `help:"Check everything that a server with the same configuration checks, and say why it would be refused. Default: off, and nothing is verified."`
	JSON    bool       `help:"Print JSON. Default: off."`
	File    configFile `name:"config" env:"TIDINGS_CONFIG" placeholder:"FILE" help:"The server's configuration file, for --explain. Default: none."`

	server.Config `embed:""`
}

// Help is shown under the summary.
func (inspectCmd) Help() string {
	return `With --explain it takes the flags, the environment and the configuration file of tidings serve, and needs no server. It exits with 1 if the token would be refused.`
}

// Run prints what the token holds.
func (c *inspectCmd) Run(p *program) error {
	token := strings.TrimSpace(c.Token)
	if token == "" || token == fromStdin {
		line, err := bufio.NewReader(io.LimitReader(p.stdin, 64<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("stdin: %w", err)
		}
		token = strings.TrimSpace(line)
	}
	token = strings.TrimPrefix(token, "Bearer ")
	e, err := c.explain(p, token)
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(p.stdout).Encode(e)
	} else {
		err = printToken(p.stdout, e, c.Explain)
	}
	if err != nil || !c.Explain || e.Grant != nil {
		return err
	}
	for _, check := range e.Checks {
		if !check.OK {
			return fmt.Errorf("the token would be refused: %s: %s", check.Name, check.Says)
		}
	}
	return errors.New("the token would be refused")
}

func (c *inspectCmd) explain(p *program, token string) (jwtauth.Explanation, error) {
	if !c.Explain {
		return jwtauth.Read(token)
	}
	verifier, err := c.Verifier(c.Logger(p.stderr))
	if err != nil {
		return jwtauth.Explanation{}, err
	}
	defer verifier.Close()
	return verifier.Explain(p.ctx, token), nil
}

func printToken(w io.Writer, e jwtauth.Explanation, explained bool) error {
	var b strings.Builder
	for _, part := range [...]struct {
		name string
		of   map[string]any
	}{{"header", e.Header}, {"claims", e.Claims}} {
		if part.of == nil {
			continue
		}
		text, err := json.MarshalIndent(part.of, "", "  ")
		if err != nil {
			return err
		}
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			lines[i] = printable(line) // JSON leaves some controls as they are, and what turns text around
		}
		fmt.Fprintf(&b, "%s %s\n", part.name, strings.Join(lines, "\n"))
	}
	for _, check := range e.Checks {
		mark := "ok     "
		if !check.OK {
			mark = "REFUSED"
		}
		fmt.Fprintf(&b, "%s %-9s %s\n", mark, check.Name, check.Says)
	}
	if !explained {
		fmt.Fprintln(&b, "nothing of this was verified: --explain does")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
