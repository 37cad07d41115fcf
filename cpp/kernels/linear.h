// Fully connected layers of a few rows, which read x in place: shared by linear and linear_narrow.
#pragma once

#include "kernel.h"
#include "tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// The maximum depth of one pass. Panels of it stay in L2 beside a chunk of rows, or in L1 if tiles
// are narrow; see linear.cpp.
constexpr int64_t kMaxDepth = kTileBlocks > 1 ? 1536 : 256;

CNNRT_INLINE int64_t blocks_of(const LinearArgs& g) { return ceil_div(g.columns, 16); }
CNNRT_INLINE int last_lanes(const LinearArgs& g) {
    return static_cast<int>(g.columns - (blocks_of(g) - 1) * 16);
}

// The depth cut into parts. Each but the first adds to the sums that the previous one left in y.
struct Parts {
    int64_t depth, blocks, count, longest;
    explicit Parts(const LinearArgs& g)
        : depth(g.depth),
          blocks(ceil_div(g.depth, 16)),
          count(ceil_div(g.depth, kMaxDepth)),
          longest(ceil_div(blocks, count) * 16) {}
    int64_t first(int64_t part) const { return smaller(depth, blocks * part / count * 16); }
};

// A tile of floats by weights of another type.
template <class W>
struct WeightsOf : FloatOutput {
    using Weight = W;
};

// Weights of int8: for each output and 32 of depth a factor.
template <>
struct WeightsOf<int8_t> : FloatOutput {
    using Weight = int8_t;
    static constexpr int64_t kTaps = 2;  // with the same factors

    const float* first_factors;
    int64_t factors_block;  // floats between the factors of two blocks
    int64_t first_tap;      // of the tile, in the panel

    CNNRT_INLINE f32x16 factors(int o, int64_t tap) const {
        return load(first_factors + o * factors_block + (first_tap + tap) / kTaps * 16);
    }
};

// The offsets of taps of 16 inputs in a row.
struct RowOffsets {
    int32_t of[kMaxDepth / 16 + 1];
    constexpr RowOffsets() : of{} {
        for (int32_t i = 0; i <= kMaxDepth / 16; ++i) of[i] = i * 16;
    }
};
constexpr RowOffsets kRowOffsets;

// Blocks of outputs [begin, end), in units of the tile's. All rows pass by the weights of one part,
// which come from memory once.
template <class W>
void linear_few(const LinearArgs& g, const Context& context, int64_t begin, int64_t end) {
    using T = Tile<WeightsOf<W>>;
    constexpr int kRows = T::kShape.dense_rows, kBlocks = T::kShape.dense_blocks;
    static constexpr TileTable<T, kRows, kBlocks, 0, true> kTiles;
    // The blocks left over at the end of a row.
    static constexpr TileTable<T, kRows, 1, 0, true> kSingle;
    alignas(64) static constexpr float kNoBias[kBlocks * 16] = {};

    const int64_t blocks = blocks_of(g);
    const float *x = context.at(g.x), *bias = context.at(g.bias);
    const float* residual = context.at(g.residual);
    const W* weight = context.template at<const W>(g.weight);
    float* y = context.at(g.y);
    const Parts parts(g);
    T t{};
    t.a_step = g.x_row;
    t.offsets = kRowOffsets.of;
    t.b_block = g.depth * 16;
    t.residual_block = t.y_block = 16;
    t.y_row = g.y_row;
    if constexpr (T::Products::kScaled) t.factors_block = ceil_div(parts.blocks, T::kTaps) * 16;
    const int64_t stop = smaller(blocks, end * kBlocks);
    for (int64_t block = begin * kBlocks; block < stop;) {
        const bool all = stop - block >= kBlocks;
        const int64_t after = block + (all ? kBlocks : 1);
        const auto* tiles = all ? kTiles.of_rows : kSingle.of_rows;
        t.lanes = after == blocks ? last_lanes(g) : 16;
        for (int64_t part = 0; part < parts.count; ++part) {
            const int64_t k = parts.first(part), steps = parts.first(part + 1) - k;
            const bool first = part == 0, last = part + 1 == parts.count;
            if constexpr (T::Products::kScaled) {
                t.first_factors = context.at(g.factors) + block * t.factors_block;
                t.first_tap = k / 16;
                t.taps = static_cast<int>(steps / 16);
                t.last_steps = static_cast<int>(steps % 16);
                t.last_taps = t.last_steps ? 1 : 0;
            } else {
                t.last_taps = 1;
                t.last_steps = static_cast<int>(steps);
            }
            t.b = weight + block * t.b_block + k * 16;
            t.bias = first ? bias + block * 16 : kNoBias;
            t.residual_row = first ? g.residual_row : g.y_row;
            t.epilogue = last ? g.epilogue : Epilogue{};
            for_each_tile(g.rows, kRows, [&](int64_t row, int count) {
                t.a = x + row * g.x_row + k;
                t.y = y + row * g.y_row + block * 16;
                t.residual = t.y;
                if (first)
                    t.residual = residual ? residual + row * g.residual_row + block * 16 : nullptr;
                tiles[count](t);
            });
        }
        block = after;
    }
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
