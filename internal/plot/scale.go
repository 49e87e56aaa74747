package plot

import (
	"math"
	"strconv"
	"strings"
)

// scale maps an axis' values to 0 to 1.
type scale struct {
	log      bool
	min, max float64
	ticks    []Tick
}

// scaleOf lays out an axis for the values. most is about how many ticks it has room for.
func scaleOf(a Axis, values []float64, most int) scale {
	s := scale{log: a.Log, min: math.Inf(1), max: math.Inf(-1)}
	for _, v := range values {
		if s.shows(v) {
			s.min, s.max = math.Min(s.min, v), math.Max(s.max, v)
		}
	}
	switch {
	case a.Min != 0 || a.Max != 0:
		s.min, s.max = a.Min, a.Max
	case math.IsInf(s.min, 0): // nothing to show
		s.min, s.max = 0, 1
		if a.Log {
			s.min, s.max = 1, 10
		}
	case a.Log:
		s.min, s.max = math.Pow(10, math.Floor(math.Log10(s.min)+1e-9)), math.Pow(10, math.Ceil(math.Log10(s.max)-1e-9))
		if s.min == s.max {
			s.max *= 10
		}
	default:
		s.min = math.Min(s.min, 0)
		s.max = math.Max(s.max, 0)
		step := niceStep(s.max-s.min, most)
		s.min, s.max = math.Floor(s.min/step)*step, math.Ceil(s.max/step)*step
		if s.min == s.max {
			s.max++
		}
	}
	if s.ticks = a.Ticks; s.ticks == nil {
		s.ticks = s.round(most)
	}
	return s
}

func (s scale) shows(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (!s.log || v > 0)
}

// at returns where a value is, held within the axis.
func (s scale) at(v float64) float64 {
	lo, hi := s.min, s.max
	if s.log {
		lo, hi, v = math.Log(lo), math.Log(hi), math.Log(v)
	}
	return math.Max(0, math.Min(1, (v-lo)/(hi-lo)))
}

// niceStep returns 1, 2 or 5 times a power of ten.
func niceStep(length float64, most int) float64 {
	if length <= 0 {
		return 1
	}
	rough := length / float64(max(most, 1))
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= rough*0.999 {
			return m * power
		}
	}
	return 10 * power
}

// round returns ticks at round values.
func (s scale) round(most int) []Tick {
	var ts []Tick
	if s.log {
		decades := math.Log10(s.max / s.min)
		each := math.Max(1, math.Ceil(decades/float64(max(most, 1))))
		for e := math.Ceil(math.Log10(s.min) - 1e-9); e <= math.Log10(s.max)+1e-9; e += each {
			ts = append(ts, Tick{At: math.Pow(10, e)})
		}
		return ts
	}
	step := niceStep(s.max-s.min, most)
	for i := math.Ceil(s.min/step - 1e-9); i*step <= s.max+step*1e-9; i++ {
		ts = append(ts, Tick{At: i * step})
	}
	return ts
}

func (t Tick) label() string {
	if t.Label != "" {
		return t.Label
	}
	return Format(t.At)
}

// Format writes a value with three digits, and k, M or G where it is large: 1.25M.
func Format(v float64) string {
	for _, u := range []struct {
		of   float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= u.of*0.9995 && (math.Abs(v) >= 1e4 || u.of > 1e3) {
			return digits(v/u.of) + u.name
		}
	}
	return digits(v)
}

func digits(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a < 1e-4:
		return strconv.FormatFloat(v, 'g', 3, 64)
	default:
		decimals := max(0, 2-int(math.Floor(math.Log10(a)+1e-12)))
		s := strconv.FormatFloat(v, 'f', decimals, 64)
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
}
