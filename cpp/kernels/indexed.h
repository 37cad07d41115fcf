// Reading the indices of gather and scatter.
#pragma once

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

struct Indices {
    const char* data;
    const int64_t* sizes;
    int64_t outer, row, inner, size;
    int depth;
    bool wide;
    Fault* fault;

    Indices(const IndexedArgs& a, const Context& context)
        : data(context.at<const char>(a.indices)),
          sizes(a.sizes),
          outer(a.index_outer),
          row(a.index_row),
          inner(a.index_inner),
          size(a.axis),
          depth(a.depth),
          wide(a.index_bytes == 8),
          fault(context.fault) {}

    // The position on the axis that an index, or a tuple of them, names. If it is out of range,
    // records it and returns -1.
    CNNRT_INLINE int64_t at(int64_t o, int64_t j, int64_t i) const {
        const int64_t k = o * outer + j * row + i * inner;
        return depth == 1 ? on_axis(k, size) : merged(k);
    }

private:
    CNNRT_INLINE int64_t on_axis(int64_t k, int64_t n) const {
        int64_t index;
        if (wide) {
            __builtin_memcpy(&index, data + k * 8, 8);
        } else {
            int32_t narrow;
            __builtin_memcpy(&narrow, data + k * 4, 4);
            index = narrow;
        }
        const int64_t place = index < 0 ? index + n : index;
        if (place >= 0 && place < n) return place;
        if (fault->size < 0) *fault = {index, n};
        return -1;
    }

    int64_t merged(int64_t k) const {
        int64_t place = 0;
        for (int d = 0; d < depth; ++d) {
            const int64_t each = on_axis(k + d, sizes[d]);
            if (each < 0) return -1;
            place = place * sizes[d] + each;
        }
        return place;
    }
};

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
