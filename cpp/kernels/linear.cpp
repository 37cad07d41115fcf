// Fully connected layer on plain rows: y[rows, columns] = activation(x w + bias + residual).
//
// A few rows go straight through a tile that reads x in place; there the weights' bytes are the
// limit. Many rows are copied chunk by chunk into blocked form in scratch memory (one pass over x,
// 1 / columns of the work), where the full register tile reads them.

#include "kernel.h"
#include "tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr TileTable<kDenseRows, kDenseBlocks, 0, true> kFew;
constexpr TileTable<kTileRows, kTileBlocks, 16, true> kMany;
// The blocks left over at the end of a row.
constexpr TileTable<kDenseRows, 1, 0, true> kFewSingle;
constexpr TileTable<kTileRows, 1, 16, true> kManySingle;

// Rows of a chunk that is blocked at once: two tiles; with 3072 inputs 344 KB, beside a panel of
// 393 KB in L2.
constexpr int64_t kChunk = 2 * kTileRows;

CNNRT_INLINE bool few(const LinearArgs& g) { return g.rows <= kDenseRows; }
CNNRT_INLINE int64_t blocks_of(const LinearArgs& g) { return ceil_div(g.columns, 16); }
CNNRT_INLINE int64_t per_group(const LinearArgs& g) { return few(g) ? kDenseBlocks : kTileBlocks; }
CNNRT_INLINE int64_t depth_blocks(const LinearArgs& g) { return ceil_div(g.depth, 16); }

// x[row0 .. row0 + rows) as [depth / 16][rows][16].
void block_rows(const float* x, int64_t x_row, int64_t rows, int64_t depth, float* to) {
    const int64_t whole = depth / 16, rest = depth % 16;
    for (int64_t r = 0; r < rows; ++r) {
        const float* from = x + r * x_row;
        for (int64_t k = 0; k < whole; ++k) store(to + (k * rows + r) * 16, load(from + k * 16));
        if (rest)
            store(to + (whole * rows + r) * 16,
                  load_partial(from + whole * 16, static_cast<int>(rest)));
    }
}

}  // namespace

void linear(const LinearArgs& g, const Context& context, int64_t begin, int64_t end) {
    const float *x = context.at(g.x), *weight = context.at(g.weight), *bias = context.at(g.bias);
    const float* residual = context.at(g.residual);
    float* y = context.at(g.y);
    const int64_t blocks = blocks_of(g), per = per_group(g), groups = ceil_div(blocks, per);
    const int64_t panel = g.depth * 16;
    const int last_lanes = static_cast<int>(g.columns - (blocks - 1) * 16);
    Tile t{};
    t.b_block = panel;
    t.residual_row = g.residual_row;
    t.residual_block = 16;
    t.y_row = g.y_row;
    t.y_block = 16;
    t.epilogue = g.epilogue;

    // All rows of the present chunk against the blocks of one group.
    const auto group = [&](int64_t o, int64_t row0, int64_t rows, int most, const float* a,
                           int64_t a_row, const TileFunction* whole, const TileFunction* single) {
        for (int64_t block = o * per; block < smaller(blocks, (o + 1) * per);) {
            const bool all = blocks - block >= per;
            t.b = weight + block * panel;
            t.bias = bias + block * 16;
            const int64_t stop = block + (all ? per : 1);
            t.lanes = stop == blocks ? last_lanes : 16;
            for_each_tile(rows, most, [&](int64_t first, int count) {
                t.a = a + first * a_row;
                t.y = y + (row0 + first) * g.y_row + block * 16;
                t.residual =
                    residual ? residual + (row0 + first) * g.residual_row + block * 16 : nullptr;
                (all ? whole : single)[count](t);
            });
            block = stop;
        }
    };

    if (few(g)) {
        const int32_t start = 0;
        t.offsets = &start;
        t.last_taps = 1;
        t.last_depth = static_cast<int>(g.depth);
        t.a_step = g.x_row;
        for (int64_t o = begin; o < end; ++o)
            group(o, 0, g.rows, kDenseRows, x, g.x_row, kFew.of_rows, kFewSingle.of_rows);
        return;
    }

    float* chunk = reinterpret_cast<float*>(context.scratch);
    int32_t* offsets = reinterpret_cast<int32_t*>(chunk + depth_blocks(g) * kChunk * 16);
    t.offsets = offsets;
    t.taps = static_cast<int>(g.depth / 16);
    t.last_depth = static_cast<int>(g.depth % 16);
    t.last_taps = t.last_depth ? 1 : 0;
    for_each_rectangle(
        g.order, begin, end, ceil_div(g.rows, kChunk), groups,
        [&](int64_t c0, int64_t c1, int64_t o0, int64_t o1) {
            for (int64_t c = c0; c < c1; ++c) {
                const int64_t row0 = c * kChunk, rows = smaller(kChunk, g.rows - row0);
                block_rows(x + row0 * g.x_row, g.x_row, rows, g.depth, chunk);
                for (int64_t k = 0; k < depth_blocks(g); ++k)
                    offsets[k] = static_cast<int32_t>(k * rows * 16);
                for (int64_t o = o0; o < o1; ++o)
                    group(o, row0, rows, kTileRows, chunk, 16, kMany.of_rows, kManySingle.of_rows);
            }
        });
}

int64_t linear_tasks(const LinearArgs& g) {
    const int64_t groups = ceil_div(blocks_of(g), per_group(g));
    return few(g) ? groups : ceil_div(g.rows, kChunk) * groups;
}

int64_t linear_scratch(const LinearArgs& g) {
    return few(g) ? 0 : depth_blocks(g) * (kChunk * 16 + 1) * 4;
}

}  // namespace cnnrt::CNNRT_ISA
