// What every kernel source includes: the declarations of this tier's kernels, and the division of a
// two-dimensional task grid into rectangles.
#pragma once

#include "activation.h"
#include "args.h"

namespace cnnrt::CNNRT_ISA {

#define KERNEL(name, Args)                                                           \
    void name(const Args& args, const Context& context, int64_t begin, int64_t end); \
    int64_t name##_tasks(const Args& args);
#define KERNEL_WITH_SCRATCH(name, Args) \
    KERNEL(name, Args)                  \
    int64_t name##_scratch(const Args& args);
#include "kernels.def"

namespace {

CNNRT_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
template <class T>
CNNRT_INLINE T smaller(T a, T b) {
    return a < b ? a : b;
}
template <class T>
CNNRT_INLINE T larger(T a, T b) {
    return a > b ? a : b;
}

// Cuts the range [begin, end) of a grid with `inner` columns, numbered row by row, into at most
// three rectangles. Calls f(outer0, outer1, inner0, inner1) for each of them.
template <class F>
CNNRT_INLINE void for_each_rectangle(int64_t begin, int64_t end, int64_t inner, F f) {
    while (begin < end) {
        const int64_t row = begin / inner, column = begin % inner;
        if (column == 0 && end - begin >= inner) {
            const int64_t rows = (end - begin) / inner;
            f(row, row + rows, int64_t{0}, inner);
            begin += rows * inner;
        } else {
            const int64_t stop = smaller(inner, column + (end - begin));
            f(row, row + 1, column, stop);
            begin += stop - column;
        }
    }
}

// The same for a grid of rows x channels in the given order; f(row0, row1, channel0, channel1).
template <class F>
CNNRT_INLINE void for_each_rectangle(Order order, int64_t begin, int64_t end, int64_t rows,
                                     int64_t channels, F f) {
    if (order == Order::rows) {
        for_each_rectangle(begin, end, channels, f);
    } else {
        for_each_rectangle(begin, end, rows, [&](int64_t c0, int64_t c1, int64_t r0, int64_t r1) {
            f(r0, r1, c0, c1);
        });
    }
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
