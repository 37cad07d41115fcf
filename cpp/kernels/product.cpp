#include "product.h"

#include "tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr TileTable<FloatTile, kTileRows, kTileBlocks, 16, true> kTiles;
// The blocks left over at the end of a row.
constexpr TileTable<FloatTile, kTileRows, 1, 16, true> kSingle;

alignas(64) constexpr float kNoBias[kTileBlocks * 16] = {};

CNNRT_INLINE int lanes_of(int64_t n) { return static_cast<int>(smaller<int64_t>(n, 16)); }

}  // namespace

void multiply(const Product& p) {
    FloatTile t{};
    t.offsets = p.offsets;
    t.taps = static_cast<int>(p.depth / 16);
    t.last_steps = static_cast<int>(p.depth % 16);
    t.last_taps = t.last_steps ? 1 : 0;
    t.b_block = p.panel ? p.panel : p.depth * 16;
    t.residual_row = p.residual_row;
    t.residual_block = 16;
    t.y_row = p.y_row;
    t.y_block = p.y_block;
    t.epilogue = p.epilogue;
    for (int64_t block = 0, step; block < p.blocks; block += step) {
        const bool all = p.blocks - block >= kTileBlocks;
        const TileFunction<FloatTile>* tiles = all ? kTiles.of_rows : kSingle.of_rows;
        step = all ? kTileBlocks : 1;
        t.b = p.panels + block * t.b_block;
        t.bias = p.bias ? p.bias + block * 16 : kNoBias;
        t.lanes = block + step == p.blocks ? p.last_lanes : 16;
        // Each tile of rows fetches its part of the panels that come next.
        t.next = p.blocks - block - step >= kTileBlocks ? t.b + step * t.b_block : p.next;
        t.next_lines = t.next ? static_cast<int>(ceil_div(16, ceil_div(p.rows, kTileRows))) : 0;
        for_each_tile(p.rows, kTileRows, [&](int64_t first, int count) {
            t.a = p.a + first * 16;
            t.y = p.y + first * p.y_row + block * p.y_block;
            t.residual = p.residual ? p.residual + first * p.residual_row + block * 16 : nullptr;
            tiles[count](t);
            t.next += t.taps * t.next_lines * 16;
        });
    }
}

void block_rows(const float* x, int64_t x_row, int64_t rows, int64_t depth, float factor,
                float* to) {
    const int64_t whole = depth / 16;
    const int rest = static_cast<int>(depth % 16);
    const f32x16 f = broadcast(factor);
    for (int64_t r = 0; r < rows; ++r) {
        const float* from = x + r * x_row;
        for (int64_t k = 0; k < whole; ++k)
            store(to + (k * rows + r) * 16, mul(load(from + k * 16), f));
        if (rest)
            store(to + (whole * rows + r) * 16, mul(load_partial(from + whole * 16, rest), f));
    }
}

void block_offsets(int64_t rows, int64_t depth, int32_t* to) {
    for (int64_t k = 0; k < ceil_div(depth, 16); ++k) to[k] = static_cast<int32_t>(k * rows * 16);
}

void pack_panels(const float* b, int64_t depth_step, int64_t column_step, int64_t depth,
                 int64_t columns, float* to) {
    for (int64_t column = 0; column < columns; column += 16, to += depth * 16) {
        const float* from = b + column * column_step;
        const int lanes = lanes_of(columns - column);
        if (column_step == 1) {
            if (lanes == 16)
                for (int64_t k = 0; k < depth; ++k) store(to + k * 16, load(from + k * depth_step));
            else
                for (int64_t k = 0; k < depth; ++k)
                    store(to + k * 16, load_partial(from + k * depth_step, lanes));
            continue;
        }
        for (int64_t k = 0; k < depth; k += 16) {
            const int steps = lanes_of(depth - k);
            f32x16 r[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) {
                const float* p = from + i * column_step + k;
                r[i] = i >= lanes ? zero() : steps == 16 ? load(p) : load_partial(p, steps);
            }
            transpose(r);
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i)
                if (i < steps) store(to + (k + i) * 16, r[i]);
        }
    }
}

}  // namespace cnnrt::CNNRT_ISA
