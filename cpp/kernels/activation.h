// Applying an activation of activations.def to a run of stored floats.
#pragma once

#include "../simd/math.h"
#include "args.h"

namespace cnnrt::CNNRT_ISA {

// p[0..n) = activation(p[0..n)). In activation.cpp, once per tier.
void activate(const Epilogue& e, float* p, int64_t n);

}  // namespace cnnrt::CNNRT_ISA
