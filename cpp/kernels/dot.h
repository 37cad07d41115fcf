// One step of depth of the register tile, by element types.
//
// Dot<In, Weight> multiplies kDepth channels of a pixel by the weights of 16 outputs. The channels
// of a step are adjacent in memory, together 32 bits; its weights are [16 outputs][kDepth], a line
// of 64 bytes or less. A specialisation has:
//
//   Sum, Bias          16 sums; the element type of the bias they start from
//   kDepth             channels per step
//   kExact             true for integers: a product with a zero weight is zero, whatever the input
//   kScaled            true if weights have factors of float, 16 for each block and tap
//   start(bias)        the sums before the first step
//   weights(p)         the weights of one step of one block; weights(p, factors) if they are scaled
//   input(p)           the channels of one pixel, in the lanes of every output
//   add(sum, x, w)     adds their products
//   add_low(sum, x, w) the same for the first eight outputs, if the tile has such a form
#pragma once

#include "../simd/vec.h"
#include "dtype.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class In, class Weight>
struct Dot;

template <>
struct Dot<float, float> {
    using Sum = f32x16;
    using Bias = float;
    static constexpr int kDepth = 1;
    static constexpr bool kExact = false, kScaled = false;

    static CNNRT_INLINE f32x16 start(const float* bias) { return load(bias); }
    static CNNRT_INLINE f32x16 weights(const float* p) { return load(p); }
    static CNNRT_INLINE f32x16 input(const float* p) { return broadcast(*p); }
    static CNNRT_INLINE void add(f32x16& sum, f32x16 x, f32x16 w) { add_product(sum, x, w); }
    static CNNRT_INLINE f32x16 input_low(const float* p) { return broadcast_low(*p); }
    static CNNRT_INLINE void add_low(f32x16& sum, f32x16 x, f32x16 w) {
        add_product_low(sum, x, w);
    }
};

// Narrow weights become floats in registers. The products are those of the widened weights.
template <>
struct Dot<float, Float16> : Dot<float, float> {
    static CNNRT_INLINE f32x16 weights(const Float16* p) { return load_half(&p->bits); }
};
template <>
struct Dot<float, BFloat16> : Dot<float, float> {
    static CNNRT_INLINE f32x16 weights(const BFloat16* p) { return load_bfloat16(&p->bits); }
};
template <>
struct Dot<float, int8_t> : Dot<float, float> {
    static constexpr bool kScaled = true;

    static CNNRT_INLINE f32x16 weights(const int8_t* p, f32x16 factors) {
        return mul(to_float(widen(p)), factors);
    }
};

// Exact on every tier, modulo 2^32. Unused channels of a last step have zero weights.
template <>
struct Dot<uint8_t, int8_t> {
    using Sum = i32x16;
    using Bias = int32_t;
    static constexpr int kDepth = 4;
    static constexpr bool kExact = true, kScaled = false;

    static CNNRT_INLINE i32x16 start(const int32_t* bias) { return load_i32(bias); }
    static CNNRT_INLINE i8x64 weights(const int8_t* p) { return load_i8(p); }
    static CNNRT_INLINE u8x64 input(const uint8_t* p) { return broadcast4(p); }
    static CNNRT_INLINE void add(i32x16& sum, u8x64 x, i8x64 w) { dot4(sum, x, w); }
};

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
