// Running sums or products along the middle axis of plain [outer, axis, inner], in the order of the
// axis. A task walks a strip of inner positions: each row is made of the one before it.
#include "element.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kStrip = 1024;  // inner positions of one task: a row of them stays in L1

// Sums and products of integers wrap, as those of unsigned integers do.
struct Add {
    static constexpr int kIdentity = 0;
    template <class T>
    static CNNRT_INLINE T join(T a, T b) {
        return static_cast<T>(a + b);
    }
};
struct Multiply {
    static constexpr int kIdentity = 1;
    template <class T>
    static CNNRT_INLINE T join(T a, T b) {
        return static_cast<T>(a * decltype(T{} + 1u){b});
    }
    static CNNRT_INLINE float join(float a, float b) { return a * b; }
    static CNNRT_INLINE double join(double a, double b) { return a * b; }
};

// `columns` lines of the axis beside each other; steps count elements.
template <class Rule, class T>
void accumulate(const T* x, T* y, int64_t axis, int64_t step, int64_t columns, bool exclusive) {
    const int64_t behind = exclusive ? 1 : 0;
    if (columns == 1) {
        T sum = exclusive ? static_cast<T>(Rule::kIdentity) : x[0];
        y[0] = sum;
        for (int64_t i = 1; i < axis; ++i) {
            sum = Rule::join(sum, x[(i - behind) * step]);
            y[i * step] = sum;
        }
        return;
    }
    for (int64_t j = 0; j < columns; ++j) y[j] = exclusive ? static_cast<T>(Rule::kIdentity) : x[j];
    for (int64_t i = 1; i < axis; ++i) {
        const T* const from = x + (i - behind) * step;
        const T* const before = y + (i - 1) * step;
        T* const to = y + i * step;
#pragma GCC ivdep
        for (int64_t j = 0; j < columns; ++j) to[j] = Rule::join(before[j], from[j]);
    }
}

template <class Rule, class T>
void accumulate_tasks(const CumulativeArgs& a, const Context& context, int64_t begin, int64_t end) {
    const T* x = context.at<const T>(a.x);
    T* y = context.at<T>(a.y);
    const int64_t strips = ceil_div(a.inner, kStrip);
    const int64_t step = a.reverse ? -a.inner : a.inner;
    for (int64_t task = begin; task < end; ++task) {
        const int64_t first = task % strips * kStrip;
        int64_t at = task / strips * a.axis * a.inner + first;
        if (a.reverse) at += (a.axis - 1) * a.inner;
        accumulate<Rule>(x + at, y + at, a.axis, step, smaller(kStrip, a.inner - first),
                         a.exclusive != 0);
    }
}

}  // namespace

void cumulative(const CumulativeArgs& a, const Context& context, int64_t begin, int64_t end) {
    with_sums_of(a.type, [&]<class T>(T) {
        if (a.op == Binary::mul)
            accumulate_tasks<Multiply, T>(a, context, begin, end);
        else
            accumulate_tasks<Add, T>(a, context, begin, end);
    });
}

int64_t cumulative_tasks(const CumulativeArgs& a) { return a.outer * ceil_div(a.inner, kStrip); }

}  // namespace cnnrt::CNNRT_ISA
