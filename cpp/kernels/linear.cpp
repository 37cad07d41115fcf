// Fully connected layer on plain rows: y[rows, columns] = activation(x w + bias + residual).
//
// A few rows go straight through a tile that reads x in place: the weights' bandwidth is the limit.
// Many rows are copied, chunk by chunk, into blocked form in scratch memory for the full register
// tile. The copy is one pass over x, 1 / columns of the work.

#include "product.h"
#include "tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr TileTable<FloatTile, kDenseRows, kDenseBlocks, 0, true> kFew;
// The blocks left over at the end of a row.
constexpr TileTable<FloatTile, kDenseRows, 1, 0, true> kFewSingle;

// Tiles of a chunk, and the maximum depth of one pass. All weights are read again for each chunk of
// rows, so chunks are tall, but they must stay in L2. AVX-512: 28 rows of 1536 inputs are 172 KB of
// 1 MB, beside two panels of 197 KB each. Narrower tiles need 64 bytes of weights for six vector
// multiply-adds. Panels of 256 inputs, 16 KB, stay in L1 for 102 rows, which take 104 of 512 KB.
// (With 66 rows of 768 inputs ViT's layers take a tenth longer.)
constexpr int64_t kChunkTiles = kTileBlocks > 1 ? 2 : 102 / kTileRows;
constexpr int64_t kChunk = kChunkTiles * kTileRows;
constexpr int64_t kMaxDepth = kTileBlocks > 1 ? 1536 : 256;

alignas(64) constexpr float kNoBias[kDenseBlocks * 16] = {};

CNNRT_INLINE bool few(const LinearArgs& g) { return g.rows <= kDenseRows; }
CNNRT_INLINE int64_t blocks_of(const LinearArgs& g) { return ceil_div(g.columns, 16); }
CNNRT_INLINE int64_t per_group(const LinearArgs& g) {
    return few(g) ? kDenseBlocks : kProductBlocks;
}
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

void linear_few(const LinearArgs& g, const Context& context, int64_t begin, int64_t end) {
    const int64_t blocks = blocks_of(g);
    const float *x = context.at(g.x), *weight = context.at(g.weight);
    const float *bias = context.at(g.bias), *residual = context.at(g.residual);
    const Parts parts(g);
    const int32_t start = 0;
    FloatTile t{};
    t.a_step = g.x_row;
    t.offsets = &start;
    t.last_taps = 1;
    t.b_block = g.depth * 16;
    t.residual_block = t.y_block = 16;
    t.y_row = g.y_row;
    const int64_t stop = smaller(blocks, end * kDenseBlocks);
    for (int64_t block = begin * kDenseBlocks; block < stop;) {
        const bool all = stop - block >= kDenseBlocks;
        const int64_t after = block + (all ? kDenseBlocks : 1);
        t.lanes = after == blocks ? last_lanes(g) : 16;
        t.y = context.at(g.y) + block * 16;
        for (int64_t part = 0; part < parts.count; ++part) {
            const int64_t k = parts.first(part);
            const bool first = part == 0, last = part + 1 == parts.count;
            t.a = x + k;
            t.last_steps = static_cast<int>(parts.first(part + 1) - k);
            t.b = weight + block * t.b_block + k * 16;
            t.bias = first ? bias + block * 16 : kNoBias;
            t.residual = !first ? t.y : residual ? residual + block * 16 : nullptr;
            t.residual_row = first ? g.residual_row : g.y_row;
            t.epilogue = last ? g.epilogue : Epilogue{};
            (all ? kFew.of_rows : kFewSingle.of_rows)[g.rows](t);
        }
        block = after;
    }
}

}  // namespace

void linear(const LinearArgs& g, const Context& context, int64_t begin, int64_t end) {
    if (few(g)) return linear_few(g, context, begin, end);
    const float *x = context.at(g.x), *weight = context.at(g.weight), *bias = context.at(g.bias);
    const float* residual = context.at(g.residual);
    float* y = context.at(g.y);
    const int64_t blocks = blocks_of(g), per = per_group(g), groups = ceil_div(blocks, per);
    const Chunks chunks(g.rows, kChunkTiles);
    const Parts parts(g);
    float* chunk = reinterpret_cast<float*>(context.scratch);
    int32_t* offsets = reinterpret_cast<int32_t*>(chunk + parts.longest * kChunk);
    Product p;
    p.a = chunk;
    p.offsets = offsets;
    p.panel = g.depth * 16;
    p.y_row = g.y_row;
    const auto rectangle = [&](int64_t c0, int64_t c1, int64_t o0, int64_t o1) {
        const int64_t block = o0 * per, stop = smaller(blocks, o1 * per);
        p.blocks = stop - block;
        p.last_lanes = stop == blocks ? last_lanes(g) : 16;
        for (int64_t c = c0; c < c1; ++c) {
            const int64_t row = chunks.first(c);
            p.rows = chunks.first(c + 1) - row;
            p.y = y + row * g.y_row + block * 16;
            for (int64_t part = 0; part < parts.count; ++part) {
                const int64_t k = parts.first(part);
                const bool first = part == 0, last = part + 1 == parts.count;
                p.depth = parts.first(part + 1) - k;
                p.panels = weight + block * p.panel + k * 16;
                // After these panels come those of the next part, or again the first.
                const int64_t next_k = last ? 0 : parts.first(part + 1);
                p.next = last && c + 1 == c1 ? nullptr : p.panels + (next_k - k) * 16;
                p.bias = first ? bias + block * 16 : nullptr;
                p.residual = p.y;
                p.residual_row = g.y_row;
                if (first) {
                    p.residual = residual ? residual + row * g.residual_row + block * 16 : nullptr;
                    p.residual_row = g.residual_row;
                }
                p.epilogue = last ? g.epilogue : Epilogue{};
                block_rows(x + row * g.x_row + k, g.x_row, p.rows, p.depth, 1.0f, chunk);
                block_offsets(p.rows, p.depth, offsets);
                multiply(p);
            }
        }
    };
    for_each_rectangle(g.order, begin, end, chunks.count, groups, rectangle);
}

int64_t linear_tasks(const LinearArgs& g) {
    const int64_t groups = ceil_div(blocks_of(g), per_group(g));
    return few(g) ? groups : Chunks(g.rows, kChunkTiles).count * groups;
}

int64_t linear_scratch(const LinearArgs& g) {
    return few(g) ? 0 : Parts(g).longest * (kChunk + 1) * 4;
}

}  // namespace cnnrt::CNNRT_ISA
