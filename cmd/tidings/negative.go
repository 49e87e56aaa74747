package main

import (
	"regexp"

	"github.com/alecthomas/kong"
)

// joinNegatives writes "--flag -5" as "--flag=-5": kong takes what begins with a dash for another flag, and its error speaks
// of neither. What the flag itself says about such a value is better.
func joinNegatives(app *kong.Node, args []string) []string {
	number := regexp.MustCompile(`^-\.?[0-9]`)
	takes := map[string]string{} // flags that take a value, as they are typed, and their long form
	var note func(n *kong.Node)
	note = func(n *kong.Node) {
		for _, f := range n.Flags {
			if f.IsBool() {
				continue
			}
			takes["--"+f.Name] = "--" + f.Name
			if f.Short != 0 {
				takes["-"+string(f.Short)] = "--" + f.Name
			}
		}
		for _, child := range n.Children {
			note(child)
		}
	}
	note(app)
	var joined []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" { // what follows is no flag
			return append(joined, args[i:]...)
		}
		if long, ok := takes[args[i]]; ok && i+1 < len(args) && number.MatchString(args[i+1]) {
			joined = append(joined, long+"="+args[i+1])
			i++
			continue
		}
		joined = append(joined, args[i])
	}
	return joined
}
