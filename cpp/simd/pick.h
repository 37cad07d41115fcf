// pick(p, n, index): p[index[i]] in lane i, of n floats at p. The places ascend, and span fewer
// than kPicked in that many lanes, as they do if a row is made longer.
#pragma once

#include "vec.h"

namespace cnnrt::CNNRT_ISA {
namespace {

#if defined(CNNRT_ISA_AVX512) && !defined(CNNRT_BY_HALVES)
constexpr int kPicked = 16;
CNNRT_INLINE f32x16 pick(const float* p, int64_t n, const int32_t* index) {
    const int first = index[0];
    const f32x16 row =
        n - first < 16 ? load_partial(p + first, static_cast<int>(n - first)) : load(p + first);
    const __m512i places = _mm512_sub_epi32(_mm512_loadu_si512(index), _mm512_set1_epi32(first));
    return {_mm512_permutexvar_ps(places, row.v)};
}
#elif defined(CNNRT_ISA_AVX2) || defined(CNNRT_BY_HALVES)
constexpr int kPicked = 8;
CNNRT_INLINE f32x16 pick(const float* p, int64_t n, const int32_t* index) {
    float lanes[16];
    for (int half = 0; half < 16; half += 8) {
        const int first = index[half];
        const __m256i near = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        const __m256i left = _mm256_set1_epi32(static_cast<int>(n < first + 8 ? n - first : 8));
        const __m256 row = _mm256_maskload_ps(p + first, _mm256_cmpgt_epi32(left, near));
        const __m256i at = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index + half));
        const __m256i places = _mm256_sub_epi32(at, _mm256_set1_epi32(first));
        _mm256_storeu_ps(lanes + half, _mm256_permutevar8x32_ps(row, places));
    }
    return load(lanes);
}
#else
constexpr int kPicked = 0;  // one by one is as fast
CNNRT_INLINE f32x16 pick(const float* p, int64_t, const int32_t* index) {
    float lanes[16];
    for (int l = 0; l < 16; ++l) lanes[l] = p[index[l]];
    return load(lanes);
}
#endif

// True for places that `pick` takes, of a sequence that ascends or descends throughout.
CNNRT_INLINE bool can_pick(const int32_t* index) {
    if (kPicked == 0) return true;
    for (int i = 0; i < 16; i += kPicked) {
        const int32_t span = index[i + kPicked - 1] - index[i];
        if (span < 0 || span >= kPicked) return false;
    }
    return true;
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
