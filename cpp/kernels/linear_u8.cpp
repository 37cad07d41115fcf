// Fully connected layer on plain rows of bytes: sums in int32, then as Requant of args.h says.
//
// A tile of a few rows reads x in place, four inputs at a time. Rows whose length is no multiple of
// four are copied first, filled up with zeros.
#include "kernel.h"
#include "output_u8.h"
#include "tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

using T = Tile<IntegerOutput>;
constexpr int kRows = T::kShape.dense_rows, kBlocks = T::kShape.dense_blocks;
constexpr TileTable<T, kRows, kBlocks, 0, true> kTiles;
constexpr TileTable<T, kRows, 1, 0, true> kSingle;

CNNRT_INLINE int64_t blocks_of(const LinearArgs& g) { return ceil_div(g.columns, 16); }
CNNRT_INLINE int64_t padded(const LinearArgs& g) { return ceil_div(g.depth, 4) * 4; }

}  // namespace

void linear_u8(const LinearArgs& g, const Context& context, int64_t begin, int64_t end) {
    const int64_t blocks = blocks_of(g), depth = padded(g), panel = depth * 16;
    const uint8_t *x = context.at<const uint8_t>(g.x),
                  *residual = context.at<const uint8_t>(g.residual);
    uint8_t* y = context.at<uint8_t>(g.y);
    const int8_t* weight = context.at<const int8_t>(g.weight);
    const int32_t* bias = context.at<const int32_t>(g.bias);
    uint8_t* copy = depth == g.depth ? nullptr : reinterpret_cast<uint8_t*>(context.scratch);
    const int32_t start = 0;
    T t{};
    t.set(g, context);
    const int64_t unit = t.unit();
    t.a_step = copy ? depth : g.x_row;
    t.offsets = &start;
    t.last_taps = 1;
    t.last_steps = static_cast<int>(depth / 4);
    t.b_block = panel;
    t.residual_row = g.residual_row;
    t.residual_block = 16;
    t.y_row = g.y_row * unit;
    t.y_block = 16 * unit;
    const int64_t groups = ceil_div(blocks, kBlocks), chunks = ceil_div(g.rows, kRows);
    for_each_rectangle(
        g.order, begin, end, chunks, groups, [&](int64_t c0, int64_t c1, int64_t o0, int64_t o1) {
            const int64_t stop = smaller(blocks, o1 * kBlocks);
            // Few weights stay in L1 or L2 for all rows; many are read once for each tile of rows.
            for (int64_t block = o0 * kBlocks; block < stop;) {
                const bool all = stop - block >= kBlocks;
                const int64_t after = block + (all ? kBlocks : 1);
                t.b = weight + block * panel;
                t.bias = bias + block * 16;
                t.lanes = after == blocks ? static_cast<int>(g.columns - (blocks - 1) * 16) : 16;
                t.begin_block(block);
                for (int64_t c = c0; c < c1; ++c) {
                    const int64_t row = c * kRows, rows = smaller<int64_t>(kRows, g.rows - row);
                    t.a = x + row * g.x_row;
                    if (copy) {
                        for (int64_t r = 0; r < rows; ++r) {
                            uint8_t* to = copy + r * depth;
                            __builtin_memcpy(to, t.a + r * g.x_row, static_cast<size_t>(g.depth));
                            for (int64_t k = g.depth; k < depth; ++k) to[k] = 0;
                        }
                        t.a = copy;
                    }
                    t.y = y + (row * g.y_row + block * 16) * unit;
                    t.residual = residual ? residual + row * g.residual_row + block * 16 : nullptr;
                    (all ? kTiles.of_rows : kSingle.of_rows)[rows](t);
                }
                block = after;
            }
        });
}

int64_t linear_u8_tasks(const LinearArgs& g) {
    return ceil_div(blocks_of(g), kBlocks) * ceil_div(g.rows, kRows);
}

int64_t linear_u8_scratch(const LinearArgs& g) {
    return padded(g) == g.depth ? 0 : padded(g) * kRows;
}

}  // namespace cnnrt::CNNRT_ISA
