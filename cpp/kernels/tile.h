// The register tile, the only matrix multiplication of the project: ROWS pixels x BLOCKS blocks of
// 16 channels, accumulated in registers over a list of taps, then bias, residual, activation,
// store.
//
//   y[m][o] = activation(bias[o] + residual[m][o] + sum over taps i, depth k
//                        a[offsets[i] + m * step + k] * b[o][i][k])
//
// Each k-step loads BLOCKS vectors of weights and broadcasts ROWS floats for ROWS * BLOCKS
// multiply-adds: on AVX-512, 14 x 2 needs 16 loads for 28, in 14 cycles. The sum of one output runs
// over taps and depth in the same order whatever the tile's shape and place: results do not depend
// on how rows are cut into tiles, threads or batches.
#pragma once

#include "activation.h"

namespace cnnrt::CNNRT_ISA {
namespace {

struct Tile {
    const float* a;                   // row 0, tap offset 0
    int64_t a_step;                   // floats between rows, where STEP is 0
    const int32_t* offsets;           // per tap
    int taps, last_taps, last_depth;  // `taps` of depth 16, then `last_taps` of depth `last_depth`
    const float* b;
    int64_t b_block;  // floats between the weights of two blocks
    const float* bias;
    const float* residual;  // or null
    int64_t residual_row, residual_block;
    float* y;
    int64_t y_row, y_block;
    int lanes;  // of the last block that are stored: 16, or the rest of a plain row
    int64_t a_split, y_split, residual_split;  // SPLIT: from row 0 to row SPLIT
    // Row 0, tap offset 0 of the next tile, or null. If not, the lines of each tap are asked for
    // while the one before is worked on, and those of the output at the start: where steps are
    // shared between threads, other cores have some of them, and no prefetcher of the machine
    // follows the order of a tile, some lines here and some there.
    const float* next_a;
    // Weights that the next tiles will read, brought to L2 meanwhile: lines per block and tap.
    const float* next;
    int next_lines;
    Epilogue epilogue;
};

// Where row m of a tile is, from row 0.
template <int SPLIT>
CNNRT_INLINE int64_t row(int m, int64_t step, int64_t split) {
    return SPLIT && m >= SPLIT ? split + (m - SPLIT) * step : m * step;
}

// Whether rows are that near to each other in plain images only, in which all taps have a depth of
// 1, and of which nothing is asked for ahead.
constexpr bool plain(int step) { return step > 0 && step < 16; }

// Adds `taps` taps; `after` is where those that follow begin.
template <int ROWS, int BLOCKS, int STEP, int SPLIT>
CNNRT_INLINE void accumulate(f32x16 (&acc)[ROWS][BLOCKS], const Tile& t, const int32_t* offsets,
                             int taps, int depth, const float* after, const float*& b,
                             const float*& next) {
    const int64_t b_block = t.b_block, step = STEP ? STEP : t.a_step;
    constexpr bool kPlain = plain(STEP);
    const int lines = kPlain ? 0 : t.next_lines;
    const bool ask = !kPlain && t.next_a;
    for (int i = 0; i < taps; ++i) {
        const float* a = t.a + offsets[i];
        [[maybe_unused]] const float* a2 = SPLIT ? a + t.a_split : a;
        for (int j = 0; j < lines; ++j, next += 16) {
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o) __builtin_prefetch(next + o * b_block, 0, 2);
        }
        if (ask) {
            const float* p = i + 1 < taps ? t.a + offsets[i + 1] : after;
#pragma GCC unroll 32
            for (int m = 0; m < ROWS; ++m)
                __builtin_prefetch(p + row<SPLIT>(m, step, t.a_split), 0, 3);
        }
        // Step k from here on.
        const auto multiply = [&](int k) __attribute__((always_inline)) {
            f32x16 w[BLOCKS];
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o) w[o] = load(b + o * b_block + k * 16);
#pragma GCC unroll 32
            for (int m = 0; m < ROWS; ++m) {
                const f32x16 x =
                    broadcast(SPLIT && m >= SPLIT ? a2[(m - SPLIT) * step + k] : a[m * step + k]);
#pragma GCC unroll 4
                for (int o = 0; o < BLOCKS; ++o) add_product(acc[m][o], x, w[o]);
            }
        };
        int k = 0;
#pragma GCC unroll 1
        for (; k + kTileSteps <= depth; k += kTileSteps) {
#pragma GCC unroll 4
            for (int j = 0; j < kTileSteps; ++j) multiply(j);
            a += kTileSteps, b += kTileSteps * 16;
            if constexpr (SPLIT != 0) a2 += kTileSteps;
        }
        if constexpr (kTileSteps > 1) {
#pragma GCC unroll 1
            for (; k < depth; ++k, ++a, b += 16) multiply(0);
        }
    }
}

// One step of one tap of a convolution in groups of GROUP channels, and the steps after it: output
// lane l sees channel K of the group that it is in.
template <int ROWS, int STEP, int GROUP, int K>
CNNRT_INLINE void accumulate_groups(f32x16 (&acc)[ROWS][1], const float* a, int64_t step,
                                    const float* b) {
    const f32x16 w = load(b + K * 16);
#pragma GCC unroll 32
    for (int m = 0; m < ROWS; ++m)
        acc[m][0] = fma(spread<GROUP, K>(a + m * (STEP ? STEP : step)), w, acc[m][0]);
    if constexpr (K + 1 < GROUP) accumulate_groups<ROWS, STEP, GROUP, K + 1>(acc, a, step, b);
}

template <int ROWS, int BLOCKS, int STEP, int SPLIT, bool PARTIAL, int GROUP = 0>
__attribute__((noinline)) void tile(const Tile& t) {
    f32x16 acc[ROWS][BLOCKS];
#pragma GCC unroll 4
    for (int o = 0; o < BLOCKS; ++o) {
        const f32x16 bias = load(t.bias + o * 16);
#pragma GCC unroll 32
        for (int m = 0; m < ROWS; ++m) acc[m][o] = bias;
    }
    const float *b = t.b, *next = t.next;
    if (t.next_a) {
#pragma GCC unroll 32
        for (int m = 0; m < ROWS; ++m) {
            const float* y = t.y + row<SPLIT>(m, t.y_row, t.y_split);
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o) __builtin_prefetch(y + o * t.y_block, 1, 3);
        }
    }
    if constexpr (GROUP != 0) {
        for (int i = 0; i < t.last_taps; ++i, b += GROUP * 16)
            accumulate_groups<ROWS, STEP, GROUP, 0>(acc, t.a + t.offsets[i], t.a_step, b);
    } else {
        constexpr bool kPlain = plain(STEP);
        const int32_t* last = t.offsets + t.taps;
        if constexpr (!kPlain)
            accumulate<ROWS, BLOCKS, STEP, SPLIT>(acc, t, t.offsets, t.taps, 16,
                                                  t.last_taps ? t.a + *last : t.next_a, b, next);
        accumulate<ROWS, BLOCKS, STEP, SPLIT>(acc, t, last, t.last_taps, kPlain ? 1 : t.last_depth,
                                              t.next_a, b, next);
    }

    const int lanes = PARTIAL ? t.lanes : 16;
    if (t.residual) {
#pragma GCC unroll 32
        for (int m = 0; m < ROWS; ++m) {
            const float* r = t.residual + row<SPLIT>(m, t.residual_row, t.residual_split);
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o) {
                const bool whole = !PARTIAL || o + 1 < BLOCKS || lanes == 16;
                const float* p = r + o * t.residual_block;
                acc[m][o] = add(acc[m][o], whole ? load(p) : load_partial(p, lanes));
            }
        }
    }
    const auto store_all = [&](auto f) __attribute__((always_inline)) {
#pragma GCC unroll 32
        for (int m = 0; m < ROWS; ++m) {
            float* y = t.y + row<SPLIT>(m, t.y_row, t.y_split);
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o) {
                const bool whole = !PARTIAL || o + 1 < BLOCKS || lanes == 16;
                if (whole)
                    store(y + o * t.y_block, f(acc[m][o]));
                else
                    store_partial(y + o * t.y_block, lanes, f(acc[m][o]));
            }
        }
    };
    if (t.epilogue.activation == Activation::relu) {
        const f32x16 z = zero();
        store_all([=](f32x16 x) { return max(z, x); });
    } else if (t.epilogue.activation == Activation::clip) {
        const f32x16 low = broadcast(t.epilogue.alpha), high = broadcast(t.epilogue.beta);
        store_all([=](f32x16 x) { return min(high, max(low, x)); });
    } else {
        store_all([](f32x16 x) { return x; });
        if (t.epilogue.activation == Activation::none) return;
        // The others are too long to unroll over the tile: they run over what was just stored.
        if (PARTIAL || t.y_row != 16) {
            for (int m = 0; m < ROWS; ++m)
                for (int o = 0; o < BLOCKS; ++o)
                    activate(t.epilogue, t.y + row<SPLIT>(m, t.y_row, t.y_split) + o * t.y_block,
                             o + 1 < BLOCKS ? 16 : lanes);
        } else {
            constexpr int kFirst = SPLIT ? SPLIT : ROWS;
            for (int o = 0; o < BLOCKS; ++o) {
                float* y = t.y + o * t.y_block;
                activate(t.epilogue, y, kFirst * 16);
                if (SPLIT) activate(t.epilogue, y + t.y_split, (ROWS - kFirst) * 16);
            }
        }
    }
}

using TileFunction = void (*)(const Tile&);

// Tiles of 1 to ROWS rows, as a table.
template <int ROWS, int BLOCKS, int STEP, bool PARTIAL, int GROUP = 0>
struct TileTable {
    TileFunction of_rows[ROWS + 1];
    constexpr TileTable() : of_rows{} { fill<ROWS>(); }

private:
    template <int R>
    constexpr void fill() {
        if constexpr (R > 0) {
            of_rows[R] = tile<R, BLOCKS, STEP, 0, PARTIAL, GROUP>;
            fill<R - 1>();
        }
    }
};

// How many panels of weights, of so many bytes each, go through each tile of rows one after the
// other. Where a tile is one block wide, the rows would come from memory for every 16 outputs; so
// up to four panels together, in half of an L2 of 512 KB, meet the rows while these are in L1. Not
// panels that would otherwise stay in L1 themselves. On Zen 3 with AVX2 that makes a 1x1
// convolution of 512 > 256 channels of 28 x 28 1.6 times as fast, 1024 > 256 of 14 x 14 1.25 times;
// of 64 channels it would cost 5 %, with no limit of four 30 %.
CNNRT_INLINE int64_t panels_together(int64_t bytes) {
    constexpr int64_t kMost = 4, kLeast = 16 * 1024, kFitting = 256 * 1024;
    if (kTileBlocks > 1 || bytes < kLeast) return 1;
    return bytes * kMost <= kFitting ? kMost : bytes < kFitting ? kFitting / bytes : 1;
}

// Cuts `count` rows into the fewest tiles of at most `most` rows, of nearly equal height, and calls
// f(first, rows): tall tiles load the fewest weights per multiply-add, and two of 8 beat 14 + 2.
template <class F>
CNNRT_INLINE void for_each_tile(int64_t count, int most, F f) {
    const int64_t tiles = (count + most - 1) / most;
    int64_t first = 0;
    for (int64_t i = 0; i < tiles; ++i) {
        const int64_t stop = count * (i + 1) / tiles;
        f(first, static_cast<int>(stop - first));
        first = stop;
    }
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
