// Reading the indices of gather and scatter.
#pragma once

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

struct Indices {
    const char* data;
    int64_t outer, row, inner, size;
    bool wide;
    Fault* fault;

    Indices(const IndexedArgs& a, const Context& context)
        : data(context.at<const char>(a.indices)),
          outer(a.index_outer),
          row(a.index_row),
          inner(a.index_inner),
          size(a.axis),
          wide(a.index_bytes == 8),
          fault(context.fault) {}

    // The position on the axis that an index names. If it is out of range, records it and returns
    // -1.
    CNNRT_INLINE int64_t at(int64_t o, int64_t j, int64_t i) const {
        const int64_t k = o * outer + j * row + i * inner;
        int64_t index;
        if (wide) {
            __builtin_memcpy(&index, data + k * 8, 8);
        } else {
            int32_t narrow;
            __builtin_memcpy(&narrow, data + k * 4, 4);
            index = narrow;
        }
        const int64_t place = index < 0 ? index + size : index;
        if (place >= 0 && place < size) return place;
        if (fault->size < 0) *fault = {index, size};
        return -1;
    }
};

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
