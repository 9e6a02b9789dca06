package function

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/row"
)

// This file has how Java writes and reads values: Flink's answers depend on it.

// AppendFloat writes a number as Java's Double.toString and Float.toString (before Java 19) do.
func AppendFloat(dst []byte, x float64, single bool) []byte {
	switch {
	case math.IsNaN(x):
		return append(dst, "NaN"...)
	case math.IsInf(x, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(x, -1):
		return append(dst, "-Infinity"...)
	case x == 0:
		if math.Signbit(x) {
			dst = append(dst, '-')
		}
		return append(dst, "0.0"...)
	}
	if x < 0 {
		dst, x = append(dst, '-'), -x
	}
	digits, exp := floatDigits(x, single) // 0.digits * 10^exp
	if x >= 1e-3 && x < 1e7 {
		switch {
		case exp <= 0:
			dst = append(dst, "0."...)
			for range -exp {
				dst = append(dst, '0')
			}
			return append(dst, digits...)
		case exp >= len(digits):
			dst = append(dst, digits...)
			for range exp - len(digits) {
				dst = append(dst, '0')
			}
			return append(dst, ".0"...)
		}
		dst = append(append(dst, digits[:exp]...), '.')
		return append(dst, digits[exp:]...)
	}
	dst = append(append(dst, digits[0]), '.')
	if len(digits) == 1 {
		dst = append(dst, '0')
	}
	dst = append(append(dst, digits[1:]...), 'E')
	return strconv.AppendInt(dst, int64(exp-1), 10)
}

// floatDigits returns the digits of a positive number and where the point is. They are the fewest that tell it from its neighbours, but for whole numbers up
// to 2^62, of which Java cuts off as many digits as the precision leaves open.
func floatDigits(x float64, single bool) (string, int) {
	precision, bits := 53, 64
	if single {
		precision, bits = 24, 32
	}
	if _, e := math.Frexp(x); x == math.Trunc(x) && e <= 62 {
		n := int64(x)
		cut := 0
		if e-1 > precision {
			if p := e - 1 - precision - 1; p > 1 {
				cut = int(float64(p) * math.Log10(2))
			}
		}
		pow := int64(1)
		for range cut {
			pow *= 10
		}
		rest := n % pow
		n /= pow
		if cut > 0 && rest >= pow/2 {
			n++
		}
		s := strconv.FormatInt(n, 10)
		exp := len(s) + cut
		return trimZeros(s), exp
	}
	s := strconv.FormatFloat(x, 'e', -1, bits)
	mantissa, exponent, _ := strings.Cut(s, "e")
	e, _ := strconv.Atoi(exponent)
	return trimZeros(strings.Replace(mantissa, ".", "", 1)), e + 1
}

func trimZeros(s string) string {
	if t := strings.TrimRight(s, "0"); t != "" {
		return t
	}
	return s[:1]
}

var errNoNumber = errors.New("it is no number")

// parseFloat reads a number as Java's Double.parseDouble does.
func parseFloat(text string, single bool) (float64, error) {
	s := strings.TrimFunc(text, func(r rune) bool { return r <= ' ' })
	sign, rest := "", s
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		sign, rest = rest[:1], rest[1:]
	}
	switch rest {
	case "NaN":
		return math.NaN(), nil
	case "Infinity":
		if sign == "-" {
			return math.Inf(-1), nil
		}
		return math.Inf(1), nil
	}
	if rest == "" || rest[0] != '.' && (rest[0] < '0' || rest[0] > '9') || strings.Contains(rest, "_") {
		return 0, errNoNumber
	}
	if !strings.HasPrefix(strings.ToLower(rest), "0x") {
		rest = strings.TrimRight(rest[:len(rest)-1], "") + strings.TrimRight(rest[len(rest)-1:], "dDfF")
	}
	bits := 64
	if single {
		bits = 32
	}
	x, err := strconv.ParseFloat(sign+rest, bits)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, errNoNumber
	}
	return x, nil
}

// parseInteger reads an integer as Flink casts a text to one: spaces around it, and a fraction that is cut off.
func parseInteger(text []byte, least, most int64) (int64, error) {
	s := strings.TrimFunc(string(text), func(r rune) bool { return r <= ' ' })
	whole, fraction, _ := strings.Cut(s, ".")
	for _, c := range []byte(fraction) {
		if c < '0' || c > '9' {
			return 0, errNoNumber
		}
	}
	digits := strings.TrimLeft(whole, "+-")
	if len(whole)-len(digits) > 1 || digits == "" && fraction == "" {
		return 0, errNoNumber
	}
	if digits == "" {
		return 0, nil
	}
	x, err := strconv.ParseInt(whole, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || strings.Contains(whole, "_") {
		return 0, errNoNumber
	}
	if err != nil || x < least || x > most {
		return 0, fmt.Errorf("it is not between %d and %d", least, most)
	}
	return x, nil
}

const dayMillis = 86_400_000

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && a < 0 != (b < 0) {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }

// appendDate writes days since 1970 as yyyy-mm-dd.
func appendDate(dst []byte, days int64) []byte {
	y, m, d := civil(days)
	if y > 9999 {
		dst = append(dst, '+')
	} else if y < 0 {
		dst, y = append(dst, '-'), -y
	}
	dst = appendDigits(dst, int64(y), 4)
	dst = appendDigits(append(dst, '-'), int64(m), 2)
	return appendDigits(append(dst, '-'), int64(d), 2)
}

// appendDigits writes a number with at least so many digits.
func appendDigits(dst []byte, n int64, least int) []byte {
	var b [20]byte
	i := len(b)
	for n > 0 || i > len(b)-least {
		i--
		b[i] = '0' + byte(n%10)
		n /= 10
	}
	return append(dst, b[i:]...)
}

// civil is the date of days since 1970, in the proleptic Gregorian calendar.
func civil(days int64) (y int, m time.Month, d int) {
	return time.Unix(days*86_400, 0).UTC().Date()
}

// daysOf is the inverse of civil; months and days may be out of their ranges.
func daysOf(y, m, d int) int64 {
	return floorDiv(time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC).Unix(), 86_400)
}

func daysIn(y, m int) int { return time.Date(y, time.Month(m)+1, 0, 0, 0, 0, 0, time.UTC).Day() }

// appendClock writes milliseconds of a day, and nanoseconds within, with digits after the point.
func appendClock(dst []byte, ms int64, nanos int32, digits int) []byte {
	dst = appendDigits(dst, ms/3_600_000, 2)
	dst = appendDigits(append(dst, ':'), ms/60_000%60, 2)
	dst = appendDigits(append(dst, ':'), ms/1000%60, 2)
	if digits > 0 {
		var b [9]byte
		appendDigits(b[:0], ms%1000*1_000_000+int64(nanos), 9)
		dst = append(append(dst, '.'), b[:digits]...)
	}
	return dst
}

// appendTime writes a timestamp (as if in UTC).
func appendTime(dst []byte, ms int64, nanos int32, digits int) []byte {
	day := floorDiv(ms, dayMillis)
	return appendClock(append(appendDate(dst, day), ' '), ms-day*dayMillis, nanos, digits)
}

// offsetMillis is how far a zone is ahead of UTC at an instant.
func offsetMillis(zone *time.Location, ms int64) int64 {
	_, offset := time.UnixMilli(ms).In(zone).Zone()
	return int64(offset) * 1000
}

// toLocal is the local time of an instant, as if in UTC; toInstant the other way round: of a local time that is there twice the first, and of one that is not
// there, as if the clock had not been changed yet.
func toLocal(zone *time.Location, ms int64) int64 { return ms + offsetMillis(zone, ms) }

func toInstant(zone *time.Location, local int64) int64 {
	before, after := offsetMillis(zone, local-dayMillis), offsetMillis(zone, local+dayMillis)
	for _, o := range []int64{before, after} {
		if toLocal(zone, local-o) == local {
			return local - o
		}
	}
	return local - before
}

var errNoTime = errors.New("it is no date or time")

// small reads 1 to most digits.
func small(s string, most int) (n, used int) {
	for used < len(s) && used < most && s[used] >= '0' && s[used] <= '9' {
		n = n*10 + int(s[used]-'0')
		used++
	}
	return n, used
}

// parseDate reads year[-month[-day]] as Flink casts a text to a DATE; what follows a space is not looked at.
func parseDate(text string) (int64, error) {
	if i := strings.IndexByte(text, ' '); i > 0 {
		text = text[:i]
	}
	parts := strings.SplitN(text, "-", 3)
	nums := [3]int{0, 1, 1}
	for i, p := range parts {
		p = strings.TrimSpace(p)
		n, used := small(p, 9)
		if used == 0 || used != len(p) {
			return 0, errNoTime
		}
		nums[i] = n
	}
	y, m, d := nums[0], nums[1], nums[2]
	if y > 9999 || m < 1 || m > 12 || d < 1 || d > daysIn(y, m) {
		return 0, errNoTime
	}
	return daysOf(y, m, d), nil
}

// parseClock reads hour[:minute[:second[.fraction]]] as milliseconds.
func parseClock(text string) (int64, error) {
	s := strings.TrimSpace(text)
	var nums [3]int
	for i := range nums {
		n, used := small(s, 9)
		if used == 0 {
			return 0, errNoTime
		}
		nums[i], s = n, s[used:]
		if s == "" || s[0] != ':' {
			break
		}
		s = s[1:]
	}
	ms := int64(0)
	if s != "" && s[0] == '.' {
		s = s[1:]
		scale := int64(100)
		for s != "" && s[0] >= '0' && s[0] <= '9' {
			ms += int64(s[0]-'0') * scale
			scale /= 10
			s = s[1:]
		}
	}
	if s != "" || nums[0] > 23 || nums[1] > 59 || nums[2] > 59 {
		return 0, errNoTime
	}
	return int64(nums[0])*3_600_000 + int64(nums[1])*60_000 + int64(nums[2])*1000 + ms, nil
}

// parseTimestamp reads y-M-d[ H:m:s[.fraction]] as Flink does: a day after the month's last is its last.
func parseTimestamp(s string) (ms int64, nanos int32, err error) {
	neg := strings.HasPrefix(s, "-")
	if neg {
		s = s[1:]
	}
	take := func(most int, sep byte) (int, bool) {
		n, used := small(s, most)
		s = s[used:]
		if used == 0 || sep != 0 && (s == "" || s[0] != sep) {
			return 0, false
		}
		if sep != 0 {
			s = s[1:]
		}
		return n, true
	}
	y, ok1 := take(9, '-')
	m, ok2 := take(2, '-')
	d, ok3 := take(2, 0)
	if !ok1 || !ok2 || !ok3 || m < 1 || m > 12 || d < 1 || d > 31 {
		return 0, 0, errNoTime
	}
	if neg {
		y = -y
	}
	d = min(d, daysIn(y, m))
	ms = daysOf(y, m, d) * dayMillis
	if s == "" {
		return ms, 0, nil
	}
	if s[0] != ' ' {
		return 0, 0, errNoTime
	}
	s = s[1:]
	hour, ok1 := take(2, ':')
	minute, ok2 := take(2, ':')
	second, ok3 := take(2, 0)
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return 0, 0, errNoTime
	}
	ms += int64(hour)*3_600_000 + int64(minute)*60_000 + int64(second)*1000
	if s == "" {
		return ms, 0, nil
	}
	if s[0] != '.' || len(s) > 10 {
		return 0, 0, errNoTime
	}
	fraction := int64(0)
	scale := int64(100_000_000)
	for _, c := range []byte(s[1:]) {
		if c < '0' || c > '9' {
			return 0, 0, errNoTime
		}
		fraction += int64(c-'0') * scale
		scale /= 10
	}
	return ms + fraction/1_000_000, int32(fraction % 1_000_000), nil
}

// cutTime cuts a timestamp to a precision, towards 1970 as Flink does.
func cutTime(ms int64, nanos int32, precision int) (int64, int32) {
	if precision > 3 {
		p := int32(1)
		for range 9 - precision {
			p *= 10
		}
		return ms, nanos / p * p
	}
	p := int64(1)
	for range 3 - precision {
		p *= 10
	}
	return ms / p * p, 0
}

// appendInterval writes an interval as Flink does.
func appendInterval(dst []byte, t *row.Type, n int64) []byte {
	sign := byte('+')
	if n < 0 {
		sign, n = '-', -n
	}
	dst = append(dst, sign)
	if t.Root == row.IntervalYearMonth {
		dst = strconv.AppendInt(dst, n/12, 10)
		return appendDigits(append(dst, '-'), n%12, 2)
	}
	dst = strconv.AppendInt(dst, n/dayMillis, 10)
	return appendClock(append(dst, ' '), n%dayMillis, 0, 3)
}
