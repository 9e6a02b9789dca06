package row

import (
	"math/big"
	"math/bits"
)

// D128 is the unscaled value of a DECIMAL: a signed integer of 128 bits, in two's complement. Its scale is its type's. All 38 digits fit.
type D128 struct {
	Hi int64
	Lo uint64
}

// pow10 has the powers of ten that fit into 128 bits.
var pow10 = func() (p [39]D128) {
	p[0] = D128{Lo: 1}
	for i := 1; i < len(p); i++ {
		hi, lo := bits.Mul64(p[i-1].Lo, 10)
		p[i] = D128{Hi: p[i-1].Hi*10 + int64(hi), Lo: lo}
	}
	return p
}()

// DecimalFrom returns an integer.
func DecimalFrom(x int64) D128 { return D128{Hi: x >> 63, Lo: uint64(x)} }

// Small returns the value if it fits into 64 bits.
func (d D128) Small() (int64, bool) { return int64(d.Lo), d.Hi == int64(d.Lo)>>63 }

// Sign is -1, 0 or 1.
func (d D128) Sign() int {
	switch {
	case d.Hi < 0:
		return -1
	case d.Hi == 0 && d.Lo == 0:
		return 0
	}
	return 1
}

// Cmp compares two values of the same scale.
func (d D128) Cmp(o D128) int {
	switch {
	case d.Hi != o.Hi:
		if d.Hi < o.Hi {
			return -1
		}
		return 1
	case d.Lo < o.Lo:
		return -1
	case d.Lo > o.Lo:
		return 1
	}
	return 0
}

// Neg is -d.
func (d D128) Neg() D128 {
	lo, borrow := bits.Sub64(0, d.Lo, 0)
	hi, _ := bits.Sub64(0, uint64(d.Hi), borrow)
	return D128{Hi: int64(hi), Lo: lo}
}

// Abs is |d|.
func (d D128) Abs() D128 {
	if d.Hi < 0 {
		return d.Neg()
	}
	return d
}

// Add is d + o; of two values with up to 38 digits it never overflows 128 bits, but may have 39 digits: see Fits.
func (d D128) Add(o D128) D128 {
	lo, carry := bits.Add64(d.Lo, o.Lo, 0)
	hi, _ := bits.Add64(uint64(d.Hi), uint64(o.Hi), carry)
	return D128{Hi: int64(hi), Lo: lo}
}

// Sub is d - o, as Add.
func (d D128) Sub(o D128) D128 { return d.Add(o.Neg()) }

// Fits reports whether the value has no more digits than a precision.
func (d D128) Fits(precision int) bool { return d.Abs().Cmp(pow10[precision]) < 0 }

// Big is the value as a big.Int.
func (d D128) Big() *big.Int {
	a := d.Abs()
	x := new(big.Int).SetUint64(uint64(a.Hi))
	x.Or(x.Lsh(x, 64), new(big.Int).SetUint64(a.Lo))
	if d.Hi < 0 {
		x.Neg(x)
	}
	return x
}

// DecimalFromBig returns x, if it has up to 38 digits.
func DecimalFromBig(x *big.Int) (D128, bool) {
	if x.BitLen() > 127 {
		return D128{}, false
	}
	var b [16]byte
	x.FillBytes(b[:])
	d := D128{Lo: be(b[8:]), Hi: int64(be(b[:8]))}
	if x.Sign() < 0 {
		d = d.Neg()
	}
	return d, d.Fits(MaxPrecision)
}

func be(b []byte) (x uint64) {
	for _, c := range b[:8] {
		x = x<<8 | uint64(c)
	}
	return x
}

// quoRound is a / b rounded half away from zero, as Java's HALF_UP.
func quoRound(a, b *big.Int) *big.Int {
	q, r := new(big.Int).QuoRem(a, b, new(big.Int))
	if r.Abs(r).Lsh(r, 1).CmpAbs(b) >= 0 {
		q.Add(q, big.NewInt(int64(a.Sign()*b.Sign())))
	}
	return q
}

func bigPow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// Rescale brings a value from one scale to another, rounding half up; false if the result has more than 38 digits.
func (d D128) Rescale(from, to int) (D128, bool) {
	switch n := to - from; {
	case n == 0:
		return d, true
	case n > 0:
		if x, ok := d.Small(); ok && n <= 18 {
			if y := x * int64(pow10[n].Lo); y/int64(pow10[n].Lo) == x {
				return DecimalFrom(y), true
			}
		}
		if n > MaxPrecision {
			return D128{}, d.Sign() == 0
		}
		return DecimalFromBig(new(big.Int).Mul(d.Big(), pow10[n].Big()))
	default:
		n = -n
		if n > MaxPrecision {
			return D128{}, true
		}
		if x, ok := d.Small(); ok && n <= 18 {
			p := int64(pow10[n].Lo)
			q, r := x/p, x%p
			switch {
			case r >= p-r && r > 0:
				q++
			case -r >= p+r && r < 0:
				q--
			}
			return DecimalFrom(q), true
		}
		return DecimalFromBig(quoRound(d.Big(), pow10[n].Big()))
	}
}

// Mul is d * o, brought from the scale of the product (the sum of both scales) to another; false if it has more than 38 digits.
func (d D128) Mul(o D128, scale, to int) (D128, bool) {
	if x, ok := d.Small(); ok {
		if y, ok := o.Small(); ok {
			neg := x < 0 != (y < 0)
			hi, lo := bits.Mul64(magnitude(x), magnitude(y))
			if int64(hi) >= 0 {
				p := D128{Hi: int64(hi), Lo: lo}
				if neg {
					p = p.Neg()
				}
				return p.Rescale(scale, to)
			}
		}
	}
	p := new(big.Int).Mul(d.Big(), o.Big())
	switch n := to - scale; {
	case n > 0:
		p.Mul(p, bigPow10(n))
	case n < 0:
		p = quoRound(p, bigPow10(-n))
	}
	return DecimalFromBig(p)
}

func magnitude(x int64) uint64 {
	if x < 0 {
		return -uint64(x)
	}
	return uint64(x)
}

// Div is a / b, of the given scales, with a third scale, rounded half up; o must not be zero. False if it has more than 38 digits.
func (d D128) Div(o D128, scaleA, scaleB, to int) (D128, bool) {
	a, b := d.Big(), o.Big()
	if n := to - scaleA + scaleB; n >= 0 {
		a.Mul(a, bigPow10(n))
	} else {
		b.Mul(b, bigPow10(-n))
	}
	return DecimalFromBig(quoRound(a, b))
}

// AppendText appends the value without exponent, with scale digits after the point.
func (d D128) AppendText(dst []byte, scale int) []byte {
	if d.Hi < 0 {
		dst = append(dst, '-')
	}
	a := d.Abs()
	var digits [40]byte
	i := len(digits)
	for a.Hi != 0 || a.Lo != 0 || i > len(digits)-scale-1 {
		// a, r = a / 10, a % 10
		hi, rest := uint64(a.Hi)/10, uint64(a.Hi)%10
		lo, r := bits.Div64(rest, a.Lo, 10)
		a = D128{Hi: int64(hi), Lo: lo}
		i--
		digits[i] = '0' + byte(r)
	}
	text := digits[i:]
	dst = append(dst, text[:len(text)-scale]...)
	if scale > 0 {
		dst = append(dst, '.')
		dst = append(dst, text[len(text)-scale:]...)
	}
	return dst
}

// Float is the nearest float64, of a value with a scale.
func (d D128) Float(scale int) float64 {
	if x, ok := d.Small(); ok && scale <= 22 && x > -1<<53 && x < 1<<53 {
		return float64(x) / float64pow10[scale]
	}
	f, _ := new(big.Rat).SetFrac(d.Big(), bigPow10(scale)).Float64()
	return f
}

// float64pow10 has the powers of ten that a float64 holds exactly: a quotient of two exact numbers is rounded once.
var float64pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// ParseDecimal reads a number as Java's BigDecimal does (sign, digits, point, exponent; no space), with a scale, rounding half up. It returns false for what
// is no number, and for one with more than 38 digits.
func ParseDecimal(text []byte, scale int) (D128, bool) {
	unscaled, has, ok := parseBig(text)
	if !ok {
		return D128{}, false
	}
	switch n := scale - has; {
	case unscaled.Sign() == 0:
		return D128{}, true
	case n > 2*MaxPrecision:
		return D128{}, false
	case n >= 0:
		unscaled.Mul(unscaled, bigPow10(n))
	case -n > len(text)+MaxPrecision:
		return D128{}, true
	default:
		unscaled = quoRound(unscaled, bigPow10(-n))
	}
	return DecimalFromBig(unscaled)
}

// parseBig reads an unscaled number and its scale. Exponents are cut off at about a billion, and texts at 10,000 digits.
func parseBig(text []byte) (unscaled *big.Int, scale int, ok bool) {
	i, neg := 0, false
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		neg, i = text[0] == '-', 1
	}
	digits := make([]byte, 0, 48)
	seen, point := false, false
	for ; i < len(text); i++ {
		c := text[i]
		switch {
		case c >= '0' && c <= '9':
			seen = true
			digits = append(digits, c)
			if point {
				scale++
			}
			continue
		case c == '.' && !point:
			point = true
			continue
		}
		break
	}
	if !seen || len(digits) > 10_000 {
		return nil, 0, false
	}
	if i < len(text) {
		if text[i] != 'e' && text[i] != 'E' {
			return nil, 0, false
		}
		i++
		sign := 1
		if i < len(text) && (text[i] == '-' || text[i] == '+') {
			if text[i] == '-' {
				sign = -1
			}
			i++
		}
		if i == len(text) {
			return nil, 0, false
		}
		e := 0
		for ; i < len(text); i++ {
			if text[i] < '0' || text[i] > '9' {
				return nil, 0, false
			}
			if e < 1<<30 {
				e = e*10 + int(text[i]-'0')
			}
		}
		scale -= sign * e
	}
	unscaled, ok = new(big.Int).SetString(string(digits), 10)
	if neg && ok {
		unscaled.Neg(unscaled)
	}
	return unscaled, scale, ok
}
