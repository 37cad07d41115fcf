// Matrix products inside a kernel: a chunk of rows, brought into blocked form in scratch memory,
// times panels of packed columns, by the register tile. Shared by linear, matmul and attention.
#pragma once

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {

// y[rows, columns] = activation(a b + bias + residual).
struct Product {
    const float* a = nullptr;  // [depth / 16][rows][16]
    int64_t rows = 0, depth = 0;
    const int32_t* offsets = nullptr;  // of the blocks of a, by block_offsets
    const float* panels = nullptr;     // [blocks][depth][16] ...
    int64_t panel = 0;                 // ... floats from one to the next; 0: depth * 16
    const float* next = nullptr;       // panels to be read after these, brought to L2 meanwhile
    int64_t blocks = 0;
    int last_lanes = 16;          // columns of the last block; the others are not stored
    const float* bias = nullptr;  // blocks * 16 floats, or null
    const float* residual = nullptr;
    int64_t residual_row = 0;
    float* y = nullptr;
    int64_t y_row = 0, y_block = 16;
    Epilogue epilogue;
};
void multiply(const Product& p);

namespace {

// Blocks of columns that one register tile covers.
constexpr int64_t kProductBlocks = kTileBlocks;

// Many rows cut into chunks of at most `tiles` full register tiles, of nearly equal height. A last
// tile of a row or two would read all panels for itself alone.
struct Chunks {
    int64_t rows, tiles, per_chunk, count;
    Chunks(int64_t all_rows, int64_t most_tiles)
        : rows(all_rows),
          tiles(ceil_div(all_rows, kTileRows)),
          per_chunk(most_tiles),
          count(ceil_div(tiles, most_tiles)) {}
    // The first row of chunk c.
    int64_t first(int64_t c) const { return rows * smaller(tiles, c * per_chunk) / tiles; }
};

}  // namespace

// x[rows, depth], rows x_row floats apart, times `factor`, as [depth / 16][rows][16].
void block_rows(const float* x, int64_t x_row, int64_t rows, int64_t depth, float factor,
                float* to);

// The offsets of the blocks of blocked rows: one for each 16 of depth, the last perhaps partial.
void block_offsets(int64_t rows, int64_t depth, int32_t* to);

// b[depth, columns] as panels [columns / 16][depth][16], zeros past the last column. One of the two
// strides of b is 1: rows are copied, or 16 x 16 squares transposed.
void pack_panels(const float* b, int64_t depth_step, int64_t column_step, int64_t depth,
                 int64_t columns, float* to);

}  // namespace cnnrt::CNNRT_ISA
