package report

import (
	"fmt"
	"math"
	"strconv"
)

// number writes a value with three digits that count, and large ones with commas.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		return commas(int64(roundTo(v, 3)))
	case a >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// roundTo rounds a value of at least 1 to so many digits.
func roundTo(v float64, digits int) float64 {
	scale := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-float64(digits-1))
	return math.Round(v/scale) * scale
}

func commas(n int64) string {
	if n < 0 {
		return "-" + commas(-n)
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return commas(n/1000) + fmt.Sprintf(",%03d", n%1000)
}

// The ways to write a value.
func kib(v float64) string     { return number(v/1024) + " KiB" }
func times(v float64) string   { return number(v) + " x" }
func perS(v float64) string    { return number(v) + "/s" }
func millis(v float64) string  { return number(v) + " ms" }
func micros(v float64) string  { return number(v) + " us" }
func seconds(v float64) string { return number(v/1000) + " s" }
