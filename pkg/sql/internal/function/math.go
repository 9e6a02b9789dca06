package function

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"math/big"
	mathrand "math/rand/v2"
	"strconv"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
)

func init() {
	add(
		&expr.Function{Name: "unary -", Group: "arithmetic", Syntax: "- NUMERIC", Doc: "The negative. Integers wrap around.", Infer: inferSame, Kernel: kernelNegative, Total: true},
		&expr.Function{Name: "unary +", Group: "arithmetic", Syntax: "+ NUMERIC", Doc: "The number.", Infer: inferSame, Kernel: kernelSame, Total: true},
		&expr.Function{Name: "%", Group: "arithmetic", Syntax: "EXACT_NUMERIC % EXACT_NUMERIC", Doc: "The rest of the division; it has the sign of the first number.", Infer: inferMod, Kernel: kernelMod},
		&expr.Function{Name: "MOD", Group: "arithmetic", Syntax: "MOD(EXACT_NUMERIC, EXACT_NUMERIC)", Doc: "As %.", Infer: inferMod, Kernel: kernelMod},
		&expr.Function{Name: "ABS", Group: "arithmetic", Syntax: "ABS(NUMERIC)", Doc: "The absolute value.", Infer: inferSame, Kernel: kernelAbs, Total: true},
		&expr.Function{Name: "SIGN", Group: "arithmetic", Syntax: "SIGN(NUMERIC)", Doc: "-1, 0 or 1, in the type of the number.", Infer: inferSame, Kernel: kernelSign, Total: true},
		&expr.Function{Name: "CEIL", Group: "arithmetic", Syntax: "CEIL(NUMERIC)", Doc: "The next whole number that is not smaller.", Infer: inferWhole, Kernel: kernelWhole(math.Ceil, 1)},
		&expr.Function{Name: "CEILING", Group: "arithmetic", Syntax: "CEILING(NUMERIC)", Doc: "As CEIL.", Infer: inferWhole, Kernel: kernelWhole(math.Ceil, 1)},
		&expr.Function{Name: "FLOOR", Group: "arithmetic", Syntax: "FLOOR(NUMERIC)", Doc: "The next whole number that is not larger.", Infer: inferWhole, Kernel: kernelWhole(math.Floor, -1)},
		&expr.Function{Name: "ROUND", Group: "arithmetic", Syntax: "ROUND(NUMERIC [, INTEGER])", Doc: "The number with so many (0) digits after the point, half rounded away from zero.", Infer: inferRound, Kernel: kernelRound(true)},
		&expr.Function{Name: "TRUNCATE", Group: "arithmetic", Syntax: "TRUNCATE(NUMERIC [, INTEGER])", Doc: "The number cut off after so many (0) digits.", Infer: inferRound, Kernel: kernelRound(false)},
		&expr.Function{Name: "PI", Group: "arithmetic", Syntax: "PI()", Infer: inferConstant, Kernel: kernelConstant(math.Pi)},
		&expr.Function{Name: "E", Group: "arithmetic", Syntax: "E()", Infer: inferConstant, Kernel: kernelConstant(math.E)},
		&expr.Function{Name: "POWER", Group: "arithmetic", Syntax: "POWER(NUMERIC, NUMERIC)", Infer: inferDoubles(2, 2), Kernel: kernelDoubles2(math.Pow), Total: true},
		&expr.Function{Name: "ATAN2", Group: "arithmetic", Syntax: "ATAN2(NUMERIC, NUMERIC)", Infer: inferDoubles(2, 2), Kernel: kernelDoubles2(math.Atan2), Total: true},
		&expr.Function{Name: "LOG", Group: "arithmetic", Syntax: "LOG([NUMERIC,] NUMERIC)", Doc: "The logarithm to the first number (e).", Infer: inferDoubles(1, 2), Kernel: kernelLog, Total: true},
		&expr.Function{Name: "RAND", Group: "arithmetic", Syntax: "RAND([INTEGER])", Doc: "A random number from 0 to 1 (not included).", Infer: inferRand, Kernel: kernelRand, Volatile: true},
		&expr.Function{Name: "RAND_INTEGER", Group: "arithmetic", Syntax: "RAND_INTEGER([INTEGER,] INTEGER)", Doc: "A random integer from 0 to the last argument (not included).", Infer: inferRandInteger, Kernel: kernelRandInteger, Volatile: true},
		&expr.Function{Name: "UUID", Group: "arithmetic", Syntax: "UUID()", Doc: "A random UUID (version 4).", Infer: inferUUID, Kernel: kernelUUID, Volatile: true},
		&expr.Function{Name: "BIN", Group: "arithmetic", Syntax: "BIN(INTEGER)", Doc: "The number in binary.", Infer: inferBin, Kernel: kernelBin},
	)
	for name, f := range map[string]func(float64) float64{
		"SQRT": math.Sqrt, "LN": math.Log, "LOG10": math.Log10, "LOG2": log2, "EXP": math.Exp, "SIN": math.Sin, "COS": math.Cos, "TAN": math.Tan, "COT": func(x float64) float64 { return 1 / math.Tan(x) },
		"ASIN": math.Asin, "ACOS": math.Acos, "ATAN": math.Atan, "SINH": math.Sinh, "COSH": math.Cosh, "TANH": math.Tanh,
		"DEGREES": func(x float64) float64 { return x * (180 / math.Pi) }, "RADIANS": func(x float64) float64 { return x * (math.Pi / 180) },
	} {
		add(&expr.Function{Name: name, Group: "arithmetic", Syntax: name + "(NUMERIC)", Infer: inferDoubles(1, 1), Kernel: kernelDoubles1(f), Total: true})
	}
}

// log2 is as Flink computes it: a quotient of natural logarithms.
func log2(x float64) float64 { return math.Log(x) / math.Log(2) }

// numeric checks that an argument is a number.
func numeric(c *expr.Inference, i int) error {
	switch t := c.Arg(i); {
	case t.Root == row.Null:
		return errNull
	case !t.Root.IsNumeric():
		return cannotApply(c)
	}
	return nil
}

// inferSame: one number, and the result is of its type.
func inferSame(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 1, 1); err != nil {
		return nil, err
	}
	if c.Arg(0).Root.IsInterval() && strings.HasPrefix(c.Func.Name, "unary") {
		return c.Arg(0), nil
	}
	return c.Arg(0), numeric(c, 0)
}

// unary is the kernel of a total function of one number, in each class.
func unary(e *expr.Expr, ints func(int64) int64, floats func(float64) float64, decimals func(row.D128) row.D128) (expr.Kernel, error) {
	r := e.Type.Root
	switch e.Type.Class() {
	case row.Floats:
		return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			a, m, o := args[0].Floats, args[0].Mask(), out.Floats
			expr.Each(sel, n, func(i int) { o[i] = floats(a[i&m]) })
		}, nil
	case row.Decimals:
		return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			a, m, o := args[0].Decimals, args[0].Mask(), out.Decimals
			expr.Each(sel, n, func(i int) { o[i] = decimals(a[i&m]) })
		}, nil
	}
	return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
		a, m, o := args[0].Ints, args[0].Mask(), out.Ints
		expr.Each(sel, n, func(i int) { o[i] = wrap(r, ints(a[i&m])) })
	}, nil
}

func kernelNegative(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	return unary(e, func(x int64) int64 { return -x }, func(x float64) float64 { return -x }, row.D128.Neg)
}

func kernelSame(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	return unary(e, func(x int64) int64 { return x }, func(x float64) float64 { return x }, func(x row.D128) row.D128 { return x })
}

func kernelAbs(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	return unary(e, func(x int64) int64 {
		if x < 0 {
			return -x
		}
		return x
	}, math.Abs, row.D128.Abs)
}

func kernelSign(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	one, _ := row.DecimalFrom(1).Rescale(0, e.Type.Scale)
	return unary(e, func(x int64) int64 { return int64(three(x, 0)) }, func(x float64) float64 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return x
	}, func(x row.D128) row.D128 {
		switch x.Sign() {
		case 1:
			return one
		case -1:
			return one.Neg()
		}
		return x
	})
}

// inferMod: DECIMALs have max(s) fraction digits and as many others as the smaller; integers the type of the second.
func inferMod(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 2, 2); err != nil {
		return nil, err
	}
	second := c.Arg(1)
	r, err := numbers(c)
	if err != nil {
		return nil, err
	}
	switch r {
	case row.Float, row.Double:
		return nil, cannotApply(c)
	case row.Decimal:
		a, b := c.Arg(0), c.Arg(1)
		s := max(a.Scale, b.Scale)
		return nullableIf(c, row.DecimalOf(min(min(a.Precision-a.Scale, b.Precision-b.Scale)+s, row.MaxPrecision), s)), nil
	}
	return nullableIf(c, second), nil
}

func kernelMod(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	if e.Type.Class() == row.Decimals {
		sa, sb, so := scales(e)
		s := max(sa, sb)
		return func(in *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			decimals2(e.Type, func(a, b row.D128) (row.D128, bool) {
				if b.Sign() == 0 {
					in.Fail(errDivisionByZero)
					return b, false
				}
				x, y := a.Big(), b.Big()
				x.Mul(x, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(s-sa)), nil))
				y.Mul(y, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(s-sb)), nil))
				d, ok := row.DecimalFromBig(x.Rem(x, y))
				if !ok {
					return d, false
				}
				return d.Rescale(s, so)
			})(in, out, args, sel, n)
		}, nil
	}
	r := e.Type.Root
	return func(in *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
		ints2(r, func(a, b int64) int64 {
			switch b {
			case 0:
				in.Fail(errDivisionByZero)
				return 0
			case -1:
				return 0
			}
			return a % b
		})(in, out, args, sel, n)
	}, nil
}

// inferWhole: DECIMALs lose their fractions.
func inferWhole(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 1, 1); err != nil {
		return nil, err
	}
	t := c.Arg(0)
	if t.Root == row.Decimal {
		return row.DecimalOf(t.Precision, 0).Nullable(!t.NotNull), nil
	}
	return t, numeric(c, 0)
}

// kernelWhole rounds up (away 1) or down (away -1).
func kernelWhole(f func(float64) float64, away int) func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
		p, ok := row.DecimalFrom(1).Rescale(0, e.Args[0].Type.Scale)
		if !ok && e.Type.Root == row.Decimal {
			p = row.D128{}
		}
		return unary(e, func(x int64) int64 { return x }, f, func(x row.D128) row.D128 {
			if p.Sign() == 0 { // all 38 digits are a fraction
				return row.DecimalFrom(int64(boolInt(x.Sign() == away) * away))
			}
			q, r := new(big.Int).QuoRem(x.Big(), p.Big(), new(big.Int))
			if r.Sign() == away {
				q.Add(q, big.NewInt(int64(away)))
			}
			d, _ := row.DecimalFromBig(q)
			return d
		})
	}
}

// inferRound: DECIMALs have the digits that are left, and one more before the point.
func inferRound(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 1, 2); err != nil {
		return nil, err
	}
	if err := numeric(c, 0); err != nil {
		return nil, err
	}
	digits := 0
	if len(c.Args) == 2 {
		d := c.Arg(1)
		if d.Root == row.Null {
			return nil, errNull
		}
		if !d.Root.IsInteger() {
			return nil, cannotApply(c)
		}
		digits = row.MaxPrecision
		if v := c.Args[1].Value; v != nil && !v.IsNull(0) {
			digits = int(v.Ints[0])
		}
	}
	t := c.Arg(0)
	if t.Root != row.Decimal || digits >= t.Scale {
		return nullableIf(c, t), nil
	}
	if digits < 0 {
		return nullableIf(c, row.DecimalOf(min(t.Precision-t.Scale+1, row.MaxPrecision), 0)), nil
	}
	return nullableIf(c, row.DecimalOf(min(t.Precision-t.Scale+digits+1, row.MaxPrecision), digits)), nil
}

// kernelRound rounds, or cuts off.
func kernelRound(half bool) func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
		digitsOf := func(args []*row.Vector, i int) int {
			if len(args) < 2 {
				return 0
			}
			return int(args[1].Ints[args[1].At(i)])
		}
		scale := e.Args[0].Type.Scale
		single := e.Type.Root == row.Float
		return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			expr.Each(sel, n, func(i int) {
				k, digits := args[0].At(i), digitsOf(args, i)
				switch e.Type.Class() {
				case row.Ints:
					x := args[0].Ints[k]
					if digits < 0 {
						b, _ := roundBig(big.NewInt(x), 0, digits, half)
						x = wrap(e.Type.Root, b.Mul(b, pow10(-digits)).Int64())
					}
					out.Ints[i] = x
				case row.Decimals:
					b, s := roundBig(args[0].Decimals[k].Big(), scale, digits, half)
					if s < 0 {
						b.Mul(b, pow10(-s))
						s = 0
					}
					d, ok := row.DecimalFromBig(b)
					if ok {
						d, ok = d.Rescale(s, e.Type.Scale)
					}
					if !ok || !d.Fits(e.Type.Precision) {
						out.SetNull(i)
						return
					}
					out.Decimals[i] = d
				case row.Floats:
					out.Floats[i] = roundFloat(args[0].Floats[k], digits, half, single)
				}
			})
		}, nil
	}
}

func pow10(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(min(n, 400))), nil)
}

// roundBig brings an unscaled number to a smaller scale.
func roundBig(x *big.Int, scale, to int, half bool) (*big.Int, int) {
	if to >= scale {
		return x, scale
	}
	p := pow10(scale - to)
	q, r := new(big.Int).QuoRem(x, p, new(big.Int))
	if half && r.Abs(r).Lsh(r, 1).Cmp(p) >= 0 {
		q.Add(q, big.NewInt(int64(x.Sign())))
	}
	return q, to
}

// roundFloat rounds the decimal number that a floating-point number is written as, as Flink does.
func roundFloat(x float64, digits int, half, single bool) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return x
	}
	bits := 64
	if single {
		bits = 32
	}
	r, _ := new(big.Rat).SetString(strconv.FormatFloat(x, 'g', -1, bits))
	p := new(big.Rat).SetInt(pow10(max(digits, -digits)))
	if digits >= 0 {
		r.Mul(r, p)
	} else {
		r.Quo(r, p)
	}
	q, rest := new(big.Int).QuoRem(r.Num(), r.Denom(), new(big.Int))
	if half && rest.Abs(rest).Lsh(rest, 1).Cmp(r.Denom()) >= 0 {
		q.Add(q, big.NewInt(int64(r.Sign())))
	}
	r.SetInt(q)
	if digits >= 0 {
		r.Quo(r, p)
	} else {
		r.Mul(r, p)
	}
	if single {
		f, _ := r.Float32()
		return float64(f)
	}
	f, _ := r.Float64()
	return f
}

func inferConstant(c *expr.Inference) (*row.Type, error) {
	return row.Of(row.Double).Nullable(false), count(c, 0, 0)
}

func kernelConstant(x float64) func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
		return func(_ *expr.Input, out *row.Vector, _ []*row.Vector, sel []int32, n int) {
			expr.Each(sel, n, func(i int) { out.Floats[i] = x })
		}, nil
	}
}

// inferDoubles: so many numbers, as DOUBLEs.
func inferDoubles(least, most int) func(*expr.Inference) (*row.Type, error) {
	return func(c *expr.Inference) (*row.Type, error) {
		if err := count(c, least, most); err != nil {
			return nil, err
		}
		for i := range c.Args {
			if err := numeric(c, i); err != nil {
				return nil, err
			}
			cast(c, i, row.Of(row.Double))
		}
		return nullableIf(c, row.Of(row.Double)), nil
	}
}

func kernelDoubles1(f func(float64) float64) func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) { return unary(e, nil, f, nil) }
}

func kernelDoubles2(f func(a, b float64) float64) func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) { return floats2(row.Double, f), nil }
}

func kernelLog(c *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	if len(e.Args) == 1 {
		return kernelDoubles1(math.Log)(c, e)
	}
	return floats2(row.Double, func(base, x float64) float64 { return math.Log(x) / math.Log(base) }), nil
}

func inferRand(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 0, 1); err != nil {
		return nil, err
	}
	if len(c.Args) == 1 && !c.Arg(0).Root.IsInteger() {
		return nil, cannotApply(c)
	}
	return nullableIf(c, row.Of(row.Double)), nil
}

// seeded returns a source of random numbers: with a seed that is given, always the same.
func seeded(e *expr.Expr, seedAt int) *mathrand.Rand {
	if seedAt >= 0 {
		if v := e.Args[seedAt].Value; v != nil && !v.IsNull(0) {
			return mathrand.New(mathrand.NewPCG(uint64(v.Ints[0]), 0))
		}
	}
	return mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64()))
}

func kernelRand(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	r := seeded(e, len(e.Args)-1)
	return func(_ *expr.Input, out *row.Vector, _ []*row.Vector, sel []int32, n int) {
		expr.Each(sel, n, func(i int) { out.Floats[i] = r.Float64() })
	}, nil
}

func inferRandInteger(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 1, 2); err != nil {
		return nil, err
	}
	for i := range c.Args {
		if !c.Arg(i).Root.IsInteger() {
			return nil, cannotApply(c)
		}
	}
	return nullableIf(c, row.Of(row.Int)), nil
}

func kernelRandInteger(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	r := seeded(e, len(e.Args)-2)
	return func(in *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
		bound := args[len(args)-1]
		expr.Each(sel, n, func(i int) {
			b := bound.Ints[bound.At(i)]
			if b <= 0 {
				in.Fail(fmt.Errorf("RAND_INTEGER: the bound has to be positive, it is %d", b))
				return
			}
			out.Ints[i] = r.Int64N(b)
		})
	}, nil
}

func inferUUID(c *expr.Inference) (*row.Type, error) {
	return row.Sized(row.Char, 36).Nullable(false), count(c, 0, 0)
}

func kernelUUID(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(in *expr.Input, out *row.Vector, _ []*row.Vector, sel []int32, n int) {
		expr.Each(sel, n, func(i int) {
			var b [16]byte
			if _, err := rand.Read(b[:]); err != nil {
				in.Fail(errors.New("UUID: no random numbers"))
			}
			b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
			out.SetText(i, fmt.Appendf(nil, "%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
		})
	}, nil
}

func inferBin(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 1, 1); err != nil {
		return nil, err
	}
	if !c.Arg(0).Root.IsInteger() {
		return nil, cannotApply(c)
	}
	return nullableIf(c, row.String()), nil
}

func kernelBin(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
		var text []byte
		expr.Each(sel, n, func(i int) {
			text = strconv.AppendUint(text[:0], uint64(args[0].Ints[args[0].At(i)]), 2)
			out.SetText(i, text)
		})
	}, nil
}
