// One step of depth of the register tile, by element types.
//
// Dot<In, Weight> multiplies kDepth channels of a pixel by the weights of 16 outputs. The channels
// of a step are adjacent in memory, together 32 bits; its weights are [16 outputs][kDepth],
// together 64 bytes. A specialisation has:
//
//   Sum, Bias          16 sums; the element type of the bias they start from
//   kDepth             channels per step
//   kExact             true for integers: a product with a zero weight is zero, whatever the input
//   start(bias)        the sums before the first step
//   weights(p)         the weights of one step of one block
//   input(p)           the channels of one pixel, in the lanes of every output
//   add(sum, x, w)     adds their products
#pragma once

#include "../simd/vec.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class In, class Weight>
struct Dot;

template <>
struct Dot<float, float> {
    using Sum = f32x16;
    using Bias = float;
    static constexpr int kDepth = 1;
    static constexpr bool kExact = false;

    static CNNRT_INLINE f32x16 start(const float* bias) { return load(bias); }
    static CNNRT_INLINE f32x16 weights(const float* p) { return load(p); }
    static CNNRT_INLINE f32x16 input(const float* p) { return broadcast(*p); }
    static CNNRT_INLINE void add(f32x16& sum, f32x16 x, f32x16 w) { add_product(sum, x, w); }
};

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
