// How a reduction is divided into tasks, for floats (reduce.cpp) and the other element types.
#pragma once

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {

// `reduce` of other types than float.
void reduce_elements(const ReduceArgs& args, const Context& context, int64_t begin, int64_t end);

namespace {

constexpr int64_t kChunk = 16384;  // approximate elements read by one task
constexpr int64_t kStrip = 512;    // inner positions reduced together
constexpr int64_t kShort = 256;    // axes that are reduced 16 at a time, if the rows are that many

// True if rows are reduced 16 at a time. The shape of a row decides, not how many there are.
CNNRT_INLINE bool by_sixteens(const ReduceArgs& a) {
    return a.inner == 1 && a.axis <= kShort && a.type == DType::float32;
}

// Units of work: single results, 16 results, or strips of results if inner > 1.
CNNRT_INLINE int64_t per_outer(const ReduceArgs& a) { return ceil_div(a.inner, kStrip); }
CNNRT_INLINE int64_t units(const ReduceArgs& a) {
    return by_sixteens(a) ? ceil_div(a.outer, 16) : a.outer * per_outer(a);
}
CNNRT_INLINE int64_t units_per_task(const ReduceArgs& a) {
    const int64_t rows = by_sixteens(a) ? 16 : 1;
    const int64_t size = larger<int64_t>(1, a.axis) * smaller(a.inner, kStrip) * rows;
    return larger<int64_t>(1, kChunk / size);
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
