// The first layer: convolution that reads a plain NC(D)HW array of few channels.
//
// Per output row, the input rows that it reads are copied to L1 with their padding; the register
// tile then broadcasts straight from those planes (depth 1 per tap), so that no lane is wasted on
// channels that do not exist, and the result is stored blocked. Copying costs about 4 % of a 3x3
// stride 2 layer; padding and blocking the whole image first would cost 12 %.

#include "kernel.h"
#include "tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int kAnyRows = kTileRows < 6 ? kTileRows : 6;
constexpr TileTable<kTileRows, kTileBlocks, 1, false> kStride1;
constexpr TileTable<kTileRows, kTileBlocks, 2, false> kStride2;
constexpr TileTable<kTileRows, kTileBlocks, 4, false> kStride4;
constexpr TileTable<kAnyRows, kTileBlocks, 0, false> kStrideAny;
// The same for a last group of one block.
constexpr TileTable<kTileRows, 1, 1, false> kStride1Single;
constexpr TileTable<kTileRows, 1, 2, false> kStride2Single;
constexpr TileTable<kTileRows, 1, 4, false> kStride4Single;
constexpr TileTable<kAnyRows, 1, 0, false> kStrideAnySingle;

CNNRT_INLINE int64_t taps_of(const ConvPlanarArgs& g) {
    return static_cast<int64_t>(g.c) * g.kernel_d * g.kernel_h * g.kernel_w;
}
// A copied row: everything that one row of the output reads, with padding; its pitch is rounded up.
CNNRT_INLINE int64_t row_length(const ConvPlanarArgs& g) {
    const int64_t reach = static_cast<int64_t>(g.out_w - 1) * g.stride_w +
                          static_cast<int64_t>(g.kernel_w - 1) * g.dilation_w + 1;
    return ceil_div(reach, 16) * 16;
}
CNNRT_INLINE int64_t rows_of(const ConvPlanarArgs& g) {
    return static_cast<int64_t>(g.c) * g.kernel_d * g.kernel_h;
}

void copy_row(const float* from, int64_t in_w, int64_t pad, float* to, int64_t length) {
    const int64_t left = smaller(pad, length), middle = smaller(in_w, length - left);
    int64_t i = 0;
    for (; i < left; ++i) to[i] = 0;
    __builtin_memcpy(to + left, from, static_cast<size_t>(middle > 0 ? middle : 0) * 4);
    for (i = left + (middle > 0 ? middle : 0); i < length; ++i) to[i] = 0;
}

}  // namespace

void conv_planar(const ConvPlanarArgs& g, const Context& context, int64_t begin, int64_t end) {
    const float *x = context.at(g.x), *weight = context.at(g.weight), *bias = context.at(g.bias);
    const float* residual = context.at(g.residual.at);
    float* y = context.at(g.y.at);
    const int64_t length = row_length(g), taps = taps_of(g), rows = rows_of(g);
    float* buffer = reinterpret_cast<float*>(context.scratch);
    int32_t* offsets = reinterpret_cast<int32_t*>(buffer + rows * length);
    for (int64_t r = 0, i = 0; r < rows; ++r)
        for (int64_t k = 0; k < g.kernel_w; ++k)
            offsets[i++] = static_cast<int32_t>(r * length + k * g.dilation_w);

    const TileFunction *whole, *single;
    int most = kTileRows;
    switch (g.stride_w) {
        case 1:
            whole = kStride1.of_rows, single = kStride1Single.of_rows;
            break;
        case 2:
            whole = kStride2.of_rows, single = kStride2Single.of_rows;
            break;
        case 4:
            whole = kStride4.of_rows, single = kStride4Single.of_rows;
            break;
        default:
            whole = kStrideAny.of_rows, single = kStrideAnySingle.of_rows, most = kAnyRows;
    }
    Tile t{};
    t.a_step = g.stride_w;
    t.offsets = offsets;
    t.last_taps = static_cast<int>(taps);
    t.last_depth = 1;
    t.b_block = g.panel;
    t.residual_row = t.y_row = 16;
    t.residual_block = g.residual.block;
    t.y_block = g.y.block;
    t.lanes = 16;
    t.epilogue = g.epilogue;

    const int64_t image = static_cast<int64_t>(g.c) * g.in_d * g.in_h * g.in_w;
    for (int64_t task = begin; task < end; ++task) {
        const int64_t h = task % g.out_h, d = task / g.out_h % g.out_d;
        const int64_t n = task / g.out_h / g.out_d;
        float* row = buffer;
        for (int64_t c = 0; c < g.c; ++c)
            for (int64_t kd = 0; kd < g.kernel_d; ++kd)
                for (int64_t kh = 0; kh < g.kernel_h; ++kh, row += length) {
                    const int64_t id = d * g.stride_d + kd * g.dilation_d - g.pad_d;
                    const int64_t ih = h * g.stride_h + kh * g.dilation_h - g.pad_h;
                    const bool inside = id >= 0 && id < g.in_d && ih >= 0 && ih < g.in_h;
                    const float* from = x + n * image + ((c * g.in_d + id) * g.in_h + ih) * g.in_w;
                    copy_row(inside ? from : x, inside ? g.in_w : 0, g.pad_w, row, length);
                }
        const int64_t at = n * g.y.image + d * g.y.plane + h * g.y.row;
        const int64_t at_residual =
            n * g.residual.image + d * g.residual.plane + h * g.residual.row;
        for (int64_t block = 0; block < g.blocks; block += kTileBlocks) {
            const TileFunction* table = g.blocks - block >= kTileBlocks ? whole : single;
            t.b = weight + block * g.panel;
            t.bias = bias + block * 16;
            for_each_tile(g.out_w, most, [&](int64_t first, int count) {
                t.a = buffer + first * g.stride_w;
                t.y = y + at + block * g.y.block + first * 16;
                if (residual)
                    t.residual = residual + at_residual + block * g.residual.block + first * 16;
                table[count](t);
            });
        }
    }
}

int64_t conv_planar_tasks(const ConvPlanarArgs& g) {
    return static_cast<int64_t>(g.n) * g.out_d * g.out_h;
}

int64_t conv_planar_scratch(const ConvPlanarArgs& g) {
    return rows_of(g) * row_length(g) * 4 + taps_of(g) * 4;
}

}  // namespace cnnrt::CNNRT_ISA
