package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bytes is an amount of memory or storage in bytes.
type Bytes int64

// byteUnits are Flink's, 1024 times each other, the smallest first.
var byteUnits = [...]struct {
	size   Bytes
	labels [3]string
}{
	{1, [3]string{"bytes", "b", ""}},
	{1 << 10, [3]string{"kb", "k", "kibibytes"}},
	{1 << 20, [3]string{"mb", "m", "mebibytes"}},
	{1 << 30, [3]string{"gb", "g", "gibibytes"}},
	{1 << 40, [3]string{"tb", "t", "tebibytes"}},
}

var errBytes = errors.New(`want a whole number and a unit, such as "64 mb" or "1g" (b, k, m, g, t; without a unit: bytes)`)

// ParseBytes reads a size in Flink's form: a whole number and a unit of which each is 1024 times the next smaller
// one, in any case: b or bytes, k, kb or kibibytes, m, mb or mebibytes, g, gb or gibibytes, t, tb or tebibytes.
// A number without a unit counts bytes.
func ParseBytes(text string) (Bytes, error) {
	number, unit := splitUnit(text)
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		if errors.Is(err, strconv.ErrRange) {
			return 0, errTooLarge
		}
		return 0, errBytes
	}
	for _, u := range byteUnits {
		if slices.Contains(u.labels[:], unit) {
			if n > math.MaxInt64/int64(u.size) {
				return 0, errTooLarge
			}
			return Bytes(n) * u.size, nil
		}
	}
	return 0, errBytes
}

// String returns the size in the largest unit that divides it, in the form that ParseBytes reads.
func (b Bytes) String() string {
	u := byteUnits[0]
	for _, next := range byteUnits[1:] {
		if b == 0 || b%next.size != 0 {
			break
		}
		u = next
	}
	return fmt.Sprintf("%d %s", int64(b/u.size), u.labels[0])
}

// timeUnits are Flink's, the largest first.
var timeUnits = [...]struct {
	size   time.Duration
	labels []string
}{
	{24 * time.Hour, []string{"d", "day", "days"}},
	{time.Hour, []string{"h", "hour", "hours"}},
	{time.Minute, []string{"min", "m", "minute", "minutes"}},
	{time.Second, []string{"s", "sec", "secs", "second", "seconds"}},
	{time.Millisecond, []string{"ms", "milli", "millis", "millisecond", "milliseconds", ""}},
	{time.Microsecond, []string{"µs", "μs", "micro", "micros", "microsecond", "microseconds"}},
	{time.Nanosecond, []string{"ns", "nano", "nanos", "nanosecond", "nanoseconds"}},
}

var (
	errDuration = errors.New(`want a whole number and a unit, such as "10 s" or "500 ms" (d, h, min, s, ms, µs, ns; without a unit: ms), or ISO 8601 such as "PT1M30S"`)
	errTooLarge = errors.New("is too large: want less than 2^63 bytes or 292 years")
)

// ParseDuration reads a duration in Flink's form: a whole number and a unit in any case, of which d, h, min, s, ms,
// µs and ns are the short ones; without a unit it counts milliseconds. ISO 8601 ("PT1M30S") is read too. "1h30m", as
// Go writes it, is not.
func ParseDuration(text string) (time.Duration, error) {
	number, unit := splitUnit(text)
	if number == "" {
		return parseISO(strings.ToUpper(unit))
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, errTooLarge
	}
	for _, u := range timeUnits {
		if slices.Contains(u.labels, unit) {
			if n > math.MaxInt64/int64(u.size) {
				return 0, errTooLarge
			}
			return time.Duration(n) * u.size, nil
		}
	}
	return 0, errDuration
}

// parseISO reads PnDTnHnMnS with at least one part; the seconds may have a fraction of up to nine digits.
func parseISO(text string) (time.Duration, error) {
	rest, ok := strings.CutPrefix(text, "P")
	if !ok {
		return 0, errDuration
	}
	var total time.Duration
	parts, inTime := 0, false
	units := "D"
	for rest != "" {
		if !inTime && rest[0] == 'T' {
			inTime, units, rest = true, "HMS", rest[1:]
			if rest == "" {
				return 0, errDuration
			}
			continue
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if end <= 0 {
			return 0, errDuration
		}
		n, err := strconv.ParseInt(rest[:end], 10, 64)
		if err != nil {
			return 0, errTooLarge
		}
		rest = rest[end:]
		var fraction time.Duration
		if rest[0] == '.' {
			digits := rest[1:]
			end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
			if end <= 0 || end > 9 || digits[end] != 'S' {
				return 0, errDuration
			}
			f, _ := strconv.Atoi((digits[:end] + "000000000")[:9])
			fraction, rest = time.Duration(f), digits[end:]
		}
		at := strings.IndexByte(units, rest[0])
		if at < 0 {
			return 0, errDuration
		}
		size := map[byte]time.Duration{'D': 24 * time.Hour, 'H': time.Hour, 'M': time.Minute, 'S': time.Second}[rest[0]]
		units, rest = units[at+1:], rest[1:]
		if n > (math.MaxInt64-int64(total)-int64(fraction))/int64(size) {
			return 0, errTooLarge
		}
		total += time.Duration(n)*size + fraction
		parts++
	}
	if parts == 0 {
		return 0, errDuration
	}
	return total, nil
}

// FormatDuration writes a duration as Flink does, in the largest unit that divides it: "90 s", "10 min". ParseDuration
// reads it back unless it is negative.
func FormatDuration(d time.Duration) string {
	for _, u := range timeUnits {
		if d%u.size == 0 && (d != 0 || u.size == time.Millisecond) {
			return fmt.Sprintf("%d %s", int64(d/u.size), u.labels[0])
		}
	}
	return d.String() // not reached: one nanosecond divides every duration
}

// splitUnit splits "10 MB" into "10" and "mb".
func splitUnit(text string) (number, unit string) {
	text = strings.TrimSpace(text)
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		return text, ""
	}
	return text[:end], strings.ToLower(strings.TrimSpace(text[end:]))
}

// The functions below are the parsers of Key variables.

func parseText(text string) (string, error) { return text, nil }

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("want true or false")
}

// integer reads a whole number from least to most.
func integer(least, most int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		switch {
		case err == nil && n >= least && n <= most:
			return n, nil
		case most == unlimited:
			return 0, fmt.Errorf("want a whole number of at least %d", least)
		default:
			return 0, fmt.Errorf("want a whole number from %d to %d", least, most)
		}
	}
}

// number reads a decimal number that fits, which want describes.
func number(fits func(float64) bool, want string) func(string) (float64, error) {
	return func(text string) (float64, error) {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || !fits(f) {
			return 0, errors.New(want)
		}
		return f, nil
	}
}

// duration reads a duration of at least that.
func duration(least time.Duration) func(string) (time.Duration, error) {
	return func(text string) (time.Duration, error) {
		d, err := ParseDuration(text)
		if err == nil && d < least {
			return 0, fmt.Errorf("want at least %s", FormatDuration(least))
		}
		return d, err
	}
}

// interval reads a duration of at least 10 ms, or a word or zero that switches off.
func interval(text string) (time.Duration, error) {
	switch strings.ToLower(text) {
	case "none", "off", "disabled":
		return 0, nil
	}
	d, err := ParseDuration(text)
	if err == nil && d != 0 && d < 10*time.Millisecond {
		return 0, errors.New(`want at least 10 ms, or "none"`)
	}
	return d, err
}

// oneOf reads one of the values without regard to case; an underscore and a hyphen are the same.
func oneOf[T ~string](values ...T) func(string) (T, error) {
	return func(text string) (T, error) {
		for _, v := range values {
			if fold(text) == fold(string(v)) {
				return v, nil
			}
		}
		words := make([]string, len(values))
		for i, v := range values {
			words[i] = string(v)
		}
		return "", fmt.Errorf("want %s", strings.Join(words, " or "))
	}
}

func fold(s string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(s)), "_", "-")
}

// ports reads "8081", "8081-8090" or several of these with commas between, in the order in which they are to be tried.
func ports(text string) ([]int, error) {
	want := errors.New(`want ports from 0 to 65535, such as "8081", "8081-8090" or "8081,9000-9010"`)
	var out []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := port(strings.TrimSpace(first))
		b := a
		if err == nil && isRange {
			b, err = port(strings.TrimSpace(last))
		}
		if err != nil || b < a || len(out)+b-a >= 1<<16 {
			return nil, want
		}
		for p := a; p <= b; p++ {
			out = append(out, p)
		}
	}
	return out, nil
}

var port = integer(0, 65535)

// partSize reads the size of the parts of an upload, as object stores allow it.
func partSize(text string) (Bytes, error) {
	b, err := ParseBytes(text)
	if err == nil && (b < 5<<20 || b > 1<<30) {
		err = errors.New("want 5 mb to 1 gb")
	}
	return b, err
}
