package load_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/tidings-sse/tidings/internal/load"
)

func TestNumbersOfEveryLengthAreRead(t *testing.T) {
	const digits = "1234567890987654321"
	for n := range len(digits) + 1 {
		for _, behind := range []string{"", ",", "}", ":.........", "/........"} {
			v, read := load.Number([]byte(digits[:n] + behind))
			want, _ := strconv.ParseUint(digits[:n], 10, 64)
			if v != want || read != n {
				t.Errorf("%q: %d of %d digits", digits[:n]+behind, v, read)
			}
		}
	}
	for i := uint64(1); i < 1<<60; i = i*3 + 7 {
		if v, n := load.Number(fmt.Appendf(nil, "%d", i)); v != i || n != len(strconv.FormatUint(i, 10)) {
			t.Errorf("%d was read as %d", i, v)
		}
	}
}
