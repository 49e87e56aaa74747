package main

import (
	"fmt"
	"os"
	"reflect"

	"github.com/alecthomas/kong"

	"github.com/tidings-sse/tidings/internal/server"
)

type serveCmd struct {
	File          configFile `name:"config" env:"TIDINGS_CONFIG" placeholder:"FILE" help:"YAML file with any of the flags below as keys. Flags win over the environment, and that over the file. Default: none."`
	server.Config `embed:""`
}

// Help is shown under the summary.
func (serveCmd) Help() string {
	return `Each flag has a variable, its name in capitals after TIDINGS_: --max-topics is TIDINGS_MAX_TOPICS. One that is misspelt is an error. Lengths of time are written like 30s, 1m30s or 500ms; sizes like 64MiB, 1MB or 65536 (bytes). What stands behind a flag's = is its default.

Without authentication it listens on loopback only, and refuses what comes through a proxy, from other sites' pages, or by a name that isn't its own. To be reached by others, it needs to know who they are:

  TIDINGS_JWT_SECRET=... TIDINGS_API_KEY=... tidings serve --addr :8080

Pages then listen with tokens that your back end signs with the secret, and back ends send with the key.

SIGTERM and SIGINT (Ctrl-C) end it in order: clients are told to come back, over the drain window. A second one ends it at once.`
}

// Run serves until the program is asked to end.
func (c *serveCmd) Run(p *program) error {
	srv, err := server.New(p.ctx, &c.Config, c.Logger(p.stderr))
	if err != nil {
		return err
	}
	if url := srv.DemoURL(); url != "" {
		fmt.Fprintf(p.stdout, "Demo: %s\n", url)
	}
	fmt.Fprintf(p.stdout, "Stream: %s\n", srv.StreamURL())
	if url := srv.AdminURL(); url != "" {
		fmt.Fprintf(p.stdout, "Metrics: %s/metrics\n", url)
	}
	return srv.Run(p.ctx)
}

// configFile is the flag that names a configuration file. Its values take the place of defaults.
type configFile string

// BeforeResolve reads the file.
func (configFile) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	command := ctx.Selected()
	if command == nil || trace.Flag == nil || !hasFlag(command, trace.Flag) {
		return nil // another command, with TIDINGS_CONFIG set
	}
	name := string(ctx.FlagValue(trace.Flag).(configFile))
	if name == "" {
		return nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("the configuration file: %w", err)
	}
	var keys []string
	for _, f := range command.Flags {
		if f != trace.Flag {
			keys = append(keys, f.Name)
		}
	}
	settings, err := server.ReadConfigFile(text, keys)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	ctx.AddResolver(&fileResolver{name, settings})
	return nil
}

func hasFlag(command *kong.Node, flag *kong.Flag) bool {
	for _, f := range command.Flags {
		if f == flag {
			return true
		}
	}
	return false
}

// fileResolver gives flags that were not set the values of a configuration file.
type fileResolver struct {
	name     string
	settings map[string]server.Setting
}

var _ kong.Resolver = (*fileResolver)(nil)

// Validate accepts: unknown keys were refused when the file was read.
func (*fileResolver) Validate(*kong.Application) error { return nil }

// Resolve returns the flag's value as it would be written on the command line. kong asks resolvers also where it has a
// value from the environment, which comes first here.
func (r *fileResolver) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	s, ok := r.settings[flag.Name]
	if !ok {
		return nil, nil
	}
	for _, env := range flag.Envs {
		if _, set := os.LookupEnv(env); set {
			return nil, nil
		}
	}
	if s.List && !flag.IsSlice() {
		return nil, r.at(s, fmt.Errorf("it takes one value, not a list"))
	}
	if len(s.Values) == 0 {
		return nil, nil
	}
	value := s.Values[0]
	if flag.IsSlice() { // a single value is one, whatever it holds
		value = kong.JoinEscaped(s.Values, flag.Tag.Sep)
	}
	// Parsed here for the error's sake: kong doesn't know of lines.
	scratch := reflect.New(flag.Target.Type()).Elem()
	scan := kong.Scan().PushTyped(value, kong.FlagValueToken)
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, scratch); err != nil {
		return nil, r.at(s, err)
	}
	return value, nil
}

func (r *fileResolver) at(s server.Setting, err error) error {
	return fmt.Errorf("%s: line %d: %w", r.name, s.Line, err)
}
