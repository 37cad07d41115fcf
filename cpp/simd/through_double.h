// Functions of floats that are computed in doubles and rounded once: within 0.51 ulp, also without
// fused multiply-add. Subnormal floats are zero inside a run, and are right elsewhere.
#pragma once

#include "double.h"

namespace cnnrt::CNNRT_ISA {
namespace {

typedef uint64_t u64xN __attribute__((vector_size(kDoubles * 8)));
typedef float f32xN __attribute__((vector_size(kDoubles * 4)));

// As many floats as there are doubles in a register.
CNNRT_INLINE f64xN load_widened(const float* p) {
    f32xN x;
    __builtin_memcpy(&x, p, sizeof x);
    return __builtin_convertvector(x, f64xN);
}
CNNRT_INLINE void store_rounded(float* p, f64xN a) {
    const f32xN x = __builtin_convertvector(a, f32xN);
    __builtin_memcpy(p, &x, sizeof x);
}

CNNRT_INLINE u64xN bits_of(f64xN x) { return (u64xN)x; }
CNNRT_INLINE f64xN with_bits(u64xN bits) { return (f64xN)bits; }
constexpr uint64_t kSignBit = uint64_t{1} << 63;
CNNRT_INLINE f64xN size_of(f64xN x) { return with_bits(bits_of(x) & ~kSignBit); }

// Adding and taking away 1.5 * 2^52 rounds to a whole number, which the low bits of the sum hold.
constexpr double kRounder = 0x1.8p52;

// The value of a polynomial, from the highest coefficient on.
template <class... Rest>
CNNRT_INLINE f64xN polynomial(f64xN x, double first, Rest... rest) {
    f64xN p = broadcast(first);
    ((p = p * x + rest), ...);
    return p;
}

// log2 of a float above 0 and below infinity, within 2^-43 of its value. x = 2^e m, with m between
// sqrt(1/2) and sqrt(2). With s = (m - 1) / (m + 1), ln m is 2 (s + s^3 / 3 + s^5 / 5 + ...).
CNNRT_INLINE f64xN log2_of(f64xN x) {
    // The bits of sqrt(1/2) are taken away, so that the exponent changes there.
    const u64xN from_root = bits_of(x) - __builtin_bit_cast(uint64_t, 0x1.6a09e667f3bcdp-1);
    const u64xN exponent = from_root >> 52;  // modulo 2^12
    const f64xN m = with_bits(bits_of(x) - (exponent << 52));
    // The exponent as the low bits of a double; its sign is bit 11.
    const f64xN e = with_bits((exponent ^ 0x800) | __builtin_bit_cast(uint64_t, 0x1p52));
    const f64xN s = (m - 1) / (m + 1);
    const f64xN p =
        polynomial(s * s, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0);
    return (e - (0x1p52 + 2048)) + p * s * (2 * 1.4426950408889634);
}

// 2^t for |t| up to 1000, within 2^-42; NaN stays. A Taylor polynomial of e^(r ln 2), |r| <= 1/2.
CNNRT_INLINE f64xN exp2_of(f64xN t) {
    const f64xN whole = t + kRounder;
    const f64xN r = (t - (whole - kRounder)) * 0.6931471805599453;
    const f64xN p = polynomial(r, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
                               1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0);
    return p * with_bits((bits_of(whole) + 1023) << 52);
}

// a^b for floats, with the special cases of IEEE 754's pow, which are those of the C library.
CNNRT_INLINE f64xN power(f64xN a, f64xN b) {
    constexpr double kInfinity = __builtin_inf();
    const f64xN one = broadcast(1.0), size = size_of(a), reach = size_of(b);
    // From 2^24 on every float is even; infinity and NaN count as such.
    const f64xN near = reach < 0x1p24 ? b : f64xN{};
    const f64xN whole = near + kRounder;
    const auto fraction = whole - kRounder != near;
    f64xN log = size > 0 ? log2_of(size) : broadcast(-kInfinity);
    log = size < kInfinity ? log : size;  // of infinity and of NaN
    f64xN t = b * log;
    t = t > 200 ? broadcast(200.0) : t;  // NaN stays
    t = t < -200 ? broadcast(-200.0) : t;
    const u64xN negative = bits_of(fraction ? size : a) & bits_of(whole) << 63;
    f64xN y = with_bits(bits_of(exp2_of(t)) | negative);
    y = (fraction & (a < 0) & (a > -kInfinity)) ? broadcast(__builtin_nan("")) : y;
    // 1 whatever the other one is, be it NaN; and -1 to an infinite power.
    return (b == 0) | (a == 1) | ((size == 1) & (reach == kInfinity)) ? one : y;
}

// Angles up to here are reduced by multiples of pi / 2 in three parts. The products of the first
// two and a multiple, which have 33 and 20 bits, are exact. Source: Cody and Waite, "Software
// Manual for the Elementary Functions", 1980.
constexpr float kLargestAngle = 0x1p20f;

// Angles less `quarters` times pi / 2, at most pi / 4 in size.
struct Reduced {
    f64xN angle;
    u64xN quarters;  // in the low bits

    CNNRT_INLINE explicit Reduced(f64xN x) {
        const f64xN whole = x * 0.6366197723675814 + kRounder, n = whole - kRounder;
        angle = ((x - n * 0x1.921fb544p0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69;
        quarters = bits_of(whole);
    }

    // Sine and cosine of the reduced angles, by Taylor polynomials within 2^-36 of their values.
    CNNRT_INLINE f64xN sine() const {  // a product: that of -0 is -0
        return angle * polynomial(angle * angle, -1.0 / 39916800, 1.0 / 362880, -1.0 / 5040,
                                  1.0 / 120, -1.0 / 6, 1.0);
    }
    CNNRT_INLINE f64xN cosine() const {
        return polynomial(angle * angle, 1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720,
                          1.0 / 24, -0.5, 1.0);
    }
};

// `even` or `odd`, as the lowest bit of a number is.
CNNRT_INLINE f64xN one_of(u64xN number, f64xN even, f64xN odd) {
    const u64xN mask = 0 - (number & 1);
    return with_bits((bits_of(odd) & mask) | (bits_of(even) & ~mask));
}

// The sine of angles that are `quarters` times pi / 2 ahead of reduced ones.
CNNRT_INLINE f64xN sine_ahead(const Reduced& r, u64xN quarters) {
    return with_bits(bits_of(one_of(quarters, r.sine(), r.cosine())) ^ (quarters & 2) << 62);
}

// Sine, cosine and tangent of angles up to kLargestAngle in size.
CNNRT_INLINE f64xN near_sin(f64xN x) {
    const Reduced r(x);
    return sine_ahead(r, r.quarters);
}
CNNRT_INLINE f64xN near_cos(f64xN x) {
    const Reduced r(x);
    return sine_ahead(r, r.quarters + 1);
}
CNNRT_INLINE f64xN near_tan(f64xN x) {
    const Reduced r(x);
    const f64xN sine = r.sine(), cosine = r.cosine();
    return one_of(r.quarters, sine, -cosine) / one_of(r.quarters, cosine, sine);
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
