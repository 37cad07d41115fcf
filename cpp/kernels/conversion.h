// Conversion of stored elements from one type to another, as NumPy's astype does it.
#pragma once

#include "../simd/vec.h"
#include "args.h"

namespace cnnrt::CNNRT_ISA {

// y[i] = x[i] in another type. Floats lose their fraction on the way to integers. NaN and what the
// integers cannot hold become the nearer end of their range, or of that of int32, of which they
// then take the low bits. Everything but 0 is true.
void convert_elements(DType from, const void* x, DType to, void* y, int64_t n);
void to_floats(DType from, const void* x, float* y, int64_t n);
void from_floats(DType to, const float* x, void* y, int64_t n);

}  // namespace cnnrt::CNNRT_ISA
