// Fully connected layer on plain rows: y[rows, columns] = activation(x w + bias + residual).
//
// A few rows go straight through a tile that reads x in place; there the weights' bytes are the
// limit. Many rows are copied chunk by chunk into blocked form in scratch memory (one pass over x,
// 1 / columns of the work), where the full register tile reads them.

#include "product.h"
#include "tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr TileTable<kDenseRows, kDenseBlocks, 0, true> kFew;
// The blocks left over at the end of a row.
constexpr TileTable<kDenseRows, 1, 0, true> kFewSingle;

// Tiles of a chunk: with 3072 inputs two are 344 KB, beside a panel of 393 KB in L2.
constexpr int64_t kChunkTiles = 2, kChunk = kChunkTiles * kTileRows;

CNNRT_INLINE bool few(const LinearArgs& g) { return g.rows <= kDenseRows; }
CNNRT_INLINE int64_t blocks_of(const LinearArgs& g) { return ceil_div(g.columns, 16); }
CNNRT_INLINE int64_t per_group(const LinearArgs& g) {
    return few(g) ? kDenseBlocks : kProductBlocks;
}
CNNRT_INLINE int64_t depth_blocks(const LinearArgs& g) { return ceil_div(g.depth, 16); }
CNNRT_INLINE int last_lanes(const LinearArgs& g) {
    return static_cast<int>(g.columns - (blocks_of(g) - 1) * 16);
}

void linear_few(const LinearArgs& g, const Context& context, int64_t begin, int64_t end) {
    const int64_t blocks = blocks_of(g);
    const int32_t start = 0;
    Tile t{};
    t.a = context.at(g.x);
    t.a_step = g.x_row;
    t.offsets = &start;
    t.last_taps = 1;
    t.last_depth = static_cast<int>(g.depth);
    t.b_block = g.depth * 16;
    t.residual_row = g.residual_row;
    t.residual_block = t.y_block = 16;
    t.y_row = g.y_row;
    t.epilogue = g.epilogue;
    const int64_t stop = smaller(blocks, end * kDenseBlocks);
    for (int64_t block = begin * kDenseBlocks; block < stop;) {
        const bool all = stop - block >= kDenseBlocks;
        t.b = context.at(g.weight) + block * t.b_block;
        t.bias = context.at(g.bias) + block * 16;
        t.y = context.at(g.y) + block * 16;
        t.residual = g.residual ? context.at(g.residual) + block * 16 : nullptr;
        block += all ? kDenseBlocks : 1;
        t.lanes = block == blocks ? last_lanes(g) : 16;
        (all ? kFew.of_rows : kFewSingle.of_rows)[g.rows](t);
    }
}

}  // namespace

void linear(const LinearArgs& g, const Context& context, int64_t begin, int64_t end) {
    if (few(g)) return linear_few(g, context, begin, end);
    const float *x = context.at(g.x), *weight = context.at(g.weight), *bias = context.at(g.bias);
    const float* residual = context.at(g.residual);
    float* y = context.at(g.y);
    const int64_t blocks = blocks_of(g), per = per_group(g), groups = ceil_div(blocks, per);
    const int64_t panel = g.depth * 16;
    const Chunks chunks(g.rows, kChunkTiles);
    float* chunk = reinterpret_cast<float*>(context.scratch);
    int32_t* offsets = reinterpret_cast<int32_t*>(chunk + depth_blocks(g) * kChunk * 16);
    Product p;
    p.a = chunk;
    p.depth = g.depth;
    p.offsets = offsets;
    p.residual_row = g.residual_row;
    p.y_row = g.y_row;
    p.epilogue = g.epilogue;
    for_each_rectangle(g.order, begin, end, chunks.count, groups,
                       [&](int64_t c0, int64_t c1, int64_t o0, int64_t o1) {
                           const int64_t block = o0 * per, stop = smaller(blocks, o1 * per);
                           p.panels = weight + block * panel;
                           p.bias = bias + block * 16;
                           p.blocks = stop - block;
                           p.last_lanes = stop == blocks ? last_lanes(g) : 16;
                           for (int64_t c = c0; c < c1; ++c) {
                               const int64_t row = chunks.first(c);
                               p.rows = chunks.first(c + 1) - row;
                               p.y = y + row * g.y_row + block * 16;
                               p.residual = residual ? residual + row * g.residual_row + block * 16
                                                     : nullptr;
                               // The next chunk begins with the first panels again.
                               p.next = c + 1 < c1 ? p.panels : nullptr;
                               block_rows(x + row * g.x_row, g.x_row, p.rows, g.depth, 1.0f, chunk);
                               block_offsets(p.rows, g.depth, offsets);
                               multiply(p);
                           }
                       });
}

int64_t linear_tasks(const LinearArgs& g) {
    const int64_t groups = ceil_div(blocks_of(g), per_group(g));
    return few(g) ? groups : Chunks(g.rows, kChunkTiles).count * groups;
}

int64_t linear_scratch(const LinearArgs& g) {
    return few(g) ? 0 : depth_blocks(g) * (kChunk * 16 + 1) * 4;
}

}  // namespace cnnrt::CNNRT_ISA
