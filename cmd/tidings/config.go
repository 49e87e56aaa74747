package main

import (
	"errors"
	"fmt"

	"github.com/tidings-sse/tidings/internal/server"
)

// configCmd looks at configurations.
type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Say whether a configuration can work, and what is weak in it."`
}

type configCheckCmd struct {
	File          configFile `name:"config" env:"TIDINGS_CONFIG" placeholder:"FILE" help:"The configuration file to check. Default: none."`
	Strict        bool       `help:"Fail where anything is weak, too. Default: off."`
	server.Config `embed:""`
}

// Help is shown under the summary.
func (configCheckCmd) Help() string {
	return `It takes the flags, the environment and the configuration file of tidings serve, reads the files that they name, and opens nothing. It exits with 1 if the configuration can't work.`
}

// Run prints what it finds.
func (c *configCheckCmd) Run(p *program) error {
	if err := c.Config.Check(p.ctx); err != nil {
		return err
	}
	weak := c.Weaknesses()
	if name := string(c.File); name != "" {
		weak = append(weak, server.FileWeaknesses(name, &c.Config)...)
	}
	for _, w := range weak {
		fmt.Fprintf(p.stdout, "weak: %s\n      %s\n", w.What, w.Remedy)
	}
	if len(weak) > 0 && c.Strict {
		return errors.New("the configuration is weak")
	}
	_, err := fmt.Fprintf(p.stdout, "the configuration can work; weaknesses: %d\n", len(weak))
	return err
}
