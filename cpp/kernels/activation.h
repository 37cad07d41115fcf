// Activations: the clamps that kernels apply in registers, and all the others on stored floats.
#pragma once

#include "../simd/math.h"
#include "args.h"

// An overlay calls those of its tier.
namespace cnnrt::CNNRT_TIER {

// to[0..n) = activation(from[0..n)); both may be the same.
void activate(const Epilogue& e, const float* from, float* to, int64_t n);
// p[0..n) = activation(p[0..n)).
void activate(const Epilogue& e, float* p, int64_t n);

}  // namespace cnnrt::CNNRT_TIER

namespace cnnrt::CNNRT_ISA {

using CNNRT_TIER::activate;

namespace {

// The first activations of activations.def are clamps; `is_clamp` and kernels compare by order.
static_assert(static_cast<int>(Activation::none) == 0 && static_cast<int>(Activation::relu) == 1 &&
              static_cast<int>(Activation::clip) == 2);

// True if min(high, max(low, x)) is the activation; the others need `activate`.
CNNRT_INLINE bool is_clamp(const Epilogue& e) { return e.activation <= Activation::clip; }

// The limits of a clamp; an absent limit is infinite. Both are infinite for other activations.
struct Limits {
    float low, high;
};
CNNRT_INLINE Limits limits_of(const Epilogue& e) {
    constexpr float kInfinity = __builtin_inff();
    if (e.activation == Activation::clip) return {e.alpha, e.beta};
    return {e.activation == Activation::relu ? 0.0f : -kInfinity, kInfinity};
}

}  // namespace

}  // namespace cnnrt::CNNRT_ISA
