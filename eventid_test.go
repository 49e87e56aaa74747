package tidings_test

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/tidings-sse/tidings"
)

// eventIDGrammar is what every event ID matches: npm's clients can't reconnect with one that isn't ASCII.
var eventIDGrammar = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,128}$`)

func TestAnEventIDIsReadAsWhatItWasWrittenFrom(t *testing.T) {
	for _, epoch := range []string{"k3", "0", "Z", "abcdefghij", strings.Repeat("z", 32)} {
		for _, pos := range []tidings.Position{{}, {Hi: 1}, {Lo: 1}, {Hi: 35, Lo: 36}, {Hi: math.MaxUint64, Lo: math.MaxUint64}} {
			for _, tag := range []uint32{0, 1, 35, 1<<tidings.TagBits - 1} {
				id := tidings.CursorID(epoch, pos, tag)
				if !eventIDGrammar.MatchString(id) {
					t.Errorf("%q is not an event ID", id)
				}
				e, p, g, err := tidings.ParseCursor(id)
				if err != nil || e != epoch || p != pos || g != tag {
					t.Errorf("%q is read as %q, %v, %d, %v", id, e, p, g, err)
				}
			}
		}
	}
}

func TestAnEventIDIsWrittenAsDocumented(t *testing.T) {
	if got := tidings.CursorID("k3", tidings.Position{Hi: 105}, 339); got != "1k3-2x.0-9f" {
		t.Errorf("%q", got)
	}
}

func TestThereIsOneTextForEachCursor(t *testing.T) {
	const good = "1k3-2x.0-9f"
	if _, _, _, err := tidings.ParseCursor(good); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{
		"", "1", "1-", "1--", "1-.-", "1k3", "1k3-2x.0", "1k3-2x-9f", "1k3-.0-9f", "1k3-2x.-9f", "1k3-2x.0-", "1-2x.0-9f",
		"0k3-2x.0-9f", "2k3-2x.0-9f", "k3-2x.0-9f", "-k3-2x.0-9f", // another version
		"1k3-2X.0-9f", "1k3-2x.0-9F", // capitals
		"1k3-02x.0-9f", "1k3-2x.00-9f", "1k3-2x.0-09f", "1k3-+2x.0-9f", "1k3-2_x.0-9f", "1k3--2x.0-9f", // other texts of a number
		"1k3-2x.0-9f ", " 1k3-2x.0-9f", "1k3-2x.0-9f\n", "1k3-2x.0-9f-", "1k3-2x.0-9f.0", "1k3-2x.0.0-9f",
		"1k~3-2x.0-9f", "1k.3-2x.0-9f", "1é-2x.0-9f", "1k3\x00-2x.0-9f",
		"1k3-2x.0-mh34", "1k3-2x.0-zzzzzzz", // a tag of more bits
		"1k3-3w5e11264sgsg.0-1", "1k3-0.3w5e11264sgsg-1", // 2^64
		"1" + strings.Repeat("k", 33) + "-2x.0-9f",
		strings.Repeat("1", 128), strings.Repeat("1", 129), good + strings.Repeat("0", 1<<16),
	} {
		if e, p, g, err := tidings.ParseCursor(id); err == nil {
			t.Errorf("%.50q is read as %q, %v, %d", id, e, p, g)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("1k3-2x.0-9f")
	f.Add("1k3-0.0-0")
	f.Add("2k3-2x.0-9f")
	f.Add("")
	f.Fuzz(func(t *testing.T, id string) {
		epoch, pos, tag, err := tidings.ParseCursor(id)
		if err != nil {
			return
		}
		if again := tidings.CursorID(epoch, pos, tag); again != id {
			t.Errorf("%q is read as what is written %q", id, again)
		}
		if !eventIDGrammar.MatchString(id) {
			t.Errorf("%q is read, and is not an event ID", id)
		}
		if tag >= 1<<tidings.TagBits {
			t.Errorf("%q has the tag %d", id, tag)
		}
	})
}
