// Reduction over the middle axis of plain [outer, axis, inner].
//
// inner == 1: vectors along the axis, several side by side, then over their lanes. Short axes: 16
// rows at once, whose last step is one transposition. inner > 1: row after row is reduced into a
// strip of inner positions that L1 holds. A narrow strip of a large tensor would read one line of
// each page. The order of a sum depends on the shape alone. A NaN makes the maximum and the minimum
// NaN, as in NumPy.
#include "reduce.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int kSide = 4;  // results side by side: each waits for its last operation

struct Sum {
    static f32x16 start() { return zero(); }
    static f32x16 step(f32x16 r, f32x16 x) { return add(r, x); }
    static f32x16 join(f32x16 a, f32x16 b) { return add(a, b); }
};
struct SumOfAbsolutes : Sum {
    static f32x16 step(f32x16 r, f32x16 x) { return add(r, abs(x)); }
};
struct SumOfSquares : Sum {
    static f32x16 step(f32x16 r, f32x16 x) { return fma(x, x, r); }
};
struct Product {
    static f32x16 start() { return broadcast(1.0f); }
    static f32x16 step(f32x16 r, f32x16 x) { return mul(r, x); }
    static f32x16 join(f32x16 a, f32x16 b) { return mul(a, b); }
};
struct Largest {
    static f32x16 start() { return broadcast(-__builtin_inff()); }
    // max and min return their second operand where either is NaN: r stays NaN once it is.
    static f32x16 step(f32x16 r, f32x16 x) { return max_or_nan(r, x); }
    static f32x16 join(f32x16 a, f32x16 b) { return step(a, b); }
};
struct Smallest {
    static f32x16 start() { return broadcast(__builtin_inff()); }
    static f32x16 step(f32x16 r, f32x16 x) { return select(is_nan(x), x, min(x, r)); }
    static f32x16 join(f32x16 a, f32x16 b) { return step(a, b); }
};

// Calls f with the rule of this reduction.
template <class F>
CNNRT_INLINE void with_rule(Reduction op, F f) {
    switch (op) {
        case Reduction::sum:
        case Reduction::mean:
            return f(Sum{});
        case Reduction::max:
            return f(Largest{});
        case Reduction::min:
            return f(Smallest{});
        case Reduction::prod:
            return f(Product{});
        case Reduction::l1:
            return f(SumOfAbsolutes{});
        case Reduction::l2:
        case Reduction::sum_square:
            return f(SumOfSquares{});
    }
}

CNNRT_INLINE f32x16 finish(const ReduceArgs& a, f32x16 r) {
    if (a.op == Reduction::mean) return div(r, broadcast(static_cast<float>(a.axis)));
    return a.op == Reduction::l2 ? sqrt(r) : r;
}

// The 16 lanes of r, reduced pairwise.
template <class Rule>
CNNRT_INLINE f32x16 across(f32x16 r) {
    float lanes[32];
    for (int n = 8; n >= 1; n /= 2) {
        store(lanes, r);
        store(lanes + 16, r);
        r = Rule::join(r, load(lanes + n));
    }
    return r;
}

// A mask of the first n lanes.
CNNRT_INLINE mask16 first_of(int n) {
    static constexpr float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return less(load(kLane), broadcast(static_cast<float>(n)));
}

// One row of n contiguous floats.
template <class Rule>
CNNRT_INLINE f32x16 reduce_row(const float* x, int64_t n) {
    f32x16 r[kSide];
#pragma GCC unroll 4
    for (int j = 0; j < kSide; ++j) r[j] = Rule::start();
    int64_t i = 0;
    for (; i + 16 * kSide <= n; i += 16 * kSide) {
#pragma GCC unroll 4
        for (int j = 0; j < kSide; ++j) r[j] = Rule::step(r[j], load(x + i + 16 * j));
    }
    for (; i + 16 <= n; i += 16) r[0] = Rule::step(r[0], load(x + i));
    if (i < n) {
        const int rest = static_cast<int>(n - i);
        r[1] = select(first_of(rest), Rule::step(r[1], load_partial(x + i, rest)), r[1]);
    }
    return across<Rule>(Rule::join(Rule::join(r[0], r[1]), Rule::join(r[2], r[3])));
}

// y[i] = the reduction of row i of `rows`, at most 16. Missing rows repeat the last one: the order
// of a sum is the same for any number.
template <class Rule>
void reduce_rows(const ReduceArgs& a, const float* x, float* y, int rows) {
    const float* row[16];
    f32x16 r[16];
#pragma GCC unroll 16
    for (int m = 0; m < 16; ++m) {
        row[m] = x + smaller(m, rows - 1) * a.axis;
        r[m] = Rule::start();
    }
    int64_t i = 0;
    for (; i + 16 <= a.axis; i += 16) {
#pragma GCC unroll 16
        for (int m = 0; m < 16; ++m) r[m] = Rule::step(r[m], load(row[m] + i));
    }
    if (i < a.axis) {
        const int rest = static_cast<int>(a.axis - i);
        const mask16 inside = first_of(rest);
#pragma GCC unroll 16
        for (int m = 0; m < 16; ++m)
            r[m] = select(inside, Rule::step(r[m], load_partial(row[m] + i, rest)), r[m]);
    }
    transpose(r);
#pragma GCC unroll 4
    for (int n = 8; n >= 1; n /= 2) {
#pragma GCC unroll 8
        for (int m = 0; m < n; ++m) r[m] = Rule::join(r[m], r[m + n]);
    }
    store_partial(y, rows, finish(a, r[0]));
}

// y[i] = the reduction of column i of `columns`, `inner` floats from row to row.
template <class Rule>
void reduce_columns(const ReduceArgs& a, const float* x, float* y, int64_t columns) {
    const int64_t whole = columns / 16 * 16;
    const int rest = static_cast<int>(columns - whole);
    float strip[kStrip];
    for (int64_t j = 0; j < columns; j += 16) store(strip + j, Rule::start());
    for (int64_t i = 0; i < a.axis; ++i, x += a.inner) {
        for (int64_t j = 0; j < whole; j += 16)
            store(strip + j, Rule::step(load(strip + j), load(x + j)));
        if (rest)
            store(strip + whole, Rule::step(load(strip + whole), load_partial(x + whole, rest)));
    }
    for (int64_t j = 0; j < whole; j += 16) store(y + j, finish(a, load(strip + j)));
    if (rest) store_partial(y + whole, rest, finish(a, load(strip + whole)));
}

}  // namespace

void reduce(const ReduceArgs& args, const Context& context, int64_t begin, int64_t end) {
    if (args.type != DType::float32) return reduce_elements(args, context, begin, end);
    const float* x = context.at(args.x);
    float* y = context.at(args.y);
    const int64_t first = begin * units_per_task(args);
    const int64_t stop = smaller(units(args), end * units_per_task(args));
    with_rule(args.op, [&](auto rule) {
        using Rule = decltype(rule);
        for (int64_t unit = first; unit < stop; ++unit) {
            if (by_sixteens(args)) {
                const int64_t row = unit * 16;
                const int rows = static_cast<int>(smaller<int64_t>(16, args.outer - row));
                reduce_rows<Rule>(args, x + row * args.axis, y + row, rows);
                continue;
            }
            const int64_t outer = unit / per_outer(args), i = unit % per_outer(args) * kStrip;
            const float* from = x + outer * args.axis * args.inner + i;
            float* to = y + outer * args.inner + i;
            if (args.inner == 1)
                store_partial(to, 1, finish(args, reduce_row<Rule>(from, args.axis)));
            else
                reduce_columns<Rule>(args, from, to, smaller(kStrip, args.inner - i));
        }
    });
}

int64_t reduce_tasks(const ReduceArgs& args) { return ceil_div(units(args), units_per_task(args)); }

}  // namespace cnnrt::CNNRT_ISA
