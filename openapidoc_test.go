package tidings_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tidings-sse/tidings"
)

// apiDescription is the description as it is served: as much of OpenAPI 3.1 as it uses, with every reference followed.
// Its schemas are JSON Schema 2020-12, which is what a library validates by.
type apiDescription struct {
	raw     []byte
	schemas *jsonschema.Compiler

	Version    string                              `json:"openapi"`
	Paths      map[string]map[string]*apiOperation `json:"paths"`
	Components struct {
		Schemas    map[string]*apiSchema    `json:"schemas"`
		Parameters map[string]*apiParameter `json:"parameters"`
		Responses  map[string]*apiResponse  `json:"responses"`
		Headers    map[string]*apiHeader    `json:"headers"`
	} `json:"components"`
}

type apiOperation struct {
	OperationID string                  `json:"operationId"`
	Summary     string                  `json:"summary"`
	Tags        []string                `json:"tags"`
	Parameters  []*apiParameter         `json:"parameters"`
	RequestBody *apiContent             `json:"requestBody"`
	Responses   map[string]*apiResponse `json:"responses"`

	at string // its place in the document, as a JSON pointer
}

type apiParameter struct {
	Ref         string          `json:"$ref"`
	Name        string          `json:"name"`
	In          string          `json:"in"`
	Description string          `json:"description"`
	Schema      json.RawMessage `json:"schema"`

	at string
}

type apiResponse struct {
	Ref     string                `json:"$ref"`
	Headers map[string]*apiHeader `json:"headers"`
	apiContent

	at string
}

type apiContent struct {
	Content map[string]json.RawMessage `json:"content"`
}

type apiHeader struct {
	Ref      string `json:"$ref"`
	Required bool   `json:"required"`
}

type apiSchema struct {
	Enum       []string                   `json:"-"` // where it is one of strings
	RawEnum    []json.RawMessage          `json:"enum"`
	Properties map[string]json.RawMessage `json:"properties"`
	Required   []string                   `json:"required"`
}

const apiDocument = "openapi.json"

func apiDescribe(t *testing.T, s *apiServer) *apiDescription {
	t.Helper()
	a := s.do(t, "GET", "/api/sse/openapi.json", "")
	if a.status != 200 || a.header.Get("Content-Type") != apiJSON {
		t.Fatalf("the description: %d %s", a.status, a.header)
	}
	d := &apiDescription{raw: a.body, schemas: jsonschema.NewCompiler()}
	if err := json.Unmarshal(a.body, d); err != nil { // it has more than is looked at here
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.body))
	if err == nil {
		err = d.schemas.AddResource(apiDocument, doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, schema := range d.Components.Schemas {
		for _, raw := range schema.RawEnum {
			var word string
			if json.Unmarshal(raw, &word) == nil {
				schema.Enum = append(schema.Enum, word)
			}
		}
	}
	for path, item := range d.Paths {
		for method, op := range item {
			op.at = apiPointer("/paths", path, method)
			d.follow(t, op)
		}
	}
	return d
}

// follow replaces each reference of an operation by what it refers to.
func (d *apiDescription) follow(t *testing.T, op *apiOperation) {
	t.Helper()
	for i, p := range op.Parameters {
		at := op.at + apiPointer("/parameters", strconv.Itoa(i))
		if p.Ref != "" {
			at, p = strings.TrimPrefix(p.Ref, "#"), d.Components.Parameters[apiLast(p.Ref)]
		}
		if p == nil {
			t.Fatalf("%s refers to nothing", at)
		}
		p.at, op.Parameters[i] = at, p
	}
	for status, r := range op.Responses {
		at := op.at + apiPointer("/responses", status)
		if r.Ref != "" {
			at, r = strings.TrimPrefix(r.Ref, "#"), d.Components.Responses[apiLast(r.Ref)]
		}
		if r == nil {
			t.Fatalf("%s refers to nothing", at)
		}
		r.at, op.Responses[status] = at, r
		for name, h := range r.Headers {
			if h.Ref != "" {
				if r.Headers[name] = d.Components.Headers[apiLast(h.Ref)]; r.Headers[name] == nil {
					t.Fatalf("%s: %s refers to nothing", at, name)
				}
			}
		}
	}
}

func apiLast(ref string) string { return ref[strings.LastIndex(ref, "/")+1:] }

// apiPointer appends tokens to a JSON pointer (RFC 6901).
func apiPointer(base string, tokens ...string) string {
	for _, token := range tokens {
		base += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(token)
	}
	return base
}

func (d *apiDescription) schema(t *testing.T, name string) *apiSchema {
	t.Helper()
	s := d.Components.Schemas[name]
	if s == nil {
		t.Fatalf("the description has no schema %s", name)
	}
	return s
}

// check validates JSON against a schema of the description, by its name.
func (d *apiDescription) check(t *testing.T, name string, b []byte) error {
	t.Helper()
	d.schema(t, name)
	return d.checkAt(t, apiPointer("/components/schemas", name), b)
}

// checkAt validates JSON against the schema at a JSON pointer.
func (d *apiDescription) checkAt(t *testing.T, at string, b []byte) error {
	t.Helper()
	schema, err := d.schemas.Compile(apiDocument + "#" + at)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		return fmt.Errorf("%.200s is not as %s has it: %w", b, at, err)
	}
	return nil
}

// exchange validates an answer, and the request if it is to be a good one, by the description.
func (d *apiDescription) exchange(t *testing.T, a *apiAnswer, body string, good bool) {
	t.Helper()
	what := fmt.Sprintf("%s %s %.60s: %d", a.req.Method, a.req.URL.RequestURI(), body, a.status)
	op := d.Paths[a.req.URL.Path][strings.ToLower(a.req.Method)]
	if op == nil {
		t.Fatalf("%s is not described", what)
	}
	if good {
		if err := d.request(t, op, a.req, body); err != nil {
			t.Errorf("%s: the request: %v", what, err)
		}
	}
	described := op.Responses[strconv.Itoa(a.status)]
	if described == nil {
		t.Errorf("%s: the status is not described", what)
		return
	}
	ct := a.header.Get("Content-Type")
	if described.Content[ct] == nil {
		t.Errorf("%s: the content type %s is not described", what, ct)
	} else if strings.HasSuffix(ct, "json") && ct != apiNDJSON {
		if err := d.checkAt(t, apiPointer(described.at+"/content", ct, "schema"), a.body); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for name, h := range described.Headers {
		if h.Required && a.header.Get(name) == "" {
			t.Errorf("%s: there is no %s", what, name)
		}
	}
}

// request validates a request: its parameters are described and valid, and so is its body.
func (d *apiDescription) request(t *testing.T, op *apiOperation, req *http.Request, body string) error {
	t.Helper()
	var errs []error
	for name, values := range req.URL.Query() {
		i := slices.IndexFunc(op.Parameters, func(p *apiParameter) bool { return p.In == "query" && p.Name == name })
		if i < 0 {
			errs = append(errs, fmt.Errorf("the parameter %s is not described", name))
			continue
		}
		p := op.Parameters[i]
		value := apiMarshal(t, values[0])
		if bytes.Contains(p.Schema, []byte(`"integer"`)) {
			value = []byte(values[0])
		}
		errs = append(errs, d.checkAt(t, p.at+"/schema", value))
	}
	ct := req.Header.Get("Content-Type")
	switch {
	case op.RequestBody == nil && body != "":
		errs = append(errs, errors.New("it has a body, and none is described"))
	case op.RequestBody != nil && op.RequestBody.Content[ct] == nil:
		errs = append(errs, fmt.Errorf("a body of %s is not described", ct))
	case op.RequestBody != nil && ct == apiJSON:
		errs = append(errs, d.checkAt(t, op.at+apiPointer("/requestBody/content", ct, "schema"), []byte(body)))
	}
	return errors.Join(errs...)
}

func TestTheDescriptionIsOpenAPI(t *testing.T) {
	d := apiDescribe(t, apiServeSafe(t, tidings.Options{}))
	if d.Version != "3.1.0" {
		t.Errorf("version %s", d.Version)
	}
	// A schema that is none, or that refers to none, can't be compiled.
	n := 0
	var compile func(at string, v any)
	compile = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for i, e := range v {
				compile(apiPointer(at, strconv.Itoa(i)), e)
			}
		case map[string]any:
			for k, e := range v {
				under := apiPointer(at, k)
				if _, isObject := e.(map[string]any); isObject && (k == "schema" || at == "/components/schemas") {
					n++
					if _, err := d.schemas.Compile(apiDocument + "#" + under); err != nil {
						t.Error(err)
					}
					continue
				}
				compile(under, e)
			}
		}
	}
	var whole any
	apiDecode(t, d.raw, &whole)
	compile("", whole)
	if n < 20 {
		t.Errorf("only %d schemas were found", n)
	}
	d.checkOperations(t)
}

func (d *apiDescription) checkOperations(t *testing.T) {
	t.Helper()
	ids := map[string]bool{}
	for path, item := range d.Paths {
		for method, op := range item {
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" || len(op.Tags) != 1 {
				t.Errorf("%s %s: %q, %q, %v", method, path, op.OperationID, op.Summary, op.Tags)
			}
			ids[op.OperationID] = true
			if program := slices.Contains(apiProgramPaths, path); program != (op.Tags[0] == "program") {
				t.Errorf("%s %s: tag %s", method, path, op.Tags[0])
			}
			for _, p := range op.Parameters {
				if p.Description == "" {
					t.Errorf("%s %s: %s is not described", method, path, p.Name)
				}
			}
			for status, r := range op.Responses {
				if len(r.Content) == 0 && status != "204" {
					t.Errorf("%s %s: the body of %s is not described", method, path, status)
				}
			}
		}
	}
}
