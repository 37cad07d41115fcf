// y = a b for two computed matrices, or batches of them with broadcasting.
//
// A task is a chunk of rows of one product. The panels of b are packed in scratch memory once for
// the tasks of a thread that follow each other and share b.
#include "product.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunkTiles = 4, kChunk = kChunkTiles * kTileRows;

CNNRT_INLINE int64_t panels_size(const MatmulArgs& g) {
    return ceil_div(g.columns, 16) * g.depth * 16;
}

}  // namespace

void matmul(const MatmulArgs& g, const Context& context, int64_t begin, int64_t end) {
    const Chunks chunks(g.rows, kChunkTiles);
    float* panels = reinterpret_cast<float*>(context.scratch);
    float* rows_of_a = panels + panels_size(g);
    int32_t* offsets = reinterpret_cast<int32_t*>(rows_of_a + ceil_div(g.depth, 16) * kChunk * 16);
    Product p;
    p.a = rows_of_a;
    p.depth = g.depth;
    p.offsets = offsets;
    p.panels = panels;
    p.blocks = ceil_div(g.columns, 16);
    p.last_lanes = static_cast<int>(g.columns - (p.blocks - 1) * 16);
    p.y_row = g.columns;

    const float* packed = nullptr;
    for (int64_t task = begin; task < end; ++task) {
        const float *a = context.at(g.a), *b = context.at(g.b);
        int64_t rest = task / chunks.count;
        float* y = context.at(g.y) + rest * g.rows * g.columns;
        for (int i = g.dims - 1; i >= 0; rest /= g.shape[i--]) {
            a += rest % g.shape[i] * g.a_stride[i];
            b += rest % g.shape[i] * g.b_stride[i];
        }
        if (b != packed) {
            pack_panels(b, g.b_row, g.b_column, g.depth, g.columns, panels);
            packed = b;
        }
        const int64_t row = chunks.first(task % chunks.count);
        p.rows = chunks.first(task % chunks.count + 1) - row;
        p.y = y + row * g.columns;
        block_rows(a + row * g.a_row, g.a_row, p.rows, g.depth, 1.0f, rows_of_a);
        block_offsets(p.rows, g.depth, offsets);
        multiply(p);
    }
}

int64_t matmul_tasks(const MatmulArgs& g) {
    int64_t products = 1;
    for (int i = 0; i < g.dims; ++i) products *= g.shape[i];
    return products * Chunks(g.rows, kChunkTiles).count;
}

int64_t matmul_scratch(const MatmulArgs& g) {
    return (panels_size(g) + ceil_div(g.depth, 16) * (kChunk * 16 + 1)) * 4;
}

}  // namespace cnnrt::CNNRT_ISA
