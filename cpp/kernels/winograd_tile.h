// Winograd transforms of one tile of one block of 16 channels: V = B^T d B, and y = A^T M A with
// its epilogue.
#pragma once

#include "kernel.h"
#include "winograd_transforms.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// Calls f(0), ..., f(COUNT - 1): one after the other if UNROLL, else in a loop.
template <int COUNT, bool UNROLL, class F>
CNNRT_INLINE void for_each_index(const F& f) {
    if constexpr (UNROLL) {
#pragma GCC unroll 9
        for (int i = 0; i < COUNT; ++i) f(i);
    } else {
#pragma GCC unroll 1
        for (int i = 0; i < COUNT; ++i) f(i);
    }
}

// Transforms that keep at most so many vectors between their passes are unrolled. Most of these
// vectors then stay in the 32 registers of AVX-512. On a Zen 4, 64 channels of 56 x 56 take 0.664
// ms instead of 0.675, and VGG-16 98.5 instead of 99.5.
constexpr int kHeldVectors = kTileBlocks > 1 ? 36 : 0;

// One tile of one channel block: V[position] = B^T d B, planes `plane` floats apart. rows[i] points
// at the leftmost pixel of row i, or at zeros; columns outside [first, last) count as zero.
template <int MH, int MW, int R, int STRIDE>
void transform_input(const float* const* rows, int first, int last, float* v, int64_t plane) {
    constexpr int AH = reads_of(MH, R, STRIDE), AW = reads_of(MW, R, STRIDE);
    f32x16 half[AH][AW];
    constexpr bool kHeld = AH * AW <= kHeldVectors;
    for_each_index<AW, kHeld>([&](int j) __attribute__((always_inline)) {
        f32x16 d[AH], r[AH];
        if (j < first || j >= last) {
#pragma GCC unroll 9
            for (int i = 0; i < AH; ++i) half[i][j] = zero();
            return;
        }
#pragma GCC unroll 9
        for (int i = 0; i < AH; ++i) d[i] = load(rows[i] + j * 16);
        Transform<MH, R, STRIDE>::input(d, r);
#pragma GCC unroll 9
        for (int i = 0; i < AH; ++i) half[i][j] = r[i];
    });
    for_each_index<AH, kHeld>([&](int i) __attribute__((always_inline)) {
        f32x16 r[AW];
        Transform<MW, R, STRIDE>::input(half[i], r);
#pragma GCC unroll 9
        for (int j = 0; j < AW; ++j) store(v + (i * AW + j) * plane, r[j]);
    });
}

// The same if only one axis is transformed: short enough to be inlined into the loop.
template <int MH, int MW, int R, int STRIDE>
    requires(MH == 1 || MW == 1)
CNNRT_INLINE void transform_input(const float* const* rows, int first, int last, float* v,
                                  int64_t plane) {
    constexpr int A = reads_of(MH, R, STRIDE) * reads_of(MW, R, STRIDE);
    f32x16 d[A], r[A];
    if (first == 0 && last == reads_of(MW, R, STRIDE)) {
#pragma GCC unroll 9
        for (int i = 0; i < A; ++i) d[i] = load(MH == 1 ? rows[0] + i * 16 : rows[i]);
    } else {
#pragma GCC unroll 9
        for (int i = 0; i < A; ++i)
            d[i] = MH == 1 && i >= first && i < last ? load(rows[0] + i * 16) : zero();
    }
    Transform<MH * MW, R, STRIDE>::input(d, r);
#pragma GCC unroll 9
    for (int i = 0; i < A; ++i) store(v + i * plane, r[i]);
}

// The destination of the outputs of one tile and block, and the terms added to them. height x width
// of the outputs exist.
struct Target {
    f32x16 bias;
    const float* residual;
    int64_t residual_row;
    float* y;
    int64_t y_row;
    int64_t pixel;  // between two outputs of a row, of y and of the residual
    int height, width;
    float* pooled;  // or null: where the maxima of the 2 x 2 outputs go; y then holds the tile
    int64_t pooled_row;
    const Epilogue& e;

    // Stores row i: y = activation(r + bias + residual).
    template <int MW>
    CNNRT_INLINE void store_row(int i, const f32x16* r) const {
        const bool relu = e.activation == Activation::relu;
        const f32x16 z = zero();
        float* out = y + i * y_row;
#pragma GCC unroll 6
        for (int j = 0; j < MW; ++j) {
            if (j >= width) break;
            f32x16 v = add(r[j], bias);
            if (residual) v = add(v, load(residual + i * residual_row + j * pixel));
            if (relu) v = max(z, v);
            store(out + j * pixel, v);
        }
        if (relu || e.activation == Activation::none) return;
        if (pixel == 16) return activate(e, out, width * 16);
        for (int j = 0; j < width; ++j) activate(e, out + j * pixel, 16);
    }

    // Stores the maxima of 2 x 2 outputs, after the last row.
    CNNRT_INLINE void pool() const {
        if (!pooled) return;
        for (int i = 0; i + 1 < height; i += 2)
            for (int j = 0; j + 1 < width; j += 2) {
                const float* p = y + i * y_row + j * 16;
                const f32x16 left = max_or_nan(load(p), load(p + y_row));
                const f32x16 right = max_or_nan(load(p + 16), load(p + y_row + 16));
                store(pooled + i / 2 * pooled_row + j / 2 * 16, max_or_nan(left, right));
            }
    }
};

// The outputs A^T M A of one tile. Returns the sum of the corners. If it is finite, all outputs
// are: each row and column of M enters the first or the last row or column of outputs. At stride 2
// most enter one, and the sum is of all outputs.
template <int MH, int MW, int R, int STRIDE>
f32x16 transform_output(const float* m, int64_t plane, const Target& to) {
    constexpr int AH = reads_of(MH, R, STRIDE), AW = reads_of(MW, R, STRIDE);
    f32x16 half[MH][AW];
    constexpr bool kHeld = MH * AW <= kHeldVectors;
    for_each_index<AW, kHeld>([&](int j) __attribute__((always_inline)) {
        f32x16 d[AH], r[MH];
#pragma GCC unroll 9
        for (int i = 0; i < AH; ++i) d[i] = load(m + (i * AW + j) * plane);
        Transform<MH, R, STRIDE>::output(d, r);
#pragma GCC unroll 6
        for (int i = 0; i < MH; ++i) half[i][j] = r[i];
    });
    f32x16 corners = zero();
    for_each_index<MH, kHeld>([&](int i) __attribute__((always_inline)) {
        if (i >= to.height) return;
        f32x16 r[MW];
        Transform<MW, R, STRIDE>::output(half[i], r);
        if (STRIDE > 1) {
#pragma GCC unroll 6
            for (int j = 0; j < MW; ++j) corners = add(corners, r[j]);
        } else if (i == 0 || i == MH - 1) {
            corners = add(corners, add(r[0], r[MW - 1]));
        }
        to.store_row<MW>(i, r);
    });
    to.pool();
    return corners;
}

template <int MH, int MW, int R, int STRIDE>
    requires(MH == 1 || MW == 1)
CNNRT_INLINE f32x16 transform_output(const float* m, int64_t plane, const Target& to) {
    constexpr int A = reads_of(MH, R, STRIDE) * reads_of(MW, R, STRIDE);
    f32x16 d[A], r[MH * MW];
#pragma GCC unroll 13
    for (int i = 0; i < A; ++i) d[i] = load(m + i * plane);
    Transform<MH * MW, R, STRIDE>::output(d, r);
#pragma GCC unroll 6
    for (int i = 0; i < MH; ++i) {
        if (i >= to.height) break;
        to.store_row<MW>(i, r + i);
    }
    f32x16 seen = add(r[0], r[MH * MW - 1]);
    if (STRIDE > 1)
#pragma GCC unroll 4
        for (int i = 1; i < MH * MW - 1; ++i) seen = add(seen, r[i]);
    return seen;
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
