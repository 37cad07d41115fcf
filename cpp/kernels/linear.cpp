// Fully connected layer on plain rows: y[rows, columns] = activation(x w + bias + residual).
//
// A few rows go straight through a tile that reads x in place: the weights' bandwidth is the limit.
// Many rows are copied, chunk by chunk, into blocked form in scratch memory for the full register
// tile. The copy is one pass over x, 1 / columns of the work.

#include "linear.h"

#include "product.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// Tiles of a chunk. All weights are read again for each chunk of rows, so chunks are tall, but they
// must stay in L2. AVX-512: 28 rows of 1536 inputs are 172 KB of 1 MB, beside two panels of 197 KB
// each. Narrower tiles need 64 bytes of weights for six vector multiply-adds. Panels of 256 inputs,
// 16 KB, stay in L1 for 102 rows, which take 104 of 512 KB. (With 66 rows of 768 inputs ViT's
// layers take a tenth longer.)
constexpr int64_t kChunkTiles = kTileBlocks > 1 ? 2 : 102 / kTileRows;
constexpr int64_t kChunk = kChunkTiles * kTileRows;

CNNRT_INLINE bool few(const LinearArgs& g) { return g.rows <= kDenseRows; }
CNNRT_INLINE int64_t per_group(const LinearArgs& g) {
    return few(g) ? kDenseBlocks : kProductBlocks;
}

}  // namespace

void linear(const LinearArgs& g, const Context& context, int64_t begin, int64_t end) {
    if (few(g)) return linear_few<float>(g, context, begin, end);
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
