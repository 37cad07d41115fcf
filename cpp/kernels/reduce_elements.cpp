// Reductions of doubles, by vectors of them, and of integers, by loops of which the compiler makes
// vectors. A row is reduced at once, and rows of several inner positions into a strip of results.
#include "../simd/double.h"
#include "../simd/lanes.h"
#include "element.h"
#include "reduce.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int kSide = 4;  // vectors of results side by side: each waits for its last operation

template <class T>
constexpr bool kReal = T(1) / T(2) != 0;
template <class T>
constexpr bool kSigned = T(-1) < T(0);

// The types in which results gather. Sums and products of integers wrap, as unsigned ones do.
template <class T>
using Gathered = Select<kReal<T>, double, Select<sizeof(T) == 8, uint64_t, uint32_t>>;
// Those of a mean: doubles where 64 bits might not hold the sum.
template <class T>
using Total = Select<kReal<T> || sizeof(T) == 8, double, Select<kSigned<T>, int64_t, uint64_t>>;

// Rules: of numbers, and of vectors of doubles.
struct Sum {
    template <class R>
    static constexpr R kStart = 0;
    template <class R, class X>
    static CNNRT_INLINE R step(R r, X x) {
        return r + R(x);
    }
    template <class R>
    static CNNRT_INLINE R join(R a, R b) {
        return a + b;
    }
};
struct SumOfAbsolutes : Sum {
    template <class R, class X>
    static CNNRT_INLINE R step(R r, X x) {
        return x < X{} ? r - R(x) : r + R(x);
    }
};
struct SumOfSquares : Sum {
    template <class R, class X>
    static CNNRT_INLINE R step(R r, X x) {
        return r + R(x) * R(x);
    }
};
struct Product {
    template <class R>
    static constexpr R kStart = 1;
    template <class R, class X>
    static CNNRT_INLINE R step(R r, X x) {
        return r * R(x);
    }
    template <class R>
    static CNNRT_INLINE R join(R a, R b) {
        return a * b;
    }
};

template <class T>
constexpr T least() {
    if constexpr (kReal<T>)
        return -__builtin_inf();
    else
        return kSigned<T> ? static_cast<T>(uint64_t{1} << (8 * sizeof(T) - 1)) : T(0);
}
template <class T>
constexpr T greatest() {
    if constexpr (kReal<T>)
        return __builtin_inf();
    else
        return static_cast<T>(~least<T>());
}
// Extrema: NaN wins. `better` is false for it.
template <class Rule>
struct Extremum {
    template <class R>
    static CNNRT_INLINE R step(R r, R x) {
        return (Rule::better(x, r) | (x != x)) ? x : r;
    }
    template <class R>
    static CNNRT_INLINE R join(R a, R b) {
        return step(a, b);
    }
};
struct Largest : Extremum<Largest> {
    template <class R>
    static constexpr R kStart = least<R>();
    template <class V>
    static CNNRT_INLINE auto better(V x, V r) {
        return x > r;
    }
};
struct Smallest : Extremum<Smallest> {
    template <class R>
    static constexpr R kStart = greatest<R>();
    template <class V>
    static CNNRT_INLINE auto better(V x, V r) {
        return x < r;
    }
};
template <class Rule>
constexpr bool kExtremum = false;
template <>
constexpr bool kExtremum<Largest> = true;
template <>
constexpr bool kExtremum<Smallest> = true;

// Calls f with a rule and with a zero of the type in which its results gather.
template <class T, class F>
CNNRT_INLINE void with_rule(Reduction op, F f) {
    switch (op) {
        case Reduction::sum:
            return f(Sum{}, Gathered<T>{});
        case Reduction::mean:
            return f(Sum{}, Total<T>{});
        case Reduction::max:
            return f(Largest{}, T{});
        case Reduction::min:
            return f(Smallest{}, T{});
        case Reduction::prod:
            return f(Product{}, Gathered<T>{});
        case Reduction::l1:
            return f(SumOfAbsolutes{}, Gathered<T>{});
        case Reduction::l2:
        case Reduction::sum_square:
            return f(SumOfSquares{}, Gathered<T>{});
    }
}

template <class T, class R>
CNNRT_INLINE T finish(const ReduceArgs& a, R r) {
    if (a.op == Reduction::mean) {
        const double mean = static_cast<double>(r) / static_cast<double>(a.axis);
        // The mean of the largest numbers of 64 bits may be rounded up to one more.
        if constexpr (!kReal<T>)
            if (mean >= static_cast<double>(greatest<T>())) return greatest<T>();
        return static_cast<T>(mean);
    }
    if constexpr (kReal<T>) return a.op == Reduction::l2 ? __builtin_sqrt(r) : r;
    return static_cast<T>(r);
}

// Up to kShort elements, and at least a vector of them: the last vector may overlap that before it.
template <class Rule, class T>
CNNRT_INLINE T short_extremum(const T* x, int64_t n) {
    constexpr int64_t kLanes = 16 / sizeof(T);
    x16<T> r = load16(x);
    for (int64_t i = kLanes; i < n; i += kLanes)
        r = Rule::step(r, load16(x + smaller(i, n - kLanes)));
    return join_lanes<T>(r, [](x16<T> a, x16<T> b) { return Rule::join(a, b); });
}

template <class Rule, class R, class T>
CNNRT_INLINE R reduce_row(const T* x, int64_t n) {
    if constexpr (kExtremum<Rule> && sizeof(T) <= 2)
        if (n <= kShort && n >= int64_t{16 / sizeof(T)}) return short_extremum<Rule>(x, n);
    R r = Rule::template kStart<R>;
    for (int64_t i = 0; i < n; ++i) r = Rule::step(r, x[i]);
    return r;
}

// f(r[j], x + i) for vectors of x and kSide registers in turn; returns the first element left.
template <class F>
CNNRT_INLINE int64_t over_vectors(const double* x, int64_t n, f64xN* r, F f) {
    int64_t i = 0;
    for (; i + kDoubles * kSide <= n; i += kDoubles * kSide) {
#pragma GCC unroll 4
        for (int j = 0; j < kSide; ++j) f(r[j], load(x + i + kDoubles * j));
    }
#pragma GCC unroll 4
    for (int j = 0; j < kSide - 1; ++j) {
        if (i + kDoubles > n) break;
        f(r[j], load(x + i));
        i += kDoubles;
    }
    return i;
}

template <class Rule, class R>
CNNRT_INLINE double reduce_row(const double* x, int64_t n) {
    f64xN r[kSide];
#pragma GCC unroll 4
    for (int j = 0; j < kSide; ++j) r[j] = broadcast(Rule::template kStart<double>);
    int64_t i;
    if constexpr (kExtremum<Rule>) {
        // A comparison and a selection are one instruction; what is no number is noted beside it.
        auto nan = r[0] != r[0];
        i = over_vectors(x, n, r, [&](f64xN& best, f64xN v) {
            best = Rule::better(v, best) ? v : best;
            nan |= v != v;
        });
        r[0] = nan ? broadcast(__builtin_nan("")) : r[0];
    } else {
        i = over_vectors(x, n, r, [](f64xN& sum, f64xN v) { sum = Rule::step(sum, v); });
    }
    double lanes[kDoubles];
    store(lanes, Rule::join(Rule::join(r[0], r[1]), Rule::join(r[2], r[3])));
    double result = lanes[0];
#pragma GCC unroll 8
    for (int j = 1; j < kDoubles; ++j) result = Rule::join(result, lanes[j]);
    for (; i < n; ++i) result = Rule::step(result, x[i]);
    return result;
}

// y[i] = the reduction of column i of `columns`, `inner` elements from row to row.
template <class Rule, class R, class T>
CNNRT_INLINE void reduce_columns(const ReduceArgs& a, const T* x, T* y, int64_t columns) {
    R strip[kStrip];
    for (int64_t j = 0; j < columns; ++j) strip[j] = Rule::template kStart<R>;
    for (int64_t i = 0; i < a.axis; ++i, x += a.inner)
        for (int64_t j = 0; j < columns; ++j) strip[j] = Rule::step(strip[j], x[j]);
    for (int64_t j = 0; j < columns; ++j) y[j] = finish<T>(a, strip[j]);
}

template <class Rule, class R, class T>
__attribute__((noinline)) void reduce_units(const ReduceArgs& a, const T* x, T* y, int64_t begin,
                                            int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t outer = unit / per_outer(a), i = unit % per_outer(a) * kStrip;
        const T* from = x + outer * a.axis * a.inner + i;
        T* to = y + outer * a.inner + i;
        if (a.inner == 1)
            *to = finish<T>(a, reduce_row<Rule, R>(from, a.axis));
        else
            reduce_columns<Rule, R>(a, from, to, smaller(kStrip, a.inner - i));
    }
}

}  // namespace

void reduce_elements(const ReduceArgs& args, const Context& context, int64_t begin, int64_t end) {
    const int64_t first = begin * units_per_task(args);
    const int64_t stop = smaller(units(args), end * units_per_task(args));
    with_order_of(args.type, [&]<class T>(T) {
        if constexpr (!kReal<T> || sizeof(T) == 8) {
            with_rule<T>(args.op, [&]<class Rule, class R>(Rule, R) {
                reduce_units<Rule, R>(args, context.at<const T>(args.x), context.at<T>(args.y),
                                      first, stop);
            });
        }
    });
}

}  // namespace cnnrt::CNNRT_ISA
