// y[o, index[o, j, i], i] op= x[o, j, i], in the order of j. A task walks all of j for a strip of
// inner positions: sums are the same for any number of threads. If an index is out of range,
// nothing is written and the run fails.
#include "element.h"
#include "indexed.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kStrip = 16;  // inner positions of one task: a cache line of floats

// Each rule on 16 floats, and on elements of another type. Integers wrap, as unsigned ones do.
struct Replace {
    static CNNRT_INLINE f32x16 join(f32x16, f32x16 x) { return x; }
    template <class T>
    static CNNRT_INLINE T join(T, T x) {
        return x;
    }
};
struct Add {
    static CNNRT_INLINE f32x16 join(f32x16 y, f32x16 x) { return add(y, x); }
    template <class T>
    static CNNRT_INLINE T join(T y, T x) {
        return static_cast<T>(y + x);
    }
};
struct Multiply {
    static CNNRT_INLINE f32x16 join(f32x16 y, f32x16 x) { return mul(y, x); }
    static CNNRT_INLINE double join(double y, double x) { return y * x; }
    template <class T>
    static CNNRT_INLINE T join(T y, T x) {
        return static_cast<T>(y * decltype(T{} + 1u){x});
    }
};
// A NaN stays: min and max return their second operand where either is NaN.
struct Smaller {
    static CNNRT_INLINE f32x16 join(f32x16 y, f32x16 x) { return select(is_nan(x), x, min(x, y)); }
    template <class T>
    static CNNRT_INLINE T join(T y, T x) {
        return y < x || y != y ? y : x;
    }
};
struct Larger {
    static CNNRT_INLINE f32x16 join(f32x16 y, f32x16 x) { return max_or_nan(y, x); }
    template <class T>
    static CNNRT_INLINE T join(T y, T x) {
        return y > x || y != y ? y : x;
    }
};

template <class Rule>
CNNRT_INLINE void join_into(float* y, const float* x, int n) {
    store_partial(y, n, Rule::join(load_partial(y, n), load_partial(x, n)));
}
template <class Rule, class T>
CNNRT_INLINE void join_into(T* y, const T* x, int n) {
    for (int i = 0; i < n; ++i) y[i] = Rule::join(y[i], x[i]);
}

template <class Rule, class T>
void scatter_strips(const IndexedArgs& a, const Context& context, int64_t begin, int64_t end) {
    const Indices indices(a, context);
    const T* x = context.at<const T>(a.x);
    T* y = context.at<T>(a.y);
    const int64_t strips = ceil_div(a.inner, kStrip);
    for (int64_t task = begin; task < end; ++task) {
        const int64_t o = task / strips, first = task % strips * kStrip;
        const int64_t n = smaller(kStrip, a.inner - first);
        for (int64_t j = 0; j < a.count; ++j) {
            const T* from = x + (o * a.count + j) * a.inner + first;
            T* to = y + o * a.axis * a.inner + first;
            if (a.index_inner == 0) {
                const int64_t place = indices.at(o, j, 0);
                if (place >= 0) join_into<Rule>(to + place * a.inner, from, static_cast<int>(n));
                continue;
            }
            for (int64_t i = 0; i < n; ++i) {
                const int64_t place = indices.at(o, j, first + i);
                if (place >= 0) join_into<Rule>(to + place * a.inner + i, from + i, 1);
            }
        }
    }
}

}  // namespace

void scatter(const IndexedArgs& a, const Context& context, int64_t begin, int64_t end) {
    switch (a.op) {
        case Binary::add:
            return with_sums_of(
                a.type, [&]<class T>(T) { scatter_strips<Add, T>(a, context, begin, end); });
        case Binary::mul:
            return with_sums_of(
                a.type, [&]<class T>(T) { scatter_strips<Multiply, T>(a, context, begin, end); });
        case Binary::min:
            return with_order_of(
                a.type, [&]<class T>(T) { scatter_strips<Smaller, T>(a, context, begin, end); });
        case Binary::max:
            return with_order_of(
                a.type, [&]<class T>(T) { scatter_strips<Larger, T>(a, context, begin, end); });
        default:
            return with_element(
                a.element, [&]<class T>(T) { scatter_strips<Replace, T>(a, context, begin, end); });
    }
}

int64_t scatter_tasks(const IndexedArgs& a) { return a.outer * ceil_div(a.inner, kStrip); }

}  // namespace cnnrt::CNNRT_ISA
