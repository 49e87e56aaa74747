// Command tidings serves named events to browsers over Server-Sent Events, and sends and listens from a terminal.
// "tidings --help" says how, and "tidings serve" starts a server whose demo shows what it does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, end := context.WithCancel(context.Background())
	asked := make(chan os.Signal, 1) // the first one; Notify drops what doesn't fit
	signal.Notify(asked, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-asked
		// Before anything shows that the first signal was heard, the next one has its usual effect, at once.
		signal.Stop(asked)
		end()
	}()
	os.Exit(report(os.Stderr, Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)))
}

// The program's exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // the command line, the environment or the configuration file can't be used
)

// report says on stderr what went wrong, if anything, and returns the exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "tidings: %s\n", strings.TrimPrefix(err.Error(), "tidings: "))
	if usage, ok := errors.AsType[*kong.ParseError](err); ok {
		fmt.Fprintf(stderr, "%s --help says more.\n", commandOf(usage.Context))
		return exitUsage
	}
	return exitFailed
}

// commandOf returns the command that a line names as far as it does, as it is typed.
func commandOf(ctx *kong.Context) string {
	name := "tidings"
	if ctx == nil {
		return name
	}
	for _, p := range ctx.Path {
		if p.Command != nil {
			name += " " + p.Command.Name
		}
	}
	return name
}

// cli is the command line.
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Serve streams, and take events over HTTP."`
	Send    sendCmd    `cmd:"" help:"Send an event."`
	Listen  listenCmd  `cmd:"" help:"Listen to a stream, and print its events."`
	Bench   benchCmd   `cmd:"" help:"Put load on a server of streams, and check what arrives."`
	Token   tokenCmd   `cmd:"" help:"Make a token, or look at one."`
	Config  configCmd  `cmd:"" help:"Check a configuration."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// Validate refuses flags with an empty value, which is what a script with an unset variable gives: an empty --data-dir would be
// none, and a log in memory.
func (*cli) Validate(ctx *kong.Context) error {
	for _, p := range ctx.Path {
		if p.Flag == nil || p.Resolved { // in a configuration file it says that there is none
			continue
		}
		empty := false
		switch v := ctx.FlagValue(p.Flag).(type) {
		case string:
			empty = v == ""
		case *string:
			empty = v != nil && *v == ""
		case []string:
			empty = slices.Contains(v, "")
		}
		if empty {
			return fmt.Errorf("--%s is empty: give it a value, or leave it out", p.Flag.Name)
		}
	}
	return nil
}

// program is what a command runs in.
type program struct {
	ctx            context.Context // ends when the program is asked to
	stdin          io.Reader
	stdout, stderr io.Writer
}

// Run parses the arguments and runs the command that they name, until it is done or ctx ends.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	helped := false
	parser, err := kong.New(&cli{},
		kong.Name("tidings"),
		kong.Description("Named events from back ends to browsers, over Server-Sent Events."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "door", Title: "Where it listens, and to whom:"},
			{Key: "auth", Title: "Who somebody is, and what they may do (with none of these, everyone may do everything, on loopback):"},
			{Key: "tls", Title: "TLS:"},
			{Key: "stream", Title: "Streams:"},
			{Key: "limit", Title: "Limits:"},
			{Key: "history", Title: "History:"},
			{Key: "store", Title: "Where events are kept:"},
			{Key: "log", Title: "Messages:"},
			{Key: "target", Title: "Whom it is for (all conditions given must be met):"},
			{Key: "identity", Title: "Whose stream it is:"},
			{Key: "streams", Title: "Streams:"},
			{Key: "connect", Title: "How they open:"},
			{Key: "publish", Title: "What is published:"},
			{Key: "trouble", Title: "Trouble on purpose:"},
		}),
	)
	if err != nil {
		return fmt.Errorf("the command line's own definition: %w", err)
	}
	for _, arg := range args {
		if !utf8.ValidString(arg) { // it would be sent with U+FFFD in place of what is not: to another user, say
			return fmt.Errorf("the argument %q is not valid UTF-8", arg)
		}
	}
	command, err := parser.Parse(joinNegatives(parser.Model.Node, args))
	switch {
	case helped: // and nothing else, whatever the rest of the line says
		return nil
	case err != nil:
		return err
	}
	return command.Run(&program{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr})
}
