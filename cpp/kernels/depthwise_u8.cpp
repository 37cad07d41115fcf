// Depthwise convolution of bytes, 1 to 3 dimensions. x carries its padding as a physical border.
//
// Four pixels of a row are one vector, [16 channels][4 pixels]: a product with four taps of each
// channel. A tile is up to four outputs of one or two rows. Both rows use the same vectors of the
// inputs that they share.
#include "kernel.h"
#include "output_u8.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int kColumns = 4;
constexpr int64_t kBandRows = 8;  // of the output, in one task

struct Layer {
    int64_t x_plane, x_row, tap, step;  // bytes: between taps along each axis, between outputs
    int64_t y_row;
    int kernel_d, kernel_h, quads;
    bool dense;  // the pixels of a quad follow each other
};

// Pixels p, p + tap, ... as 16 quads.
CNNRT_INLINE u8x64 quads(const Layer& l, const uint8_t* p) {
    if (l.dense) return quads_of_pixels(p);
    alignas(64) uint8_t pixels[64];
    for (int i = 0; i < 4; ++i) __builtin_memcpy(pixels + i * 16, p + i * l.tap, 16);
    return quads_of_pixels(pixels);
}

// Input row h: taps w0 of output row 0 (FIRST), w1 of row 1 (SECOND).
template <bool FIRST, bool SECOND, int ROWS, int COLUMNS>
CNNRT_INLINE void add_row(i32x16 (&acc)[ROWS][COLUMNS], const Layer& l, const uint8_t* x,
                          const int8_t* w0, const int8_t* w1) {
    for (int q = 0; q < l.quads; ++q, x += 4 * l.tap, w0 += 64, w1 += 64) {
        i8x64 u0, u1;
        if constexpr (FIRST) u0 = load_i8(w0);
        if constexpr (SECOND) u1 = load_i8(w1);
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; ++c) {
            const u8x64 v = quads(l, x + c * l.step);
            if constexpr (FIRST) dot4(acc[0][c], v, u0);
            if constexpr (SECOND) dot4(acc[ROWS - 1][c], v, u1);
        }
    }
}

// ROWS output rows, `stride` input rows apart.
template <int ROWS, int COLUMNS>
__attribute__((noinline)) void tile(const Layer& l, int stride, const uint8_t* x, const int8_t* w,
                                    const int32_t* bias, const float* factors, const Requant& r,
                                    uint8_t* y) {
    i32x16 acc[ROWS][COLUMNS];
    const i32x16 b = load_i32(bias);
#pragma GCC unroll 2
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; ++c) acc[i][c] = b;
    const int64_t row = int64_t{l.quads} * 64, plane = row * l.kernel_h;
    for (int d = 0; d < l.kernel_d; ++d, x += l.x_plane, w += plane) {
        if constexpr (ROWS == 1) {
            for (int h = 0; h < l.kernel_h; ++h)
                add_row<true, false>(acc, l, x + h * l.x_row, w + h * row, w);
        } else {
            // Rows of row 0 alone, of both, of row 1 alone.
            const int8_t* w1 = w - stride * row;
            for (int h = 0; h < stride; ++h)
                add_row<true, false>(acc, l, x + h * l.x_row, w + h * row, w);
            for (int h = stride; h < l.kernel_h; ++h)
                add_row<true, true>(acc, l, x + h * l.x_row, w + h * row, w1 + h * row);
            for (int h = l.kernel_h; h < l.kernel_h + stride; ++h)
                add_row<false, true>(acc, l, x + h * l.x_row, w, w1 + h * row);
        }
    }
    alignas(64) uint8_t limits[128];
    __builtin_memset(limits, r.low, 64);
    __builtin_memset(limits + 64, r.high, 64);
    const u8x64 low = load_u8(limits), high = load_u8(limits + 64);
    const f32x16 s = load(factors);
#pragma GCC unroll 2
    for (int i = 0; i < ROWS; ++i) {
        const auto whole = [&](int c) __attribute__((always_inline)) {
            return c < COLUMNS ? to_int(mul(to_float(acc[i][c]), s)) : broadcast_i32(0);
        };
        const u8x64 v = pack4(whole(0), whole(1), whole(2), whole(3), r.zero);
        store_pixels(y + i * l.y_row, COLUMNS, min(max(v, low), high));
    }
}

using Tile = decltype(&tile<1, 1>);
constexpr Tile kTiles[2][kColumns] = {
    {tile<1, 1>, tile<1, 2>, tile<1, 3>, tile<1, 4>},
    {tile<2, 1>, tile<2, 2>, tile<2, 3>, tile<2, 4>},
};

CNNRT_INLINE int64_t bands_of(const DepthwiseBytesArgs& g) { return ceil_div(g.out_h, kBandRows); }

}  // namespace

void depthwise_u8(const DepthwiseBytesArgs& g, const Context& context, int64_t begin, int64_t end) {
    const uint8_t* x = context.at<const uint8_t>(g.x.at);
    uint8_t* y = context.at<uint8_t>(g.y.at);
    const int8_t* weight = context.at<const int8_t>(g.weight);
    const int32_t* bias = context.at<const int32_t>(g.bias);
    const float* factors = context.at<const float>(g.factors);
    const uint8_t* table = context.at<const uint8_t>(g.table);
    Layer l;
    l.tap = int64_t{g.dilation_w} * 16;
    l.step = int64_t{g.stride_w} * 16;
    l.x_row = g.x.row * g.dilation_h;
    l.x_plane = g.x.plane * g.dilation_d;
    l.y_row = g.y.row;
    l.kernel_d = g.kernel_d;
    l.kernel_h = g.kernel_h;
    l.quads = static_cast<int>(ceil_div(g.kernel_w, 4));
    l.dense = g.dilation_w == 1;
    // Two rows share inputs if the second begins on a tap of the first.
    const bool shared = g.stride_h % g.dilation_h == 0 && g.stride_h / g.dilation_h < g.kernel_h;
    const int stride = g.stride_h / g.dilation_h;
    const int64_t weights = int64_t{g.kernel_d} * g.kernel_h * l.quads * 64;
    const int64_t bands = bands_of(g), per_image = bands * g.out_d;
    for (int64_t task = begin; task < end; ++task) {
        const int64_t plane = task / per_image, d = task % per_image / bands, band = task % bands;
        const int64_t n = plane / g.blocks, block = plane % g.blocks;
        const uint8_t* from = x + n * g.x.image + block * g.x.block + d * g.stride_d * g.x.plane;
        uint8_t* to = y + n * g.y.image + block * g.y.block + d * g.y.plane;
        const int8_t* w = weight + block * weights;
        const int64_t stop = smaller<int64_t>(g.out_h, (band + 1) * kBandRows);
        for (int64_t h = band * kBandRows; h < stop;) {
            const int rows = shared && h + 2 <= stop ? 2 : 1;
            const uint8_t* row = from + h * g.stride_h * g.x.row;
            uint8_t* out = to + h * g.y.row;
            for (int64_t c = 0; c < g.out_w; c += kColumns) {
                const int columns = static_cast<int>(smaller<int64_t>(kColumns, g.out_w - c));
                kTiles[rows - 1][columns - 1](l, stride, row + c * l.step, w, bias + block * 16,
                                              factors + block * 16, g.requant, out + c * 16);
            }
            if (table)
                for (int i = 0; i < rows; ++i)
                    look_up(table, out + i * g.y.row, int64_t{g.out_w} * 16);
            h += rows;
        }
    }
}

int64_t depthwise_u8_tasks(const DepthwiseBytesArgs& g) {
    return int64_t{g.n} * g.blocks * g.out_d * bands_of(g);
}

}  // namespace cnnrt::CNNRT_ISA
