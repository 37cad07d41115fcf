// Eight-lane registers for AVX2 + FMA; split.h makes f32x16 of two.
#pragma once

#include <immintrin.h>

namespace cnnrt::CNNRT_ISA {
namespace {

using reg = __m256;
constexpr int kLanes = 8;

CNNRT_INLINE reg reg_load(const float* p) { return _mm256_loadu_ps(p); }
CNNRT_INLINE reg reg_load_first(const float* p, int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
}
CNNRT_INLINE void reg_store(float* p, reg a) { _mm256_storeu_ps(p, a); }
CNNRT_INLINE reg reg_load_half(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
CNNRT_INLINE void reg_store_half(uint16_t* p, reg a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
CNNRT_INLINE reg reg_load_bfloat16(const uint16_t* p) {
    const __m256i bits =
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}
CNNRT_INLINE reg reg_broadcast(float x) { return _mm256_set1_ps(x); }
template <int GROUP, int K>
CNNRT_INLINE reg reg_spread(reg a) {
    return _mm256_permute_ps(a, GROUP == 4 ? K * 0x55 : K ? 0xf5 : 0xa0);
}
CNNRT_INLINE reg reg_add(reg a, reg b) { return _mm256_add_ps(a, b); }
CNNRT_INLINE reg reg_sub(reg a, reg b) { return _mm256_sub_ps(a, b); }
CNNRT_INLINE reg reg_mul(reg a, reg b) { return _mm256_mul_ps(a, b); }
CNNRT_INLINE reg reg_div(reg a, reg b) { return _mm256_div_ps(a, b); }
CNNRT_INLINE reg reg_fma(reg a, reg b, reg c) { return _mm256_fmadd_ps(a, b, c); }
// Written as assembly: in several steps of the register tile, GCC 12 turns the weights into memory
// operands. It then reads each six times, and copies and spills the sums.
CNNRT_INLINE void reg_add_product(reg& sum, reg a, reg b) {
    asm("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
}
CNNRT_INLINE reg reg_fnma(reg a, reg b, reg c) { return _mm256_fnmadd_ps(a, b, c); }
CNNRT_INLINE reg reg_min(reg a, reg b) { return _mm256_min_ps(a, b); }
CNNRT_INLINE reg reg_max(reg a, reg b) { return _mm256_max_ps(a, b); }
CNNRT_INLINE reg reg_abs(reg a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
CNNRT_INLINE reg reg_copysign(reg magnitude, reg sign) {
    const reg bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_and_ps(bit, sign), _mm256_andnot_ps(bit, magnitude));
}
CNNRT_INLINE reg reg_round(reg a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
CNNRT_INLINE reg reg_floor(reg a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
CNNRT_INLINE reg reg_sqrt(reg a) { return _mm256_sqrt_ps(a); }
CNNRT_INLINE reg pow2(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
CNNRT_INLINE reg reg_scale2(reg a, reg n) {
    const __m256i all = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(all, 1);
    return reg_mul(reg_mul(a, pow2(half)), pow2(_mm256_sub_epi32(all, half)));
}
CNNRT_INLINE reg reg_scale2_normal(reg a, reg n) {
    const __m256i by = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), by));
}
CNNRT_INLINE reg reg_exponent(reg a) {
    const __m256i bits = _mm256_srli_epi32(_mm256_castps_si256(a), 23);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(bits, _mm256_set1_epi32(127)));
}
CNNRT_INLINE reg reg_mantissa(reg a) {
    const __m256i low = _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x007fffff));
    return _mm256_castsi256_ps(_mm256_or_si256(low, _mm256_set1_epi32(0x3f800000)));
}
CNNRT_INLINE reg reg_less(reg a, reg b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
CNNRT_INLINE reg reg_equal(reg a, reg b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
CNNRT_INLINE reg reg_unordered(reg a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
CNNRT_INLINE reg reg_select(reg m, reg if_true, reg if_false) {
    return _mm256_blendv_ps(if_false, if_true, m);
}
CNNRT_INLINE float reg_sum(reg a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
CNNRT_INLINE float reg_largest(reg a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
CNNRT_INLINE void reg_transpose(reg* r) {
    reg t[8];
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        const reg a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]);
        const reg c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]);
        const reg d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm256_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}

using ireg = __m256i;

CNNRT_INLINE ireg ireg_load(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
CNNRT_INLINE void ireg_store(void* p, ireg a) { _mm256_storeu_si256(static_cast<__m256i*>(p), a); }
CNNRT_INLINE ireg ireg_broadcast(int32_t x) { return _mm256_set1_epi32(x); }
CNNRT_INLINE ireg ireg_add(ireg a, ireg b) { return _mm256_add_epi32(a, b); }
CNNRT_INLINE ireg ireg_widen(const uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
CNNRT_INLINE ireg ireg_widen(const int8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
CNNRT_INLINE reg ireg_to_float(ireg a) { return _mm256_cvtepi32_ps(a); }
CNNRT_INLINE ireg reg_to_int(reg a) { return _mm256_cvtps_epi32(a); }
CNNRT_INLINE ireg ireg_min_u8(ireg a, ireg b) { return _mm256_min_epu8(a, b); }
CNNRT_INLINE ireg ireg_max_u8(ireg a, ireg b) { return _mm256_max_epu8(a, b); }
CNNRT_INLINE void ireg_dot4(ireg& sum, ireg x, ireg w) {
#if defined(__AVXVNNI__)
    // Written as assembly: GCC 12 spills the sums of a register tile that uses the intrinsic.
    // Without {vex} the assembler takes AVX-512's encoding.
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
#else
    // The even and the odd bytes as 16-bit numbers: vpmaddwd adds their products in pairs.
    // (Products of bytes by vpmaddubsw would saturate.)
    const ireg even = _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0xff)),
                                        _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
    const ireg odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(w, 8));
    sum = _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
#endif
}
CNNRT_INLINE ireg ireg_pack(const ireg* a, int zero) {
    const ireg z = _mm256_set1_epi16(static_cast<int16_t>(zero));
    const ireg low = _mm256_adds_epi16(_mm256_packs_epi32(a[0], a[1]), z);
    const ireg high = _mm256_adds_epi16(_mm256_packs_epi32(a[2], a[3]), z);
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high),
                                       _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
CNNRT_INLINE void ireg_quads(const uint8_t* p, int64_t step, ireg* to) {
    const auto pixel = [&](int i) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * step));
    };
    const __m128i a = pixel(0), b = pixel(1), c = pixel(2), d = pixel(3);
    const __m128i ab0 = _mm_unpacklo_epi8(a, b), ab1 = _mm_unpackhi_epi8(a, b);
    const __m128i cd0 = _mm_unpacklo_epi8(c, d), cd1 = _mm_unpackhi_epi8(c, d);
    to[0] = _mm256_set_m128i(_mm_unpackhi_epi16(ab0, cd0), _mm_unpacklo_epi16(ab0, cd0));
    to[1] = _mm256_set_m128i(_mm_unpackhi_epi16(ab1, cd1), _mm_unpacklo_epi16(ab1, cd1));
}
CNNRT_INLINE ireg ireg_lookup(const uint8_t* table, ireg index) {
    const ireg nibble = _mm256_set1_epi8(15);
    const ireg row = _mm256_and_si256(_mm256_srli_epi16(index, 4), nibble);
    const ireg column = _mm256_and_si256(index, nibble);
    ireg result = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
        const ireg values = _mm256_broadcastsi128_si256(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + i * 16)));
        const ireg here = _mm256_cmpeq_epi8(row, _mm256_set1_epi8(static_cast<char>(i)));
        result = _mm256_blendv_epi8(result, _mm256_shuffle_epi8(values, column), here);
    }
    return result;
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA

#include "split.h"
