// Elementary functions on f32x16. The polynomials were fitted at Chebyshev nodes in double
// precision over the reduced range. The error bounds were measured against double precision, on
// every tier. NaN passes through all of them.
#pragma once

#include "vec.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// e^x for x clamped to the limits; scale(p, n) = p 2^n.
template <class Scale>
CNNRT_INLINE f32x16 exp_between(float low, float high, f32x16 x, Scale scale) {
    x = max(broadcast(low), min(broadcast(high), x));
    const f32x16 n = round(mul(x, broadcast(1.44269504f)));
    // ln 2 in two parts, so that n * ln 2 is exact to twice the precision.
    f32x16 r = fnma(n, broadcast(0.693145752f), x);
    r = fnma(n, broadcast(1.42860677e-6f), r);
    f32x16 p = broadcast(1.39487011e-3f);
    p = fma(p, r, broadcast(8.37521255e-3f));
    p = fma(p, r, broadcast(4.16662171e-2f));
    p = fma(p, r, broadcast(1.66664138e-1f));
    p = fma(p, r, broadcast(0.5f));
    p = fma(p, r, broadcast(1.0f));
    p = fma(p, r, broadcast(1.0f));
    return scale(p, n);
}

// e^x, within 1.1 ulp (1.4 without fused multiply-add), subnormal results included; 0 below -104,
// infinity above 88.73.
CNNRT_INLINE f32x16 exp(f32x16 x) {
    return exp_between(-104.0f, 89.0f, x, [](f32x16 p, f32x16 n) { return scale2(p, n); });
}

// The same for x between -86.6 and 88, whose results are all normal; e^-86.6 = 2e-38 below, e^88
// above. It takes a fifth less time on tiers without AVX-512's scaling.
CNNRT_INLINE f32x16 exp_normal(f32x16 x) {
    return exp_between(-86.6f, 88.0f, x, [](f32x16 p, f32x16 n) { return scale2_normal(p, n); });
}

// Natural logarithm, within 0.9 ulp for normal x; -infinity at 0, NaN below. For subnormal x only
// AVX-512 is right: the other tiers are up to 16 too high.
CNNRT_INLINE f32x16 log(f32x16 x) {
    const f32x16 one = broadcast(1.0f);
    f32x16 e = exponent(x), m = mantissa(x);
    const mask16 high = less(broadcast(1.41421356f), m);
    m = select(high, mul(m, broadcast(0.5f)), m);
    e = select(high, add(e, one), e);
    const f32x16 f = sub(m, one);
    f32x16 p = broadcast(7.14975372e-2f);
    p = fma(p, f, broadcast(-1.15712009e-1f));
    p = fma(p, f, broadcast(1.16615117e-1f));
    p = fma(p, f, broadcast(-1.24110505e-1f));
    p = fma(p, f, broadcast(1.42499357e-1f));
    p = fma(p, f, broadcast(-1.66684806e-1f));
    p = fma(p, f, broadcast(2.00007081e-1f));
    p = fma(p, f, broadcast(-2.49999896e-1f));
    p = fma(p, f, broadcast(3.33333313e-1f));
    const f32x16 f2 = mul(f, f);
    f32x16 r = mul(p, mul(f2, f));
    r = fma(e, broadcast(1.42860677e-6f), r);
    r = fnma(broadcast(0.5f), f2, r);
    r = fma(e, broadcast(0.693145752f), add(f, r));
    r = select(less(x, broadcast(__builtin_inff())), r, x);  // infinity and NaN stay
    r = select(equal(x, zero()), broadcast(-__builtin_inff()), r);
    return select(less(x, zero()), broadcast(__builtin_nanf("")), r);
}

// 1 / (1 + e^-x), within 2.5 ulp; 0 below -88, where it is not normal, and 1 at infinity. The
// division costs nothing: the polynomial of exp keeps the multipliers busy while the divider is
// idle. On Zen 5 a vector takes 2.0 ns, and 2.7 with an approximate reciprocal and a Newton step.
CNNRT_INLINE f32x16 sigmoid(f32x16 x) {
    const f32x16 y = div(broadcast(1.0f), add(broadcast(1.0f), exp_normal(sub(zero(), x))));
    return select(less(x, broadcast(-88.0f)), zero(), y);
}

// x / (1 + e^-x); 0 below -88, NaN at -infinity as in PyTorch.
CNNRT_INLINE f32x16 silu(f32x16 x) {
    const f32x16 y = div(x, add(broadcast(1.0f), exp_normal(sub(zero(), x))));
    return select(less(x, broadcast(-88.0f)), mul(zero(), x), y);
}

// x times the normal distribution's integral up to x, as x / (1 + e^(-x P(x^2))). P was fitted to
// the logarithm of the odds, up to 5.5. Within 9 ulp above 0. Within 1.7e-5 of the value down to
// -5.5, where 1 + erf has lost all digits. Below, within 2e-8, and NaN at -infinity as in PyTorch.
CNNRT_INLINE f32x16 gelu(f32x16 x) {
    const f32x16 z = min(broadcast(30.25f), mul(x, x));
    f32x16 p = broadcast(1.06564844e-12f);
    p = fma(p, z, broadcast(-1.66340441e-10f));
    p = fma(p, z, broadcast(1.11762146e-8f));
    p = fma(p, z, broadcast(-4.20658949e-7f));
    p = fma(p, z, broadcast(9.51717084e-6f));
    p = fma(p, z, broadcast(-1.18809316e-4f));
    p = fma(p, z, broadcast(-4.49353029e-5f));
    p = fma(p, z, broadcast(7.26458058e-2f));
    p = fma(p, z, broadcast(1.59577525f));
    const f32x16 y = div(x, add(broadcast(1.0f), exp_normal(mul(p, sub(zero(), x)))));
    return select(less(x, broadcast(-20.0f)), mul(zero(), x), y);
}

// Within 1.4 ulp: an odd polynomial below 0.625, 1 - 2 / (e^2x + 1) above.
CNNRT_INLINE f32x16 tanh(f32x16 x) {
    const f32x16 a = abs(x), one = broadcast(1.0f);
    const f32x16 e = exp_normal(min(broadcast(40.0f), add(a, a)));
    const f32x16 large = sub(one, div(broadcast(2.0f), add(e, one)));
    const f32x16 z = mul(x, x);
    f32x16 p = broadcast(-6.10494148e-3f);
    p = fma(p, z, broadcast(2.10036356e-2f));
    p = fma(p, z, broadcast(-5.38524948e-2f));
    p = fma(p, z, broadcast(1.33327827e-1f));
    p = fma(p, z, broadcast(-3.33333284e-1f));
    const f32x16 small = fma(mul(p, z), a, a);
    return copysign(select(less(broadcast(0.625f), a), large, small), x);
}

// Error function, within 2.4 ulp and 1.5e-7: x * P(x^2) up to 1, 1 - e^Q(x) above.
CNNRT_INLINE f32x16 erf(f32x16 x) {
    const f32x16 a = min(broadcast(4.0f), abs(x)), z = mul(x, x);
    f32x16 p = broadcast(7.88249745e-5f);
    p = fma(p, z, broadcast(-8.01885501e-4f));
    p = fma(p, z, broadcast(5.18931216e-3f));
    p = fma(p, z, broadcast(-2.68543288e-2f));
    p = fma(p, z, broadcast(1.12835974e-1f));
    p = fma(p, z, broadcast(-3.7612626e-1f));
    p = fma(p, z, broadcast(1.12837911f));
    const f32x16 small = mul(p, x);
    f32x16 q = broadcast(1.6140616e-6f);
    q = fma(q, a, broadcast(-4.55906229e-5f));
    q = fma(q, a, broadcast(5.92769531e-4f));
    q = fma(q, a, broadcast(-4.74022236e-3f));
    q = fma(q, a, broadcast(2.63647176e-2f));
    q = fma(q, a, broadcast(-1.09978244e-1f));
    q = fma(q, a, broadcast(-6.31937087e-1f));
    q = fma(q, a, broadcast(-1.13016665f));
    q = fma(q, a, broadcast(3.03212961e-4f));
    const f32x16 large = copysign(sub(broadcast(1.0f), exp_normal(q)), x);
    return select(less(broadcast(1.0f), a), large, small);
}

// pi / 2 - x for x up to pi, with the part of pi / 2 that a float does not hold.
CNNRT_INLINE f32x16 half_pi_less(f32x16 x) {
    return add(sub(broadcast(1.57079637f), x), broadcast(-4.37113883e-8f));
}

// Arctangent, within 1.4 ulp: an odd polynomial up to 1, pi / 2 less that of 1 / x above.
CNNRT_INLINE f32x16 atan(f32x16 x) {
    const f32x16 a = abs(x), one = broadcast(1.0f);
    const f32x16 t = div(min(one, a), max(one, a)), z = mul(t, t);
    f32x16 p = broadcast(-1.79362227e-3f);
    p = fma(p, z, broadcast(1.09146088e-2f));
    p = fma(p, z, broadcast(-3.11778504e-2f));
    p = fma(p, z, broadcast(5.79576008e-2f));
    p = fma(p, z, broadcast(-8.403451e-2f));
    p = fma(p, z, broadcast(1.09521858e-1f));
    p = fma(p, z, broadcast(-1.42642424e-1f));
    p = fma(p, z, broadcast(1.99985489e-1f));
    p = fma(p, z, broadcast(-3.33332986e-1f));
    const f32x16 small = fma(mul(p, z), t, t);
    return copysign(select(less(one, a), half_pi_less(small), small), x);
}

// Arcsine of a up to 0.5. In the lanes of `far`, above 0.5, half of pi / 2 - arcsine(a), which is
// the arcsine of sqrt((1 - a) / 2). NaN above 1.
CNNRT_INLINE f32x16 asin_reduced(f32x16 a, mask16 far) {
    const f32x16 half = broadcast(0.5f);
    const f32x16 z = select(far, fnma(half, a, half), mul(a, a)), s = select(far, sqrt(z), a);
    f32x16 p = broadcast(4.22185697e-2f);
    p = fma(p, z, broadcast(2.41475999e-2f));
    p = fma(p, z, broadcast(4.54770997e-2f));
    p = fma(p, z, broadcast(7.49524161e-2f));
    p = fma(p, z, broadcast(1.66667536e-1f));
    return fma(mul(p, z), s, s);
}

// Arcsine, within 1.9 ulp.
CNNRT_INLINE f32x16 asin(f32x16 x) {
    const f32x16 a = abs(x);
    const mask16 far = less(broadcast(0.5f), a);
    const f32x16 r = asin_reduced(a, far);
    return copysign(select(far, half_pi_less(add(r, r)), r), x);
}

// Arccosine, within 1.3 ulp.
CNNRT_INLINE f32x16 acos(f32x16 x) {
    const f32x16 a = abs(x);
    const mask16 far = less(broadcast(0.5f), a);
    const f32x16 r = asin_reduced(a, far), twice = add(r, r);
    const f32x16 small = half_pi_less(copysign(r, x));
    const f32x16 beyond = add(sub(broadcast(3.14159274f), twice), broadcast(-8.74227766e-8f));
    return select(far, select(less(x, zero()), beyond, twice), small);
}

// x tanh(log(1 + e^x)) within 4.7 ulp, without the logarithm: with n = e^x (e^x + 2), tanh is
// n / (n + 2). Above 20 that is 1 in float.
CNNRT_INLINE f32x16 mish(f32x16 x) {
    const f32x16 e = exp(min(broadcast(20.0f), x));
    const f32x16 n = mul(e, add(e, broadcast(2.0f)));
    return mul(x, div(n, add(n, broadcast(2.0f))));
}

// True if no lane is infinite or NaN.
CNNRT_INLINE bool finite(f32x16 x) { return sum(mul(zero(), x)) == 0.0f; }

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
