// y = condition ? a : b over up to kMaxDims axes with broadcasting as stride 0; elements of 1, 2, 4
// or 8 bytes, conditions of one byte. y is contiguous.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 4096;  // elements of one task, about

CNNRT_INLINE int64_t run_length(const WhereArgs& a) { return a.dims ? a.shape[a.dims - 1] : 1; }

CNNRT_INLINE int64_t runs(const WhereArgs& a) {
    int64_t count = 1;
    for (int i = 0; i + 1 < a.dims; ++i) count *= a.shape[i];
    return count;
}

CNNRT_INLINE int64_t runs_per_task(const WhereArgs& a) {
    return larger<int64_t>(1, kChunk / larger<int64_t>(1, run_length(a)));
}

template <class T>
void choose(const WhereArgs& g, const Context& context, int64_t begin, int64_t end) {
    const uint8_t* condition = context.at<const uint8_t>(g.condition);
    const T *a = context.at<const T>(g.a), *b = context.at<const T>(g.b);
    T* y = context.at<T>(g.y);
    const int last = g.dims - 1;
    const int64_t n = run_length(g);
    const int64_t c_step = last < 0 ? 0 : g.condition_stride[last];
    const int64_t a_step = last < 0 ? 0 : g.a_stride[last];
    const int64_t b_step = last < 0 ? 0 : g.b_stride[last];
    for (int64_t run = begin; run < end; ++run) {
        int64_t rest = run, c0 = 0, a0 = 0, b0 = 0;
        for (int i = last - 1; i >= 0; --i) {
            const int64_t k = rest % g.shape[i];
            rest /= g.shape[i];
            c0 += k * g.condition_stride[i];
            a0 += k * g.a_stride[i];
            b0 += k * g.b_stride[i];
        }
        T* to = y + run * n;
        for (int64_t i = 0; i < n; ++i)
            to[i] = condition[c0 + i * c_step] ? a[a0 + i * a_step] : b[b0 + i * b_step];
    }
}

}  // namespace

void where(const WhereArgs& a, const Context& context, int64_t begin, int64_t end) {
    const int64_t per_task = runs_per_task(a);
    begin *= per_task;
    end = smaller(runs(a), end * per_task);
    switch (a.element) {
        case 1:
            return choose<uint8_t>(a, context, begin, end);
        case 2:
            return choose<uint16_t>(a, context, begin, end);
        case 4:
            return choose<uint32_t>(a, context, begin, end);
        case 8:
            return choose<uint64_t>(a, context, begin, end);
    }
}

int64_t where_tasks(const WhereArgs& a) { return ceil_div(runs(a), runs_per_task(a)); }

int64_t where_scratch(const WhereArgs&) { return 0; }

}  // namespace cnnrt::CNNRT_ISA
