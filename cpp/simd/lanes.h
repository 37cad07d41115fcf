// Vectors of 16 bytes of any element type, from the compiler's own vector types.
#pragma once

#include "vec.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(16)));
};
template <class T>
using x16 = typename VectorOf<T>::type;

template <class T>
CNNRT_INLINE x16<T> load16(const T* p) {
    x16<T> x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}

// The joined lanes of a vector, by halves: join(a, b) takes vectors.
template <class T, class F>
CNNRT_INLINE T join_lanes(x16<T> x, F join) {
    const auto by = [&](auto swapped) { x = join(x, (x16<T>)swapped); };
    const auto halves = (x16<uint64_t>)x;
    by(__builtin_shufflevector(halves, halves, 1, 0));
    if constexpr (sizeof(T) <= 4) {
        const auto words = (x16<uint32_t>)x;
        by(__builtin_shufflevector(words, words, 1, 0, 3, 2));
    }
    if constexpr (sizeof(T) <= 2) {
        const auto pairs = (x16<uint16_t>)x;
        by(__builtin_shufflevector(pairs, pairs, 1, 0, 3, 2, 5, 4, 7, 6));
    }
    if constexpr (sizeof(T) == 1) {
        const auto bytes = (x16<uint8_t>)x;
        by(__builtin_shufflevector(bytes, bytes, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15,
                                   14));
    }
    return x[0];
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
