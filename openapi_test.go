package tidings_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidings-sse/tidings"
)

// apiProgramPaths are described, and served by the program.
var apiProgramPaths = []string{"/api/sse/session", "/api/sse/tickets", "/healthz", "/readyz"}

func TestTheDescriptionIsWhatIsServed(t *testing.T) {
	d := apiDescribe(t, apiServeSafe(t, tidings.Options{}))
	served, err := os.ReadFile("openapi.json")
	if err != nil || !bytes.Equal(served, d.raw) {
		t.Errorf("openapi.json is not what is served: %v", err)
	}
}

func TestWhatIsDescribedIsServedAndNothingElse(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	d := apiDescribe(t, s)
	var described []string
	for path, item := range d.Paths {
		if slices.Contains(apiProgramPaths, path) {
			continue
		}
		described = append(described, path)
		var methods []string
		for method := range item {
			methods = append(methods, strings.ToUpper(method))
		}
		slices.Sort(methods)
		a := s.do(t, "TRACE", path, "")
		a.problem(405, "method", "")
		if allow := a.header.Get("Allow"); allow != strings.Join(methods, ", ") {
			t.Errorf("%s: %s is served, and %s described", path, allow, methods)
		}
	}
	served := []string{"/api/sse"} // by the hub itself
	for _, value := range apiStrings(t, "api.go") {
		if strings.HasPrefix(value, "/api/") {
			served = append(served, value)
		}
	}
	slices.Sort(described)
	slices.Sort(served)
	if served = slices.Compact(served); !slices.Equal(described, slices.DeleteFunc(served, func(p string) bool {
		return strings.Contains(p, " ") // a hint's
	})) {
		t.Errorf("described %s, served %s", described, served)
	}
}

// apiStrings lists the string literals of a Go file.
func apiStrings(t *testing.T, file string) []string {
	t.Helper()
	var values []string
	ast.Inspect(apiParse(t, file), func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				values = append(values, s)
			}
		}
		return true
	})
	return values
}

func apiParse(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash(file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// apiConstants lists the string that each constant or variable with this prefix (and more) has in its value, the last
// literal of it: "x" in prefix + "x".
func apiConstants(t *testing.T, file, prefix string, which func(n ast.Expr) string) []string {
	t.Helper()
	var values []string
	ast.Inspect(apiParse(t, file), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if strings.HasPrefix(name.Name, prefix) && len(name.Name) > len(prefix) && i < len(spec.Values) {
				if v := which(spec.Values[i]); v != "" {
					values = append(values, v)
				}
			}
		}
		return true
	})
	slices.Sort(values)
	if len(values) == 0 {
		t.Fatalf("%s has no %s..", file, prefix)
	}
	return values
}

func apiLiteral(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok {
		s, _ := strconv.Unquote(lit.Value)
		return s
	}
	return ""
}

// apiWords are the words of the wire, by the schema that lists them: as they stand in the code.
func apiWords(t *testing.T) map[string][]string {
	t.Helper()
	problems := apiConstants(t, "problem.go", "problem", func(e ast.Expr) string { // problemPrefix + "x"
		if sum, ok := e.(*ast.BinaryExpr); ok {
			return "urn:tidings:" + apiLiteral(sum.Y)
		}
		return ""
	})
	problems = append(problems, slices.DeleteFunc(apiConstants(t, "internal/server/routes.go", "problem", apiLiteral), func(typ string) bool {
		return slices.Contains(problems, typ) // shared with the library
	})...)
	slices.Sort(problems)
	refusals := apiConstants(t, "refusal.go", "err", func(e ast.Expr) string { // &refusal{"x", ..}
		if ptr, ok := e.(*ast.UnaryExpr); ok {
			if lit, ok := ptr.X.(*ast.CompositeLit); ok && len(lit.Elts) > 0 {
				return apiLiteral(lit.Elts[0])
			}
		}
		return ""
	})
	reasons := []tidings.Reason{
		tidings.ReasonClosed, tidings.ReasonLost, tidings.ReasonSlow, tidings.ReasonDrained, tidings.ReasonExpired, tidings.ReasonKicked, tidings.ReasonGap, tidings.ReasonStopped,
	}
	var disconnects []string
	for _, r := range reasons {
		disconnects = append(disconnects, string(r))
	}
	slices.Sort(disconnects)
	declared := 0
	ast.Inspect(apiParse(t, "connection.go"), func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Reason") {
			declared++
		}
		return true
	})
	if declared != len(reasons) {
		t.Fatalf("%d reasons are declared, and %d are known here", declared, len(reasons))
	}
	return map[string][]string{
		"ProblemType":       problems,
		"GapReason":         apiConstants(t, "join.go", "gap", apiLiteral),
		"Resume":            apiConstants(t, "join.go", "resume", apiLiteral),
		"UnavailableReason": refusals,
		"DisconnectReason":  disconnects,
	}
}

func TestTheDescriptionHasTheCodesOwnWords(t *testing.T) {
	d := apiDescribe(t, apiServeSafe(t, tidings.Options{}))
	for schema, want := range apiWords(t) {
		got := slices.Sorted(slices.Values(d.schema(t, schema).Enum))
		if !slices.Equal(got, want) {
			t.Errorf("%s: described %q, in the code %q", schema, got, want)
		}
	}
}

func TestTheDocumentHasTheCodesOwnWords(t *testing.T) {
	b, err := os.ReadFile("docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for schema, words := range apiWords(t) {
		for _, w := range words {
			w = strings.TrimPrefix(w, "urn:tidings:")
			if !strings.Contains(doc, "`"+w+"`") && !strings.Contains(doc, `"`+w+`"`) {
				t.Errorf("docs/http.md doesn't name the %s %q", schema, w)
			}
		}
	}
	for _, typ := range apiConstants(t, "refusal.go", "type", func(e ast.Expr) string { // ReservedPrefix + "x"
		if sum, ok := e.(*ast.BinaryExpr); ok {
			return tidings.ReservedPrefix + apiLiteral(sum.Y)
		}
		return ""
	}) {
		if !strings.Contains(doc, "`"+typ+"`") {
			t.Errorf("docs/http.md doesn't name %s", typ)
		}
	}
	d := apiDescribe(t, apiServeSafe(t, tidings.Options{}))
	for path, item := range d.Paths {
		for method, op := range item {
			if !strings.Contains(doc, "`"+strings.ToUpper(method)+" "+path+"`") {
				t.Errorf("docs/http.md doesn't have `%s %s`", strings.ToUpper(method), path)
			}
			for _, p := range op.Parameters {
				if !strings.Contains(doc, "`"+p.Name+"`") {
					t.Errorf("docs/http.md doesn't have the parameter %s", p.Name)
				}
			}
		}
	}
	for _, schema := range []string{"Event", "Target", "Receipt", "Connection", "Problem"} {
		for field := range d.schema(t, schema).Properties {
			if !strings.Contains(doc, "`"+field+"`") {
				t.Errorf("docs/http.md doesn't have %s.%s", schema, field)
			}
		}
	}
}

// apiBlock is a block of code in a document.
type apiBlock struct{ language, text string }

func apiBlocks(t *testing.T, file string) (blocks []apiBlock) {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(b), "\n```")
	for i := 1; i+1 < len(parts); i += 2 {
		language, text, _ := strings.Cut(parts[i], "\n")
		blocks = append(blocks, apiBlock{language, text})
	}
	return blocks
}

// Every command of the document runs, and answers what the document says, but for what is another each time.
func TestTheCommandsOfTheDocumentAnswerWhatItSays(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("install curl: the commands of docs/http.md are run with it")
	}
	s := apiServe(t, tidings.Options{})
	blocks, ran := apiBlocks(t, "docs/http.md"), 0
	for i, b := range blocks {
		if b.language != "sh" {
			continue
		}
		ran++
		command := strings.ReplaceAll(strings.ReplaceAll(b.text, "curl ", "curl -sS "), "http://127.0.0.1:8080", s.URL)
		if strings.HasPrefix(b.text, "curl -N ") {
			apiRunStream(t, s, command)
			continue
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Errorf("%s%v: %s", b.text, err, out)
		}
		got := apiValues(t, out)
		if len(got) == 0 {
			t.Errorf("%sanswered nothing", b.text)
		}
		if i+1 == len(blocks) || blocks[i+1].language != "json" {
			for _, v := range got { // a receipt, or the counts: no problem
				if m, ok := v.(map[string]any); !ok || m["status"] != nil {
					t.Errorf("%sanswered %s", b.text, out)
				}
			}
			continue
		}
		want := apiValues(t, []byte(blocks[i+1].text))
		if g, w := apiMarshal(t, apiTimeless(got)), apiMarshal(t, apiTimeless(want)); !bytes.Equal(g, w) {
			t.Errorf("%sanswered\n%s\nand not what the document says\n%s", b.text, g, w)
		}
	}
	if ran < 12 {
		t.Errorf("only %d commands were found", ran)
	}
}

// apiRunStream runs a command that opens a stream. The document's first one stays; a later one ends once it is connected.
func apiRunStream(t *testing.T, s *apiServer, command string) {
	t.Helper()
	before := s.hub.Stats().Connections
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+command)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() {
		stop()
		_ = cmd.Wait() // it was killed
	}
	await := func(connections int) {
		t.Helper()
		for deadline := time.Now().Add(apiWait); s.hub.Stats().Connections != connections; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d connections, want %d", command, s.hub.Stats().Connections, connections)
			}
		}
	}
	await(before + 1)
	var got strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(got.String(), "event: tidings.connected\n"); {
		n, err := out.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("%s: %v after %s", command, err, got.String())
		}
	}
	if before == 0 {
		t.Cleanup(end)
		return
	}
	end()
	await(before)
}

// apiValues decodes JSON values that stand one after the other.
func apiValues(t *testing.T, b []byte) (vs []any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	for {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return vs
		}
		if err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		vs = append(vs, v)
	}
}

// apiTimeless replaces what is another each time.
func apiTimeless(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = apiTimeless(v[i])
		}
	case map[string]any:
		for k := range v {
			switch k {
			case "id", "connectionId", "remoteAddr", "connectedAt", "lastEventId", "events", "bytes", "queued":
				v[k] = fmt.Sprintf("any %T", v[k])
			default:
				v[k] = apiTimeless(v[k])
			}
		}
	}
	return v
}

func TestTheSchemasHaveTheFieldsOfTheGoTypes(t *testing.T) {
	d := apiDescribe(t, apiServeSafe(t, tidings.Options{}))
	for name, v := range map[string]any{
		"Receipt": tidings.Receipt{}, "Connection": tidings.Connection{}, "Stats": tidings.Stats{}, "HistoryStats": tidings.HistoryStats{},
		"LogStats": tidings.LogStats{}, "Nodes": tidings.Nodes{}, "ConnectionList": tidings.ConnectionPage{},
		"Problem": tidings.Problem{}, "Target": tidings.Target{},
	} {
		schema := d.schema(t, name)
		var fields, required []string
		for f := range reflect.TypeOf(v).Fields() {
			if !f.IsExported() {
				continue
			}
			field, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if field == "" || field == "-" {
				t.Errorf("%s.%s has no JSON name", name, f.Name)
			}
			fields = append(fields, field)
			if options != "omitempty" {
				required = append(required, field)
			}
		}
		apiSameWords(t, name, apiProperties(schema), fields)
		switch name {
		case "Problem":
			required = append(required, "detail") // each has one
		case "Receipt":
			required = []string{"id"} // not every sender is told more
		}
		apiSameWords(t, name+" requires", slices.Clone(schema.Required), required)
	}

	// An event has its own encoder: one with everything shows its fields.
	b, err := tidings.Event{
		Type: "x", Data: 1, Targets: []tidings.Target{{UserID: "u"}}, Exclude: tidings.Target{UserID: "u"}, TTL: 1e9, CollapseKey: "c", IdempotencyKey: "i",
	}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	apiDecode(t, b, &members)
	fields := []string{"text", "target"} // in the place of data and targets
	for m := range members {
		fields = append(fields, m)
	}
	apiSameWords(t, "Event", apiProperties(d.schema(t, "Event")), fields)
}

func apiProperties(s *apiSchema) (names []string) {
	for name := range s.Properties {
		names = append(names, name)
	}
	return names
}

func apiSameWords(t *testing.T, what string, described, code []string) {
	t.Helper()
	slices.Sort(described)
	slices.Sort(code)
	if !slices.Equal(described, code) {
		t.Errorf("%s: described %q, in the code %q", what, described, code)
	}
}

func TestEveryAnswerIsAsItIsDescribed(t *testing.T) {
	s := apiServe(t, tidings.Options{MaxConnections: 2})
	d := apiDescribe(t, s)
	st := s.listen(t, "?clientId=c&userId=u&sessionId=s&topic=t")
	s.listen(t, "?userId=v", "Last-Event-ID", "unknown")

	denied := apiServe(t, tidings.Options{Authorizer: apiDeny{
		"":     &tidings.DeniedError{Unauthenticated: true, Reason: "no token"},
		"weak": &tidings.DeniedError{Reason: "not you"},
		"down": errors.New("down"),
	}})
	log := tidings.NewMemoryBroker(nil)
	defer log.Close()
	unknown := apiServe(t, tidings.Options{Broker: &apiBroker{log, errors.New("broken")}})
	notStored := apiServe(t, tidings.Options{Broker: &apiBroker{log, tidings.ErrNotStored}})
	diskFull := apiServe(t, tidings.Options{Broker: &apiBroker{log, fmt.Errorf("%w (%w)", tidings.ErrStorageFull, tidings.ErrNotStored)}})

	limited := apiServe(t, tidings.Options{MaxSendsPerSecond: 1})
	limited.send(t, `{}`)

	const send, connections, stats = "/api/sse/send", "/api/sse/connections", "/api/sse/stats"
	seen := map[string]bool{}
	for _, c := range []struct {
		on     *apiServer
		method string
		path   string
		body   string
		status int
		header []string
	}{
		{s, "POST", send, `{"type":"x","data":{"a":[1,"b"]},"target":{"clientId":"c","userId":"u","sessionId":"s","topic":"t"}}`, 200, nil},
		{s, "POST", send, `{"text":"x\ny","targets":[{"topic":"t"},{"userId":"u"}],"exclude":{"userId":"v"},"ttlMs":1000,"collapseKey":"c","idempotencyKey":"i"}`, 200, nil},
		{s, "POST", send + "?matched=node", `{"target":{"userId":"nobody"}}`, 200, []string{"Idempotency-Key", "k"}},
		{s, "POST", send, `{"target":{"userId":"another"}}`, 409, []string{"Idempotency-Key", "k"}},
		{s, "POST", send, `{"target":{}}`, 400, nil},
		{s, "POST", send, `{"type":"tidings.x"}`, 400, nil},
		{s, "POST", send, `{"data":"` + strings.Repeat("x", 1<<20) + `"}`, 413, nil},
		{s, "POST", send, `{}`, 415, []string{"Content-Type", "text/plain"}},
		{s, "POST", send, "{}\n{\n", 200, []string{"Content-Type", apiNDJSON}},
		{unknown, "POST", send, `{}`, 504, nil},
		{notStored, "POST", send, `{}`, 503, nil},
		{diskFull, "POST", send, `{}`, 507, nil},
		{s, "POST", send + "?matched=cluster", `{}`, 200, nil},
		{s, "GET", connections + "?scope=node", "", 200, nil},
		{s, "GET", connections + "?scope=world", "", 400, nil},
		{limited, "POST", send, `{}`, 429, nil},
		{s, "GET", connections, "", 200, nil},
		{s, "GET", connections + "?limit=1&topic=t", "", 200, nil},
		{s, "GET", connections + "?limit=1", "", 200, nil},
		{s, "GET", connections + "?clientId=c&userId=u&sessionId=s&topic=t&limit=1000&after=x", "", 200, nil},
		{s, "GET", connections + "?limit=0", "", 400, nil},
		{s, "GET", stats, "", 200, nil},
		{s, "GET", "/api/sse/openapi.json", "", 200, nil},
		{s, "GET", "/api/sse?userId=a&userId=b", "", 400, nil},
		{s, "GET", "/api/sse", "", 431, []string{"Last-Event-ID", strings.Repeat("x", 2000)}},
		{s, "GET", "/api/sse", "", 503, nil}, // full
		{denied, "GET", "/api/sse?userId=other", "", 403, []string{"Authorization", "good"}},
		{s, "DELETE", connections, "", 400, nil},
		{s, "DELETE", connections + "?userId=v", "", 200, nil},
		{s, "DELETE", connections + "?userId=w&refuseUntil=2030-01-01T00:00:00Z", "", 200, nil},
		{unknown, "DELETE", connections + "?userId=w&refuseUntil=2030-01-01T00:00:00Z", "", 504, nil},
		{s, "DELETE", connections + "?user=v", "", 400, nil},
	} {
		header := c.header
		if c.method == "POST" && !slices.Contains(header, "Content-Type") {
			header = append(header, "Content-Type", apiJSON)
		}
		a := c.on.do(t, c.method, c.path, c.body, header...)
		if a.status != c.status {
			t.Errorf("%s %s %.60s: %d %s, want %d", c.method, c.path, c.body, a.status, a.body, c.status)
		}
		d.exchange(t, a, c.body, c.status == 200)
		path, _, _ := strings.Cut(c.path, "?")
		seen[fmt.Sprint(c.method, path, a.status)] = true
	}
	for token, status := range map[string]int{"": 401, "weak": 403, "down": 503} {
		for _, c := range [][3]string{
			{"GET", "/api/sse", ""}, {"POST", send, "{}"}, {"GET", connections, ""}, {"DELETE", connections, ""}, {"GET", stats, ""},
		} {
			a := denied.do(t, c[0], c[1], c[2], "Authorization", token, "Content-Type", apiJSON)
			if a.status != status {
				t.Errorf("%s %s: %d, want %d", c[0], c[1], a.status, status)
			}
			d.exchange(t, a, c[2], false)
			seen[fmt.Sprint(c[0], c[1], a.status)] = true
		}
	}
	seen["GET/api/sse200"] = true // the streams above
	for path, item := range d.Paths {
		for method, op := range item {
			for status := range op.Responses {
				if !slices.Contains(apiProgramPaths, path) && !seen[strings.ToUpper(method)+path+status] {
					t.Errorf("%s %s is described with %s, which was not seen", method, path, status)
				}
			}
		}
	}
	for range 2 {
		if e := st.next(); e.Type == "" {
			t.Errorf("%+v", e)
		}
	}
}

func TestEachLinesAnswerIsAsItIsDescribed(t *testing.T) {
	s := apiServe(t, tidings.Options{MaxEventBytes: 1000})
	d := apiDescribe(t, s)
	a := s.do(t, "POST", "/api/sse/send", "{}\n{\"target\":{\"userId\":\"u\"}}\nnull\n{\"idempotencyKey\":\"k\"}\n{\"data\":1,\"idempotencyKey\":\"k\"}\n"+
		strings.Repeat(" ", 1001)+"\n", "Content-Type", apiNDJSON)
	lines := slices.Collect(bytes.Lines(a.body))
	for i, schema := range []string{"Receipt", "Receipt", "Problem", "Receipt", "Problem", "Problem"} {
		if i >= len(lines) {
			t.Fatalf("%s", a.body)
		}
		if err := d.check(t, schema, lines[i]); err != nil {
			t.Error(err)
		}
	}
}

func TestTheStreamsOwnEventsAreAsTheyAreDescribed(t *testing.T) {
	s := apiServe(t, tidings.Options{MaxConnections: 1})
	d := apiDescribe(t, s)
	st := s.listen(t, "?clientId=c", "Last-Event-ID", "unknown")
	if err := d.check(t, "ConnectedData", []byte(st.first.Data)); err != nil {
		t.Error(err)
	}
	if err := d.check(t, "GapData", []byte(st.next().Data)); err != nil {
		t.Error(err)
	}
	a := s.do(t, "GET", "/api/sse/stats", "")
	if err := d.check(t, "Stats", a.body); err != nil {
		t.Error(err)
	}
	if _, err := s.hub.Disconnect(tidings.Target{ClientID: "c"}); err != nil {
		t.Fatal(err)
	}
	if err := d.check(t, "DisconnectedData", []byte(st.next().Data)); err != nil {
		t.Error(err)
	}
	s.awaitOnline(t, st, false)
	down := apiServeSafe(t, tidings.Options{Authorizer: apiDeny{"": errors.New("down")}})
	req, err := http.NewRequestWithContext(t.Context(), "GET", down.URL+"/api/sse", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := down.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream ended with %v", err)
	}
	es := apiEvents(t, b)
	if len(es) != 1 {
		t.Fatalf("%+v", es)
	}
	if err := d.check(t, "UnavailableData", []byte(es[0].Data)); err != nil {
		t.Error(err)
	}
	for _, schema := range []string{"ConnectedData", "GapData", "UnavailableData", "DisconnectedData"} {
		if d.check(t, schema, []byte(`{}`)) == nil {
			t.Errorf("{} is a %s: the check checks nothing", schema)
		}
	}
}

// What the description calls no event is refused, and what is accepted it calls one: a client that is made from it can
// send all that it may, and nothing that it may not but for what a schema can't say.
func TestTheSchemaOfAnEventAgreesWithTheServer(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	d := apiDescribe(t, s)
	for _, body := range []string{
		`{}`, `{"data":null}`, `{"data":[1,2.5,"a",{"b":{}}]}`, `{"text":""}`, `{"type":"opened"}`, `{"type":"errors"}`, `{"type":"tidingsx"}`, `{"type":"Tidings.x"}`,
		`{"type":"` + strings.Repeat("x", 128) + `"}`, `{"type":"👋 hello","target":{"topic":"ünïcödé"}}`, `{"ttlMs":1}`, `{"ttlMs":3153600000000}`,
		`{"target":{"clientId":"c","userId":"u","sessionId":"s","topic":"t"},"exclude":{"clientId":"~x"}}`, `{"targets":[{"userId":"` + strings.Repeat("x", 256) + `"}]}`,
		`{"targets":[` + strings.Repeat(`{"topic":"a"},`, 99) + `{"topic":"a"}]}`, `{"collapseKey":"k","idempotencyKey":"only-once"}`,
	} {
		if a := s.send(t, body); a.status != 200 {
			t.Errorf("%.60s: %d %s", body, a.status, a.body)
		}
		if err := d.check(t, "Event", []byte(body)); err != nil {
			t.Error(err)
		}
	}
	refused := 0
	for _, c := range apiBadEvents { // the server refuses them all: see there
		if !json.Valid([]byte(c.body)) || len(c.body) > 10_000 || c.body == "null" { // the library takes null for nothing to check
			continue
		}
		says := d.check(t, "Event", []byte(c.body))
		switch {
		case says != nil:
			refused++
		case strings.Contains(c.says, "twice"), strings.Contains(c.says, "surrogate"), strings.Contains(c.says, "130 bytes"):
			// No schema can say it: its limits are in characters, not bytes.
		default:
			t.Errorf("%.80s is an event by the description, and refused by the server", c.body)
		}
	}
	if refused < 70 {
		t.Errorf("only %d were refused", refused)
	}
}

// Every example in the description is one: it is valid by its schema, and the problems have the words that the server
// uses.
func TestTheExamplesOfTheDescriptionAreValid(t *testing.T) {
	s := apiServe(t, tidings.Options{})
	d := apiDescribe(t, s)
	titles := map[string]string{}
	for _, p := range []struct{ method, path, body, contentType string }{
		{"POST", "/api/sse/send", "null", apiJSON}, {"POST", "/api/sse/send", `{"target":{}}`, apiJSON}, {"POST", "/api/sse/send", "", ""},
		{"POST", "/api/sse/send", strings.Repeat(" ", 1<<20+1), apiJSON}, {"GET", "/api/sse/none", "", ""}, {"PUT", "/api/sse", "", ""},
	} {
		var got tidings.Problem
		apiDecode(t, s.do(t, p.method, p.path, p.body, "Content-Type", p.contentType).body, &got)
		titles[got.Type] = got.Title
	}
	var whole any
	apiDecode(t, d.raw, &whole)
	n := 0
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for i, e := range v {
				walk(fmt.Sprintf("%s[%d]", at, i), e)
			}
		case map[string]any:
			schema, _ := v["schema"].(map[string]any)
			ref, _ := schema["$ref"].(string)
			name := ref[strings.LastIndex(ref, "/")+1:]
			examples := map[string]any{}
			if e, ok := v["example"]; ok {
				examples["example"] = e
			}
			if es, ok := v["examples"].(map[string]any); ok {
				for k, e := range es {
					examples[k] = e.(map[string]any)["value"]
				}
			}
			for k, e := range examples {
				if name == "" {
					continue // of text
				}
				n++
				b := apiMarshal(t, e)
				if err := d.check(t, name, b); err != nil {
					t.Errorf("%s %s: %v", at, k, err)
				}
				if name == "Event" {
					s.send(t, string(b)).receipt()
				}
				if name == "Problem" {
					var p tidings.Problem
					apiDecode(t, b, &p)
					if want, known := titles[p.Type]; known && p.Title != want {
						t.Errorf("%s %s: the title is %q, and the server's %q", at, k, p.Title, want)
					}
				}
			}
			for k, e := range v {
				walk(at+"/"+k, e)
			}
		}
	}
	walk("", whole)
	if n < 20 {
		t.Errorf("only %d examples were found", n)
	}
}
