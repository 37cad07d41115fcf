// Transposition of squares of 16 x 16 elements of any size, from the compiler's own vector types.
#pragma once

#include "vec.h"

namespace cnnrt::CNNRT_ISA {
namespace {

typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef uint64_t u64x4 __attribute__((vector_size(32)));

// The first and the second halves of a and b, lane by lane in turn.
CNNRT_INLINE u8x16 low_in_turn(u8x16 a, u8x16 b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
CNNRT_INLINE u8x16 high_in_turn(u8x16 a, u8x16 b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                   31);
}
CNNRT_INLINE u16x8 low_in_turn(u16x8 a, u16x8 b) {
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
CNNRT_INLINE u16x8 high_in_turn(u16x8 a, u16x8 b) {
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

// y[j][i] = x[i][j] for a square of as many rows as V has lanes. Each round puts rows that are half
// of the square apart in turn; after log2(rows) of them the square is transposed.
template <class V, class T>
CNNRT_INLINE void transpose_by_turns(const T* x, int64_t x_row, T* y, int64_t y_row) {
    constexpr int kRows = sizeof(V) / sizeof(T);
    V r[kRows], s[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) __builtin_memcpy(&r[i], x + i * x_row, sizeof(V));
#pragma GCC unroll 4
    for (int round = 1; round < kRows; round *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < kRows / 2; ++i) {
            s[2 * i] = low_in_turn(r[i], r[i + kRows / 2]);
            s[2 * i + 1] = high_in_turn(r[i], r[i + kRows / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) r[i] = s[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) __builtin_memcpy(y + i * y_row, &r[i], sizeof(V));
}

// y[j * y_row + i] = x[i * x_row + j] for i and j below 16.
CNNRT_INLINE void transpose_square(const uint8_t* x, int64_t x_row, uint8_t* y, int64_t y_row) {
    transpose_by_turns<u8x16>(x, x_row, y, y_row);
}
CNNRT_INLINE void transpose_square(const uint16_t* x, int64_t x_row, uint16_t* y, int64_t y_row) {
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 16; j += 8)
            transpose_by_turns<u16x8>(x + i * x_row + j, x_row, y + j * y_row + i, y_row);
}
CNNRT_INLINE void transpose_square(const uint32_t* x, int64_t x_row, uint32_t* y, int64_t y_row) {
    // Loads, shuffles and stores of floats keep all bits, whatever they stand for.
    const float* from = reinterpret_cast<const float*>(x);
    float* to = reinterpret_cast<float*>(y);
    f32x16 r[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) r[i] = load(from + i * x_row);
    transpose(r);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) store(to + i * y_row, r[i]);
}
CNNRT_INLINE void transpose_square(const uint64_t* x, int64_t x_row, uint64_t* y, int64_t y_row) {
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 16; j += 4) {
            u64x4 r[4];
            const uint64_t* from = x + i * x_row + j;
            uint64_t* to = y + j * y_row + i;
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) __builtin_memcpy(&r[k], from + k * x_row, sizeof(u64x4));
            const u64x4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 2, 6);
            const u64x4 b = __builtin_shufflevector(r[0], r[1], 1, 5, 3, 7);
            const u64x4 c = __builtin_shufflevector(r[2], r[3], 0, 4, 2, 6);
            const u64x4 d = __builtin_shufflevector(r[2], r[3], 1, 5, 3, 7);
            r[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
            r[1] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
            r[2] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
            r[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) __builtin_memcpy(to + k * y_row, &r[k], sizeof(u64x4));
        }
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
