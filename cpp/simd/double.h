// f64xN: as many doubles as a register of the tier holds, from the compiler's own vector types.
#pragma once

#include "vec.h"

namespace cnnrt::CNNRT_ISA {
namespace {

#if defined(CNNRT_ISA_AVX512) && !defined(CNNRT_BY_HALVES)
constexpr int kDoubles = 8;
#elif defined(CNNRT_ISA_AVX512) || defined(CNNRT_ISA_AVX2)
constexpr int kDoubles = 4;
#else
constexpr int kDoubles = 2;
#endif

typedef double f64xN __attribute__((vector_size(kDoubles * 8)));
typedef double unaligned_f64xN __attribute__((vector_size(kDoubles * 8), aligned(8), may_alias));

CNNRT_INLINE f64xN load(const double* p) { return *reinterpret_cast<const unaligned_f64xN*>(p); }
CNNRT_INLINE void store(double* p, f64xN a) { *reinterpret_cast<unaligned_f64xN*>(p) = a; }
CNNRT_INLINE f64xN broadcast(double x) { return x - f64xN{}; }

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
