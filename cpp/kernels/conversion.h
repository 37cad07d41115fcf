// Conversion of stored elements from one type to another, as NumPy's astype does it.
#pragma once

#include "../simd/vec.h"
#include "args.h"

namespace cnnrt::CNNRT_ISA {

// y[i] = x[i] in another type. Floats lose their fraction on the way to integers. NaN and values
// beyond the integers' range become its nearer end. Narrow integers take the low bits of an int32
// made so. Everything but 0 is true.
void convert_elements(DType from, const void* x, DType to, void* y, int64_t n);
void to_floats(DType from, const void* x, float* y, int64_t n);
void from_floats(DType to, const float* x, void* y, int64_t n);

}  // namespace cnnrt::CNNRT_ISA
