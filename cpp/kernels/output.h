// Output policies: how the sums of a register tile are finished and stored.
//
// A policy is a struct whose fields the kernel sets, with
//
//   In, Weight         the element types of the products, for which Dot is specialised
//   Out                the element type of y and of a residual
//   y, y_row, y_block, y_split, residual     where the tile is
//   unit()             elements of Out in a stored result, which strides of y count
//   begin_block(b)     tells it the first block of the tile
//   prefetch<...>()    brings the lines of y near
//   store<...>(sums)   the epilogue
//
// Integer sums have a policy of their own, in output_u8.h.
#pragma once

#include "activation.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// The distance of row m of a tile from row 0. Rows from SPLIT on are `split` away, if not 0.
template <int SPLIT>
CNNRT_INLINE int64_t row(int m, int64_t step, int64_t split) {
    return SPLIT && m >= SPLIT ? split + (m - SPLIT) * step : m * step;
}

// Float sums: y = activation(sum + residual).
struct FloatOutput {
    using In = float;
    using Weight = float;
    using Out = float;

    const float* residual;  // or null
    int64_t residual_row, residual_block, residual_split;
    float* y;
    int64_t y_row, y_block, y_split;
    int lanes;  // of the last block that are stored: 16, or the rest of a plain row
    Epilogue epilogue;

    static CNNRT_INLINE int64_t unit() { return 1; }
    CNNRT_INLINE void begin_block(int64_t) {}

    template <int ROWS, int BLOCKS, int SPLIT>
    CNNRT_INLINE void prefetch() const {
#pragma GCC unroll 32
        for (int m = 0; m < ROWS; ++m) {
            const float* p = y + row<SPLIT>(m, y_row, y_split);
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o) __builtin_prefetch(p + o * y_block, 1, 3);
        }
    }

    template <int SPLIT, bool PARTIAL, int ROWS, int BLOCKS>
    CNNRT_INLINE void finish(f32x16 (&acc)[ROWS][BLOCKS]) const {
        const int last_lanes = PARTIAL ? lanes : 16;
        if (residual) {
#pragma GCC unroll 32
            for (int m = 0; m < ROWS; ++m) {
                const float* r = residual + row<SPLIT>(m, residual_row, residual_split);
#pragma GCC unroll 4
                for (int o = 0; o < BLOCKS; ++o) {
                    const bool whole = !PARTIAL || o + 1 < BLOCKS || last_lanes == 16;
                    const float* p = r + o * residual_block;
                    acc[m][o] = add(acc[m][o], whole ? load(p) : load_partial(p, last_lanes));
                }
            }
        }
        const auto store_all = [&](auto f) __attribute__((always_inline)) {
#pragma GCC unroll 32
            for (int m = 0; m < ROWS; ++m) {
                float* p = y + row<SPLIT>(m, y_row, y_split);
#pragma GCC unroll 4
                for (int o = 0; o < BLOCKS; ++o) {
                    const bool whole = !PARTIAL || o + 1 < BLOCKS || last_lanes == 16;
                    if (whole)
                        store(p + o * y_block, f(acc[m][o]));
                    else
                        store_partial(p + o * y_block, last_lanes, f(acc[m][o]));
                }
            }
        };
        if (epilogue.activation == Activation::relu) {
            const f32x16 z = zero();
            store_all([=](f32x16 x) { return max(z, x); });
        } else if (epilogue.activation == Activation::clip) {
            const f32x16 low = broadcast(epilogue.alpha), high = broadcast(epilogue.beta);
            store_all([=](f32x16 x) { return min(high, max(low, x)); });
        } else {
            store_all([](f32x16 x) { return x; });
            if (epilogue.activation == Activation::none) return;
            // The others are too long to unroll over the tile: they run over the stored results.
            if (PARTIAL || y_row != 16) {
                for (int m = 0; m < ROWS; ++m)
                    for (int o = 0; o < BLOCKS; ++o)
                        activate(epilogue, y + row<SPLIT>(m, y_row, y_split) + o * y_block,
                                 o + 1 < BLOCKS ? 16 : last_lanes);
            } else {
                constexpr int kFirst = SPLIT ? SPLIT : ROWS;
                for (int o = 0; o < BLOCKS; ++o) {
                    float* p = y + o * y_block;
                    activate(epilogue, p, kFirst * 16);
                    if (SPLIT) activate(epilogue, p + y_split, (ROWS - kFirst) * 16);
                }
            }
        }
    }
};

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
