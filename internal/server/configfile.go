package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Setting is what a configuration file says of one key: the text as it stands there, for whoever knows the key's type.
type Setting struct {
	Line   int      // in the file, from 1
	Values []string // one, or those of a list
	List   bool
}

// maxConfigFile is far above what every key needs, and far below what would be worth reading.
const maxConfigFile = 1 << 20

// ReadConfigFile reads a configuration file: YAML, a mapping of keys to single values or lists of them. It refuses a key
// that is not one of known, naming the nearest one, a key given twice, and anything that is not a plain value: what is
// silently ignored in a configuration is found in an outage.
func ReadConfigFile(text []byte, known []string) (map[string]Setting, error) {
	if len(text) > maxConfigFile {
		return nil, fmt.Errorf("it has more than %d bytes: is it a configuration file?", maxConfigFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has something after its first document: put all keys into one")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: write one key and its value a line, as addr: 127.0.0.1:8080", root.Line)
	}
	settings := make(map[string]Setting, len(root.Content)/2)
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value) {
			return nil, fmt.Errorf("line %d: %q is not a key: did you mean %s?", key.Line, shortened(key.Value), nearest(key.Value, known))
		}
		if earlier, twice := settings[key.Value]; twice {
			return nil, fmt.Errorf("line %d: %s is given again: line %d has it too", key.Line, key.Value, earlier.Line)
		}
		s, err := readSetting(value)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s %w", key.Line, key.Value, err)
		}
		settings[key.Value] = s
	}
	return settings, nil
}

func readSetting(value *yaml.Node) (Setting, error) {
	s := Setting{Line: value.Line, List: value.Kind == yaml.SequenceNode}
	nodes := []*yaml.Node{value}
	if s.List {
		nodes = value.Content
	}
	for _, n := range nodes {
		switch {
		case n.Kind != yaml.ScalarNode:
			return Setting{}, errors.New("has a value that is neither plain nor a list of plain ones")
		case n.Tag == "!!null":
			return Setting{}, errors.New("has no value: give it one, or take the line out")
		}
		s.Values = append(s.Values, n.Value)
	}
	return s, nil
}

// shortened returns a word as it may stand in a message.
func shortened(word string) string {
	const most = 60
	if r := []rune(word); len(r) > most {
		return string(r[:most]) + "..."
	}
	return word
}

// nearest returns the known word that takes the fewest edits to reach from word.
func nearest(word string, known []string) string {
	const most = 100 // runes: past that, every known word is as far
	if utf8.RuneCountInString(word) > most {
		word = string([]rune(word)[:most])
	}
	return slices.MinFunc(known, func(a, b string) int { return distance(word, a) - distance(word, b) })
}

// distance counts the runes to insert, delete or replace to get from a to b (Levenshtein).
func distance(a, b string) int {
	to := []rune(b)
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	for i, ra := range []rune(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j, rb := range to {
			replaced := diagonal
			if ra != rb {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(to)]
}
