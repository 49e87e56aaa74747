package main

import (
	"os"

	"github.com/alecthomas/kong"

	"github.com/tidings-sse/tidings/internal/server"
)

// checkEnvironment refuses variables that look like the program's own and are none: see [server.CheckEnvironment].
func checkEnvironment(app *kong.Application) error {
	var known []string
	_ = kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			known = append(known, f.Envs...)
		}
		return next(nil)
	})
	return server.CheckEnvironment(os.Environ(), known)
}

// BeforeResolve refuses a variable that is misspelt, or empty, before anything is made of the others.
func (serveCmd) BeforeResolve(ctx *kong.Context) error { return checkEnvironment(ctx.Model) }

// BeforeResolve is that of serve, as are the others.
func (sendCmd) BeforeResolve(ctx *kong.Context) error        { return checkEnvironment(ctx.Model) }
func (listenCmd) BeforeResolve(ctx *kong.Context) error      { return checkEnvironment(ctx.Model) }
func (benchCmd) BeforeResolve(ctx *kong.Context) error       { return checkEnvironment(ctx.Model) }
func (configCheckCmd) BeforeResolve(ctx *kong.Context) error { return checkEnvironment(ctx.Model) }
func (mintCmd) BeforeResolve(ctx *kong.Context) error        { return checkEnvironment(ctx.Model) }
func (inspectCmd) BeforeResolve(ctx *kong.Context) error     { return checkEnvironment(ctx.Model) }
