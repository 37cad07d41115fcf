// Four-lane registers from the compiler's own vector types: SSE2 on any x86-64, plain code
// elsewhere; split.h makes f32x16 of four. No fused multiply-add: a * b + c rounds twice here.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace cnnrt::CNNRT_ISA {
namespace {

typedef float reg __attribute__((vector_size(16)));
typedef int32_t bits4 __attribute__((vector_size(16)));
typedef float unaligned_reg __attribute__((vector_size(16), aligned(4), may_alias));
constexpr int kLanes = 4;

CNNRT_INLINE bits4 as_bits(reg a) { return (bits4)a; }
CNNRT_INLINE reg as_float(bits4 a) { return (reg)a; }

CNNRT_INLINE reg reg_load(const float* p) { return *reinterpret_cast<const unaligned_reg*>(p); }
CNNRT_INLINE reg reg_load_first(const float* p, int n) {
    if (n >= 4) return reg_load(p);
    return reg{n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f, 0.0f};
}
CNNRT_INLINE void reg_store(float* p, reg a) { *reinterpret_cast<unaligned_reg*>(p) = a; }
CNNRT_INLINE float of_half(uint16_t h) {
    const uint32_t sign = (h & 0x8000u) << 16, rest = h & 0x7fffu;
    const bool subnormal = rest < 0x400;  // multiples of 2^-24
    const float small = static_cast<float>(rest) * 0x1p-24f;
    // The exponent's bias grows from 15 to 127; that of infinity and NaN becomes the largest.
    uint32_t bits = (rest << 13) + (112u << 23);
    if (rest >= 0x7c00) bits += 112u << 23;
    if (rest > 0x7c00) bits |= 0x400000;  // quiet
    if (subnormal) __builtin_memcpy(&bits, &small, 4);
    bits |= sign;
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}
CNNRT_INLINE uint16_t to_half(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    const uint32_t sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (rest >> 13 & 0x3ffu));
    if (rest >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // from 65520 on
    if (rest < 0x38800000u) {
        // Below 2^-14: a multiple of 2^-24, rounded to even by an addition that leaves no fraction.
        const float scaled = (x < 0 ? -x : x) * 0x1p24f + 8388608.0f;
        return static_cast<uint16_t>(sign | static_cast<uint32_t>(scaled - 8388608.0f));
    }
    const uint32_t rounded = rest + 0xfffu + (rest >> 13 & 1u);
    return static_cast<uint16_t>(sign | (rounded - (112u << 23)) >> 13);
}
CNNRT_INLINE reg reg_load_half(const uint16_t* p) {
    return reg{of_half(p[0]), of_half(p[1]), of_half(p[2]), of_half(p[3])};
}
CNNRT_INLINE void reg_store_half(uint16_t* p, reg a) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) p[i] = to_half(a[i]);
}
CNNRT_INLINE reg reg_load_bfloat16(const uint16_t* p) {
    return as_float(bits4{p[0], p[1], p[2], p[3]} << 16);
}
CNNRT_INLINE reg reg_broadcast(float x) { return reg{x, x, x, x}; }
template <int GROUP, int K>
CNNRT_INLINE reg reg_spread(reg a) {
    static_assert(GROUP == 2);
    return __builtin_shufflevector(a, a, K, K, K + 2, K + 2);
}
CNNRT_INLINE reg reg_add(reg a, reg b) { return a + b; }
CNNRT_INLINE reg reg_sub(reg a, reg b) { return a - b; }
CNNRT_INLINE reg reg_mul(reg a, reg b) { return a * b; }
CNNRT_INLINE reg reg_div(reg a, reg b) { return a / b; }
CNNRT_INLINE reg reg_fma(reg a, reg b, reg c) { return a * b + c; }
CNNRT_INLINE void reg_add_product(reg& sum, reg a, reg b) { sum = reg_fma(a, b, sum); }
CNNRT_INLINE reg reg_fnma(reg a, reg b, reg c) { return c - a * b; }
CNNRT_INLINE reg choose(bits4 m, reg if_true, reg if_false) {
    return as_float((m & as_bits(if_true)) | (~m & as_bits(if_false)));
}
CNNRT_INLINE reg reg_min(reg a, reg b) { return choose(a < b, a, b); }
CNNRT_INLINE reg reg_max(reg a, reg b) { return choose(a > b, a, b); }
CNNRT_INLINE bits4 sign_bit() { return bits4{INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN}; }
CNNRT_INLINE reg reg_abs(reg a) { return as_float(as_bits(a) & ~sign_bit()); }
CNNRT_INLINE reg reg_copysign(reg magnitude, reg sign) {
    return as_float((as_bits(sign) & sign_bit()) | (as_bits(magnitude) & ~sign_bit()));
}
CNNRT_INLINE reg reg_round(reg a) {
    // Adding and taking away 2^23 leaves no fraction bits; larger values have none to begin with.
    const reg magic = reg_broadcast(8388608.0f);
    const reg r = reg_copysign((reg_abs(a) + magic) - magic, a);
    return choose(reg_abs(a) < magic, r, a);
}
CNNRT_INLINE reg reg_floor(reg a) {
    const reg r = reg_round(a);
    return r - choose(r > a, reg_broadcast(1.0f), reg_broadcast(0.0f));
}
CNNRT_INLINE reg reg_sqrt(reg a) {
    return reg{__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]),
               __builtin_sqrtf(a[3])};
}
CNNRT_INLINE reg pow2(bits4 n) { return as_float((n + 127) << 23); }
CNNRT_INLINE reg reg_scale2(reg a, reg n) {
    const bits4 all = __builtin_convertvector(n, bits4), half = all >> 1;
    return a * pow2(half) * pow2(all - half);
}
CNNRT_INLINE reg reg_scale2_normal(reg a, reg n) {
    return as_float(as_bits(a) + (__builtin_convertvector(n, bits4) << 23));
}
CNNRT_INLINE reg reg_exponent(reg a) {
    return __builtin_convertvector((as_bits(a) >> 23) - 127, reg);
}
CNNRT_INLINE reg reg_mantissa(reg a) { return as_float((as_bits(a) & 0x007fffff) | 0x3f800000); }
CNNRT_INLINE reg reg_less(reg a, reg b) { return as_float(a < b); }
CNNRT_INLINE reg reg_equal(reg a, reg b) { return as_float(a == b); }
CNNRT_INLINE reg reg_unordered(reg a) { return as_float(a != a); }
CNNRT_INLINE reg reg_select(reg m, reg if_true, reg if_false) {
    return choose(as_bits(m), if_true, if_false);
}
CNNRT_INLINE float reg_sum(reg a) { return (a[0] + a[2]) + (a[1] + a[3]); }
CNNRT_INLINE float reg_largest(reg a) {
    const float low = a[0] > a[1] ? a[0] : a[1], high = a[2] > a[3] ? a[2] : a[3];
    return low > high ? low : high;
}
CNNRT_INLINE void reg_transpose(reg* r) {
    const reg a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
    const reg b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const reg c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    const reg d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

using ireg = bits4;
typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef bits4 unaligned_ireg __attribute__((aligned(1), may_alias));

CNNRT_INLINE ireg ireg_load(const void* p) { return *static_cast<const unaligned_ireg*>(p); }
CNNRT_INLINE void ireg_store(void* p, ireg a) { *static_cast<unaligned_ireg*>(p) = a; }
CNNRT_INLINE ireg ireg_broadcast(int32_t x) { return ireg{x, x, x, x}; }
CNNRT_INLINE ireg ireg_add(ireg a, ireg b) {
    typedef uint32_t wrapping __attribute__((vector_size(16)));
    return (ireg)((wrapping)a + (wrapping)b);
}
CNNRT_INLINE ireg ireg_widen(const uint8_t* p) { return ireg{p[0], p[1], p[2], p[3]}; }
CNNRT_INLINE ireg ireg_widen(const int8_t* p) { return ireg{p[0], p[1], p[2], p[3]}; }
CNNRT_INLINE reg ireg_to_float(ireg a) { return __builtin_convertvector(a, reg); }
CNNRT_INLINE ireg reg_to_int(reg a) { return __builtin_convertvector(reg_round(a), ireg); }
CNNRT_INLINE ireg ireg_min_u8(ireg a, ireg b) {
    const bytes16 x = (bytes16)a, y = (bytes16)b, less = (bytes16)(x < y);
    return (ireg)((x & less) | (y & ~less));
}
CNNRT_INLINE ireg ireg_max_u8(ireg a, ireg b) {
    const bytes16 x = (bytes16)a, y = (bytes16)b, less = (bytes16)(x < y);
    return (ireg)((y & less) | (x & ~less));
}
CNNRT_INLINE void ireg_dot4(ireg& sum, ireg x, ireg w) {
    typedef int16_t half8 __attribute__((vector_size(16)));
    typedef uint16_t unsigned_half8 __attribute__((vector_size(16)));
    const half8 x_even = (half8)((unsigned_half8)x & 0xff), x_odd = (half8)((unsigned_half8)x >> 8);
    const half8 w_even = (half8)((unsigned_half8)w << 8) >> 8, w_odd = (half8)w >> 8;
#if defined(__SSE2__)
    sum = ireg_add(sum, (ireg)_mm_madd_epi16((__m128i)x_even, (__m128i)w_even));
    sum = ireg_add(sum, (ireg)_mm_madd_epi16((__m128i)x_odd, (__m128i)w_odd));
#else
    // A byte times a signed byte fits into 16 bits.
    const ireg even = (ireg)(x_even * w_even), odd = (ireg)(x_odd * w_odd);
    sum = ireg_add(sum, (even >> 16) + (odd >> 16));
    sum = ireg_add(sum, ((even << 16) >> 16) + ((odd << 16) >> 16));
#endif
}
CNNRT_INLINE ireg ireg_pack(const ireg* a, int zero) {
#if defined(__SSE2__)
    const __m128i zeros = _mm_set1_epi16(static_cast<int16_t>(zero));
    const __m128i low = _mm_packs_epi32((__m128i)a[0], (__m128i)a[1]);
    const __m128i high = _mm_packs_epi32((__m128i)a[2], (__m128i)a[3]);
    return (ireg)_mm_packus_epi16(_mm_adds_epi16(low, zeros), _mm_adds_epi16(high, zeros));
#else
    bytes16 bytes;
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
        const int64_t v = int64_t{a[i / 4][i % 4]} + zero;
        bytes[i] = static_cast<uint8_t>(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    return (ireg)bytes;
#endif
}
template <int FIRST>
CNNRT_INLINE ireg interleave_bytes(ireg a, ireg b) {
    constexpr int F = FIRST;
    return (ireg)__builtin_shufflevector((bytes16)a, (bytes16)b, F, F + 16, F + 1, F + 17, F + 2,
                                         F + 18, F + 3, F + 19, F + 4, F + 20, F + 5, F + 21, F + 6,
                                         F + 22, F + 7, F + 23);
}
template <int FIRST>
CNNRT_INLINE ireg interleave_halves(ireg a, ireg b) {
    typedef uint16_t half8 __attribute__((vector_size(16)));
    constexpr int F = FIRST;
    return (ireg)__builtin_shufflevector((half8)a, (half8)b, F, F + 8, F + 1, F + 9, F + 2, F + 10,
                                         F + 3, F + 11);
}
CNNRT_INLINE void ireg_quads(const uint8_t* p, int64_t step, ireg* to) {
    const ireg a = ireg_load(p), b = ireg_load(p + step);
    const ireg c = ireg_load(p + 2 * step), d = ireg_load(p + 3 * step);
    const ireg low_ab = interleave_bytes<0>(a, b), high_ab = interleave_bytes<8>(a, b);
    const ireg low_cd = interleave_bytes<0>(c, d), high_cd = interleave_bytes<8>(c, d);
    to[0] = interleave_halves<0>(low_ab, low_cd);
    to[1] = interleave_halves<4>(low_ab, low_cd);
    to[2] = interleave_halves<0>(high_ab, high_cd);
    to[3] = interleave_halves<4>(high_ab, high_cd);
}
CNNRT_INLINE ireg ireg_lookup(const uint8_t* table, ireg index) {
    bytes16 bytes = (bytes16)index;
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) bytes[i] = table[bytes[i]];
    return (ireg)bytes;
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA

#include "split.h"
