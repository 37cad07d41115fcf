// The register tile, the only matrix multiplication of the project. ROWS pixels x BLOCKS blocks of
// 16 channels are accumulated in registers over a list of taps, then handed to an output policy.
//
//   sum[m][o] = bias[o] + sum over taps i, depth k  a[offsets[i] + m * step + k] * b[o][i][k]
//
// The output policy gives the types (output.h), and Dot the products (dot.h). Each step of depth
// loads BLOCKS vectors of weights and broadcasts ROWS inputs for ROWS * BLOCKS multiply-adds. On
// AVX-512, 14 x 2 needs 16 loads for 28, in 14 cycles. An output's sum runs over taps and depth in
// the same order in every tile. So results do not depend on how rows are cut into tiles, threads or
// batches.
#pragma once

#include "dot.h"
#include "output.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kLine = 64;  // bytes of a cache line

// Steps between the prefetch of a weight to L1 and its use. A panel larger than L1 comes from L2 at
// best, and that much only if it was prefetched there. On a Zen 4, 16 tiles of 512 channels by F(2
// x 2, 3 x 3) take 1.30 ms instead of 1.55. ResNet-18 takes 16.9 ms instead of 18.5. 24 to 48 steps
// are alike, 8 and 16 gain less. A row of a plain matrix (STEP 0) is bounded by memory, which so
// many requests slow down: a layer of 0.15 ms took 0.20. Tiles of one block find their panels in
// L1. With AVX2, ViT-B/16 would take 3 % longer.
constexpr int kNearSteps = 32;

template <class Output>
struct Tile : Output {
    using In = typename Output::In;
    using Weight = typename Output::Weight;
    using Products = Dot<In, Weight>;
    static constexpr TileShape kShape = kTileShape<In, Weight>;
    static_assert(kShape.rows > 0, "tile_shape.h lists no such types for this tier");
    // Elements of b in a step of one block, and in a line.
    static constexpr int64_t kStepWeights = 16 * Products::kDepth;
    static constexpr int64_t kLineWeights = kLine / int64_t{sizeof(Weight)};
    static_assert(kStepWeights <= kLineWeights);

    const In* a;             // row 0, tap offset 0
    int64_t a_step;          // elements between rows, if STEP is 0
    int64_t a_split;         // SPLIT: from row 0 to row SPLIT
    const int32_t* offsets;  // per tap
    int taps, last_taps;     // `taps` of 16 channels, then `last_taps` ...
    int last_steps;          // ... of so many steps of Products::kDepth channels
    // If taps are left out: the place of each among those of its kind, whose weights stay. Those of
    // `last_taps` begin at `last_weights`.
    const int32_t* places = nullptr;
    int64_t last_weights = 0;
    const Weight* b;
    int64_t b_block;  // elements between the weights of two blocks
    const typename Products::Bias* bias;
    // Row 0, tap offset 0 of the next tile; null to prefetch nothing. The lines of each tap are
    // prefetched during the tap before, and those of the output at the start. Threads that share a
    // step have some of its lines in other cores' caches. No hardware prefetcher follows the order
    // in which a tile reads.
    const In* next_a;
    // Weights of the next tiles, prefetched to L2 meanwhile: `next_lines` lines per block and tap.
    const Weight* next;
    int next_lines;
};

// True for row steps below 16 elements: a plain image, one step per tap, no prefetch.
constexpr bool plain(int step) { return step > 0 && step < 16; }

// Adds `taps` taps of `steps` steps at their `places`, or one after the other if that is null. The
// taps after them begin at `after`.
template <int BLOCKS, int STEP, int SPLIT, bool HALF, int ROWS, class T>
CNNRT_INLINE void accumulate(typename T::Products::Sum (&acc)[ROWS][BLOCKS], const T& t,
                             const int32_t* offsets, const int32_t* places, int taps, int steps,
                             const typename T::In* after, const typename T::Weight*& b,
                             const typename T::Weight*& next) {
    using Products = typename T::Products;
    constexpr int kDepth = Products::kDepth, kSteps = T::kShape.steps;
    constexpr int64_t kStepWeights = T::kStepWeights;
    const int64_t b_block = t.b_block, step = STEP ? STEP : t.a_step;
    constexpr bool kPlain = plain(STEP);
    const int lines = kPlain ? 0 : t.next_lines;
    const bool ahead = !kPlain && t.next_a;
    [[maybe_unused]] const typename T::Weight* const first = b;
    for (int i = 0; i < taps; ++i) {
        if constexpr (!kPlain)
            if (places) b = first + int64_t{places[i]} * steps * kStepWeights;
        const typename T::In* a = t.a + offsets[i];
        [[maybe_unused]] const typename T::In* a2 = SPLIT ? a + t.a_split : a;
        for (int j = 0; j < lines; ++j, next += T::kLineWeights) {
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o) __builtin_prefetch(next + o * b_block, 0, 2);
        }
        if (ahead) {
            const typename T::In* p = i + 1 < taps ? t.a + offsets[i + 1] : after;
#pragma GCC unroll 32
            for (int m = 0; m < ROWS; ++m)
                __builtin_prefetch(p + row<SPLIT>(m, step, t.a_split), 0, 3);
        }
        [[maybe_unused]] f32x16 factors[Products::kScaled ? BLOCKS : 1];
        if constexpr (Products::kScaled) {
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o) factors[o] = t.factors(o, offsets + i - t.offsets);
        }
        const auto weights = [&](int o, int k) __attribute__((always_inline)) {
            const typename T::Weight* p = b + o * b_block + k * kStepWeights;
            if constexpr (Products::kScaled)
                return Products::weights(p, factors[o]);
            else
                return Products::weights(p);
        };
        // Step k from here on.
        const auto multiply = [&](int k) __attribute__((always_inline)) {
            decltype(weights(0, 0)) w[BLOCKS];
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o) w[o] = weights(o, k);
            if constexpr (!kPlain && STEP > 0 && BLOCKS > 1)
#pragma GCC unroll 4
                for (int o = 0; o < BLOCKS; ++o)
                    __builtin_prefetch(b + o * b_block + (k + kNearSteps) * kStepWeights, 0, 3);
#pragma GCC unroll 32
            for (int m = 0; m < ROWS; ++m) {
                const typename T::In* p = SPLIT && m >= SPLIT ? a2 + (m - SPLIT) * step + k * kDepth
                                                              : a + m * step + k * kDepth;
                if constexpr (HALF && BLOCKS == 1) {
                    Products::add_low(acc[m][0], Products::input_low(p), w[0]);
                    continue;
                }
                const auto x = Products::input(p);
#pragma GCC unroll 4
                for (int o = 0; o < BLOCKS - HALF; ++o) Products::add(acc[m][o], x, w[o]);
                if constexpr (HALF) Products::add_low(acc[m][BLOCKS - 1], x, w[BLOCKS - 1]);
            }
        };
        int k = 0;
#pragma GCC unroll 1
        for (; k + kSteps <= steps; k += kSteps) {
#pragma GCC unroll 4
            for (int j = 0; j < kSteps; ++j) multiply(j);
            a += kSteps * kDepth, b += kSteps * kStepWeights;
            if constexpr (SPLIT != 0) a2 += kSteps * kDepth;
        }
        if constexpr (kSteps > 1) {
#pragma GCC unroll 1
            for (; k < steps; ++k, a += kDepth, b += kStepWeights) multiply(0);
        }
    }
}

// Steps K, K + 1, ... of one tap of a convolution in groups of GROUP channels: each output lane
// sees channel K of its own group.
template <int STEP, int GROUP, int K, int ROWS>
CNNRT_INLINE void accumulate_groups(f32x16 (&acc)[ROWS][1], const float* a, int64_t step,
                                    const float* b) {
    const f32x16 w = load(b + K * 16);
#pragma GCC unroll 32
    for (int m = 0; m < ROWS; ++m)
        acc[m][0] = fma(spread<GROUP, K>(a + m * (STEP ? STEP : step)), w, acc[m][0]);
    if constexpr (K + 1 < GROUP) accumulate_groups<STEP, GROUP, K + 1>(acc, a, step, b);
}

// With HALF, the last block has eight outputs or fewer. Its other lanes take no time in registers
// of eight floats, nor in units that wide, as those of a Zen 4.
template <class T, int ROWS, int BLOCKS, int STEP, int SPLIT, bool PARTIAL, int GROUP = 0,
          bool HALF = false>
__attribute__((noinline)) void tile(const T& t) {
    using Products = typename T::Products;
    typename Products::Sum acc[ROWS][BLOCKS];
#pragma GCC unroll 4
    for (int o = 0; o < BLOCKS; ++o) {
        const auto bias = Products::start(t.bias + o * 16);
#pragma GCC unroll 32
        for (int m = 0; m < ROWS; ++m) acc[m][o] = bias;
    }
    const typename T::Weight *b = t.b, *next = t.next;
    if (t.next_a) t.template prefetch<ROWS, BLOCKS, SPLIT>();
    if constexpr (GROUP != 0) {
        for (int i = 0; i < t.last_taps; ++i, b += GROUP * 16)
            accumulate_groups<STEP, GROUP, 0>(acc, t.a + t.offsets[i], t.a_step, b);
    } else {
        constexpr bool kPlain = plain(STEP);
        constexpr int kWholeSteps = 16 / Products::kDepth;
        const int32_t* last = t.offsets + t.taps;
        if constexpr (!kPlain)
            accumulate<BLOCKS, STEP, SPLIT, HALF>(acc, t, t.offsets, t.places, t.taps, kWholeSteps,
                                                  t.last_taps ? t.a + *last : t.next_a, b, next);
        const int32_t* last_places = nullptr;
        if (!kPlain && t.places) {
            last_places = t.places + t.taps;
            b = t.b + t.last_weights;
        }
        accumulate<BLOCKS, STEP, SPLIT, HALF>(acc, t, last, last_places, t.last_taps,
                                              kPlain ? 1 : t.last_steps, t.next_a, b, next);
    }
    t.template finish<SPLIT, PARTIAL>(acc);
}

template <class T>
using TileFunction = void (*)(const T&);

// Tiles of 1 to ROWS rows, as a table.
template <class T, int ROWS, int BLOCKS, int STEP, bool PARTIAL, int GROUP = 0, bool HALF = false>
struct TileTable {
    TileFunction<T> of_rows[ROWS + 1];
    constexpr TileTable() : of_rows{} { fill<ROWS>(); }

private:
    template <int R>
    constexpr void fill() {
        if constexpr (R > 0) {
            of_rows[R] = tile<T, R, BLOCKS, STEP, 0, PARTIAL, GROUP, HALF>;
            fill<R - 1>();
        }
    }
};

using FloatTile = Tile<FloatOutput>;

// The number of panels, each of this many bytes, that are applied to a tile's rows in turn. If a
// tile is one block wide, rows would come from memory again for every 16 outputs. Up to four
// panels, in half of an L2 of 512 KB, are therefore applied while the rows are in L1. Panels small
// enough to stay in L1 themselves are not. On Zen 3 with AVX2, a 1x1 convolution of 512 > 256
// channels at 28 x 28 becomes 1.6 times as fast. One of 1024 > 256 at 14 x 14 becomes 1.25 times as
// fast. With 64 channels it would cost 5 %; without the limit of four, 30 %.
template <class T>
CNNRT_INLINE int64_t panels_together(int64_t bytes) {
    constexpr int64_t kMaxPanels = 4, kMinBytes = 16 * 1024, kFitting = 256 * 1024;
    if (T::kShape.blocks > 1 || bytes < kMinBytes) return 1;
    return bytes * kMaxPanels <= kFitting ? kMaxPanels : bytes < kFitting ? kFitting / bytes : 1;
}

// Cuts `count` rows into the fewest tiles of at most `max_rows` rows, of nearly equal height, and
// calls f(first, rows). Tall tiles load the fewest weights per multiply-add; two of 8 beat 14 + 2.
template <class F>
CNNRT_INLINE void for_each_tile(int64_t count, int max_rows, F f) {
    const int64_t tiles = (count + max_rows - 1) / max_rows;
    int64_t first = 0;
    for (int64_t i = 0; i < tiles; ++i) {
        const int64_t stop = count * (i + 1) / tiles;
        f(first, static_cast<int>(stop - first));
        first = stop;
    }
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
