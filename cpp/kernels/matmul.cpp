// y = a b for two computed matrices, or batches of them with broadcasting.
//
// A task is a chunk of rows of one product. The panels of b are packed in scratch memory once for
// consecutive tasks of a thread with the same b. If there are too few rows to pay for that, b is
// read in place, and a task is a span of columns.
#include "product.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunkTiles = 4, kChunk = kChunkTiles * kTileRows;
constexpr int64_t kSpan = 256;  // columns of a task of few rows

CNNRT_INLINE bool few(const MatmulArgs& g) { return g.rows <= kDenseRows && g.b_column == 1; }
CNNRT_INLINE int64_t tasks_per_product(const MatmulArgs& g) {
    return few(g) ? ceil_div(g.columns, kSpan) : Chunks(g.rows, kChunkTiles).count;
}
CNNRT_INLINE int64_t panels_size(const MatmulArgs& g) {
    return ceil_div(g.columns, 16) * g.depth * 16;
}

// One product of the batch.
struct Operands {
    const float *a, *b;
    float* y;

    Operands(const MatmulArgs& g, const Context& context, int64_t product)
        : a(context.at(g.a)), b(context.at(g.b)) {
        y = context.at(g.y) + product * g.rows * g.columns;
        for (int i = g.dims - 1; i >= 0; product /= g.shape[i--]) {
            a += product % g.shape[i] * g.a_stride[i];
            b += product % g.shape[i] * g.b_stride[i];
        }
    }
};

// Computes ROWS rows of y in BLOCKS vectors of columns, of which the last has `lanes` columns.
template <int ROWS, int BLOCKS>
CNNRT_INLINE void multiply_few(const MatmulArgs& g, const float* a, const float* b, float* y,
                               int lanes) {
    f32x16 sum[ROWS][BLOCKS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int o = 0; o < BLOCKS; ++o) sum[r][o] = zero();
    for (int64_t k = 0; k < g.depth; ++k, b += g.b_row) {
        f32x16 w[BLOCKS];
#pragma GCC unroll 4
        for (int o = 0; o < BLOCKS; ++o)
            w[o] =
                lanes == 16 || o + 1 < BLOCKS ? load(b + o * 16) : load_partial(b + o * 16, lanes);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
            const f32x16 x = broadcast(a[r * g.a_row + k]);
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o) sum[r][o] = fma(x, w[o], sum[r][o]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int o = 0; o < BLOCKS; ++o)
            store_partial(y + r * g.columns + o * 16, o + 1 < BLOCKS ? 16 : lanes, sum[r][o]);
}

template <int ROWS>
void multiply_span(const MatmulArgs& g, const Operands& p, int64_t column, int64_t stop) {
    constexpr int64_t kWide = kDenseBlocks * 16;
    for (; stop - column >= kWide; column += kWide)
        multiply_few<ROWS, kDenseBlocks>(g, p.a, p.b + column, p.y + column, 16);
    for (; column < stop; column += 16)
        multiply_few<ROWS, 1>(g, p.a, p.b + column, p.y + column,
                              static_cast<int>(smaller<int64_t>(16, stop - column)));
}

// multiply_span for g.rows, of ROWS or fewer.
template <int ROWS>
CNNRT_INLINE void multiply_rows(const MatmulArgs& g, const Operands& p, int64_t column,
                                int64_t stop) {
    if constexpr (ROWS > 0) {
        if (g.rows == ROWS) return multiply_span<ROWS>(g, p, column, stop);
        multiply_rows<ROWS - 1>(g, p, column, stop);
    }
}

}  // namespace

void matmul(const MatmulArgs& g, const Context& context, int64_t begin, int64_t end) {
    const int64_t per_product = tasks_per_product(g);
    if (few(g)) {
        for (int64_t task = begin; task < end; ++task) {
            const int64_t column = task % per_product * kSpan;
            multiply_rows<kDenseRows>(g, Operands(g, context, task / per_product), column,
                                      smaller(g.columns, column + kSpan));
        }
        return;
    }
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
        const Operands of(g, context, task / per_product);
        if (of.b != packed) {
            pack_panels(of.b, g.b_row, g.b_column, g.depth, g.columns, panels);
            packed = of.b;
        }
        const int64_t row = chunks.first(task % per_product);
        p.rows = chunks.first(task % per_product + 1) - row;
        p.y = of.y + row * g.columns;
        block_rows(of.a + row * g.a_row, g.a_row, p.rows, g.depth, 1.0f, rows_of_a);
        block_offsets(p.rows, g.depth, offsets);
        multiply(p);
    }
}

int64_t matmul_tasks(const MatmulArgs& g) {
    int64_t products = 1;
    for (int i = 0; i < g.dims; ++i) products *= g.shape[i];
    return products * tasks_per_product(g);
}

int64_t matmul_scratch(const MatmulArgs& g) {
    return few(g) ? 0 : (panels_size(g) + ceil_div(g.depth, 16) * (kChunk * 16 + 1)) * 4;
}

}  // namespace cnnrt::CNNRT_ISA
