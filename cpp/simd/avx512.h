// f32x16 as one zmm register (AVX-512 F, VL, DQ, BW).
#pragma once

// gcc 12 warns of its own "undefined" registers (gcc bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

namespace cnnrt::CNNRT_ISA {
namespace {

struct f32x16 {
    __m512 v;
};
using mask16 = __mmask16;

CNNRT_INLINE f32x16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
CNNRT_INLINE void store(float* p, f32x16 a) { _mm512_storeu_ps(p, a.v); }
CNNRT_INLINE __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
CNNRT_INLINE f32x16 load_partial(const float* p, int n) {
    return {_mm512_maskz_loadu_ps(first_lanes(n), p)};
}
CNNRT_INLINE void store_partial(float* p, int n, f32x16 a) {
    _mm512_mask_storeu_ps(p, first_lanes(n), a.v);
}
CNNRT_INLINE f32x16 load_half(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
CNNRT_INLINE void store_half(uint16_t* p, f32x16 a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
CNNRT_INLINE f32x16 load_bfloat16(const uint16_t* p) {
    const __m512i bits =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16))};
}
CNNRT_INLINE f32x16 broadcast(float x) { return {_mm512_set1_ps(x)}; }
CNNRT_INLINE f32x16 zero() { return {_mm512_setzero_ps()}; }
template <int GROUP, int K>
CNNRT_INLINE f32x16 spread(const float* p) {
    const __m512 v = _mm512_loadu_ps(p);
    if constexpr (GROUP == 8) {
        const __m512i low = _mm512_set1_epi32(K), high = _mm512_set1_epi32(K + 8);
        return {_mm512_permutexvar_ps(_mm512_mask_blend_epi32(0xff00, low, high), v)};
    } else {
        return {_mm512_permute_ps(v, GROUP == 4 ? K * 0x55 : K ? 0xf5 : 0xa0)};
    }
}

CNNRT_INLINE f32x16 add(f32x16 a, f32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
CNNRT_INLINE f32x16 sub(f32x16 a, f32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
CNNRT_INLINE f32x16 mul(f32x16 a, f32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
CNNRT_INLINE f32x16 div(f32x16 a, f32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
CNNRT_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
CNNRT_INLINE void add_product(f32x16& sum, f32x16 a, f32x16 b) { sum = fma(a, b, sum); }
CNNRT_INLINE f32x16 broadcast_low(float x) { return {_mm512_castps256_ps512(_mm256_set1_ps(x))}; }
// Written as assembly: GCC 12 copies each sum for a multiply-add of ymm registers.
CNNRT_INLINE void add_product_low(f32x16& sum, f32x16 a, f32x16 b) {
    asm("vfmadd231ps %t2, %t1, %t0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
}
CNNRT_INLINE f32x16 fnma(f32x16 a, f32x16 b, f32x16 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
CNNRT_INLINE f32x16 min(f32x16 a, f32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
CNNRT_INLINE f32x16 max(f32x16 a, f32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
CNNRT_INLINE f32x16 abs(f32x16 a) { return {_mm512_abs_ps(a.v)}; }
CNNRT_INLINE f32x16 copysign(f32x16 magnitude, f32x16 sign) {
    const __m512i bit = _mm512_set1_epi32(INT32_MIN);
    // 0xca selects bit by bit: the sign bit from `sign`, all others from `magnitude`.
    return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(bit, _mm512_castps_si512(sign.v),
                                                          _mm512_castps_si512(magnitude.v), 0xca))};
}
CNNRT_INLINE f32x16 round(f32x16 a) {
    return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
CNNRT_INLINE f32x16 floor(f32x16 a) {
    return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
}
CNNRT_INLINE f32x16 sqrt(f32x16 a) { return {_mm512_sqrt_ps(a.v)}; }
CNNRT_INLINE f32x16 scale2(f32x16 a, f32x16 n) { return {_mm512_scalef_ps(a.v, n.v)}; }
CNNRT_INLINE f32x16 scale2_normal(f32x16 a, f32x16 n) { return scale2(a, n); }
CNNRT_INLINE f32x16 exponent(f32x16 a) { return {_mm512_getexp_ps(a.v)}; }
CNNRT_INLINE f32x16 mantissa(f32x16 a) {
    return {_mm512_getmant_ps(a.v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero)};
}

CNNRT_INLINE mask16 less(f32x16 a, f32x16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
CNNRT_INLINE mask16 equal(f32x16 a, f32x16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
CNNRT_INLINE mask16 is_nan(f32x16 a) { return _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q); }
CNNRT_INLINE f32x16 select(mask16 m, f32x16 if_true, f32x16 if_false) {
    return {_mm512_mask_blend_ps(m, if_false.v, if_true.v)};
}

CNNRT_INLINE float sum(f32x16 a) { return _mm512_reduce_add_ps(a.v); }
CNNRT_INLINE float largest(f32x16 a) { return _mm512_reduce_max_ps(a.v); }

CNNRT_INLINE void transpose(f32x16* r) {
    __m512 t[16];
    // 4 x 4 blocks inside each 128-bit lane ...
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        const __m512 a = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
        const __m512 b = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
        const __m512 c = _mm512_unpacklo_ps(r[i + 2].v, r[i + 3].v);
        const __m512 d = _mm512_unpackhi_ps(r[i + 2].v, r[i + 3].v);
        t[i] = _mm512_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    // ... then the 4 x 4 lanes themselves.
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        const __m512 a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
        const __m512 b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
        const __m512 c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
        const __m512 d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        r[i].v = _mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 4].v = _mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 8].v = _mm512_shuffle_f32x4(a, c, 0xdd);
        r[i + 12].v = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

struct i32x16 {
    __m512i v;
};
struct u8x64 {
    __m512i v;
};
struct i8x64 {
    __m512i v;
};

CNNRT_INLINE i32x16 load_i32(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
CNNRT_INLINE void store_i32(int32_t* p, i32x16 a) { _mm512_storeu_si512(p, a.v); }
CNNRT_INLINE i32x16 broadcast_i32(int32_t x) { return {_mm512_set1_epi32(x)}; }
CNNRT_INLINE i32x16 add(i32x16 a, i32x16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
CNNRT_INLINE i32x16 widen(const uint8_t* p) {
    return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
CNNRT_INLINE i32x16 widen(const int8_t* p) {
    return {_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
CNNRT_INLINE f32x16 to_float(i32x16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
CNNRT_INLINE i32x16 to_int(f32x16 a) { return {_mm512_cvtps_epi32(a.v)}; }

CNNRT_INLINE u8x64 load_u8(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
CNNRT_INLINE void store_u8(uint8_t* p, u8x64 a) { _mm512_storeu_si512(p, a.v); }
CNNRT_INLINE i8x64 load_i8(const int8_t* p) { return {_mm512_loadu_si512(p)}; }
CNNRT_INLINE u8x64 broadcast4(const uint8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, 4);
    return {_mm512_set1_epi32(quad)};
}
CNNRT_INLINE u8x64 min(u8x64 a, u8x64 b) { return {_mm512_min_epu8(a.v, b.v)}; }
CNNRT_INLINE u8x64 max(u8x64 a, u8x64 b) { return {_mm512_max_epu8(a.v, b.v)}; }

CNNRT_INLINE void dot4(i32x16& sum, u8x64 x, i8x64 w) {
#if defined(__AVX512VNNI__)
    // Written as assembly: GCC 12 spills the sums of a register tile that uses the intrinsic.
    asm("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(x.v), "v"(w.v));
#else
    // The even and the odd bytes as 16-bit numbers: vpmaddwd adds their products in pairs.
    const __m512i low = _mm512_set1_epi16(0xff);
    const __m512i even = _mm512_madd_epi16(_mm512_and_si512(x.v, low),
                                           _mm512_srai_epi16(_mm512_slli_epi16(w.v, 8), 8));
    const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(x.v, 8), _mm512_srai_epi16(w.v, 8));
    sum.v = _mm512_add_epi32(sum.v, _mm512_add_epi32(even, odd));
#endif
}

// A 4 x 4 transpose of the 32-bit lanes.
CNNRT_INLINE __m512i transpose_quads(__m512i a) {
    const __m512i from = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(from, a);
}
#if defined(__AVX512VBMI__)
struct QuadOrder {
    uint8_t from[64];
    constexpr QuadOrder() : from{} {
        for (int i = 0; i < 64; ++i) from[i] = static_cast<uint8_t>(i % 4 * 16 + i / 4);
    }
};
alignas(64) constexpr QuadOrder kQuadOrder;
CNNRT_INLINE u8x64 quads_of_pixels(__m512i pixels) {
    return {_mm512_permutexvar_epi8(_mm512_load_si512(kQuadOrder.from), pixels)};
}
#else
CNNRT_INLINE u8x64 quads_of_pixels(__m512i pixels) {
    const __m512i bytes =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return {_mm512_shuffle_epi8(transpose_quads(pixels), bytes)};
}
#endif
CNNRT_INLINE u8x64 quads_of_pixels(const uint8_t* p) {
    return quads_of_pixels(_mm512_loadu_si512(p));
}
CNNRT_INLINE u8x64 quads_of_pixels(const uint8_t* p, int64_t step) {
    const auto pixel = [&](int i) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * step));
    };
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(pixel(0)), pixel(1), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(pixel(2)), pixel(3), 1);
    return quads_of_pixels(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}
CNNRT_INLINE u8x64 pack4(i32x16 a, i32x16 b, i32x16 c, i32x16 d, int zero) {
    const __m512i z = _mm512_set1_epi16(static_cast<int16_t>(zero));
    const __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(a.v, b.v), z);
    const __m512i cd = _mm512_adds_epi16(_mm512_packs_epi32(c.v, d.v), z);
    return {transpose_quads(_mm512_packus_epi16(ab, cd))};
}
CNNRT_INLINE u8x64 lookup(const uint8_t* table, u8x64 index) {
#if defined(__AVX512VBMI__)
    const __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(table), index.v,
                                                 _mm512_loadu_si512(table + 64));
    const __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(table + 128), index.v,
                                                  _mm512_loadu_si512(table + 192));
    return {_mm512_mask_blend_epi8(_mm512_movepi8_mask(index.v), low, high)};
#else
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i row = _mm512_and_si512(_mm512_srli_epi16(index.v, 4), nibble);
    const __m512i column = _mm512_and_si512(index.v, nibble);
    __m512i result = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
        const __m512i values = _mm512_broadcast_i32x4(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + i * 16)));
        const __mmask64 here = _mm512_cmpeq_epi8_mask(row, _mm512_set1_epi8(static_cast<char>(i)));
        result = _mm512_mask_shuffle_epi8(result, here, values, column);
    }
    return {result};
#endif
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
