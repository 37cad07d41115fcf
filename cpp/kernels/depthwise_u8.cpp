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
template <int QUADS>
CNNRT_INLINE u8x64 quads(const Layer& l, const uint8_t* p) {
    return QUADS || l.dense ? quads_of_pixels(p) : quads_of_pixels(p, l.tap);
}

// What the outputs of a block have in common.
struct Block {
    i32x16 bias;
    f32x16 factors;
    u8x64 low, high;
    int zero;

    Block(const int32_t* b, const float* f, const Requant& r)
        : bias(load_i32(b)), factors(load(f)), zero(r.zero) {
        alignas(64) uint8_t limits[128];
        __builtin_memset(limits, r.low, 64);
        __builtin_memset(limits + 64, r.high, 64);
        low = load_u8(limits);
        high = load_u8(limits + 64);
    }
};

// Input row h: taps w0 of output row 0 (FIRST), w1 of row 1 (SECOND).
template <int QUADS, bool FIRST, bool SECOND, int ROWS, int COLUMNS>
CNNRT_INLINE void add_row(i32x16 (&acc)[ROWS][COLUMNS], const Layer& l, const uint8_t* x,
                          const int8_t* w0, const int8_t* w1) {
    const int count = QUADS ? QUADS : l.quads;
#pragma GCC unroll 2
    for (int q = 0; q < count; ++q, x += 4 * l.tap, w0 += 64, w1 += 64) {
        i8x64 u0, u1;
        if constexpr (FIRST) u0 = load_i8(w0);
        if constexpr (SECOND) u1 = load_i8(w1);
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; ++c) {
            const u8x64 v = quads<QUADS>(l, x + c * l.step);
            if constexpr (FIRST) dot4(acc[0][c], v, u0);
            if constexpr (SECOND) dot4(acc[ROWS - 1][c], v, u1);
        }
    }
}

// ROWS output rows, `stride` input rows apart.
template <int ROWS, int COLUMNS, int QUADS>
CNNRT_INLINE void tile(const Layer& l, const Block& block, int stride, const uint8_t* x,
                       const int8_t* w, uint8_t* y) {
    i32x16 acc[ROWS][COLUMNS];
#pragma GCC unroll 2
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int c = 0; c < COLUMNS; ++c) acc[i][c] = block.bias;
    const int64_t row = int64_t{QUADS ? QUADS : l.quads} * 64, plane = row * l.kernel_h;
    for (int d = 0; d < l.kernel_d; ++d, x += l.x_plane, w += plane) {
        if constexpr (ROWS == 1) {
            for (int h = 0; h < l.kernel_h; ++h)
                add_row<QUADS, true, false>(acc, l, x + h * l.x_row, w + h * row, w);
        } else {
            // Rows of row 0 alone, of both, of row 1 alone.
            const int8_t* w1 = w - stride * row;
            for (int h = 0; h < stride; ++h)
                add_row<QUADS, true, false>(acc, l, x + h * l.x_row, w + h * row, w);
            for (int h = stride; h < l.kernel_h; ++h)
                add_row<QUADS, true, true>(acc, l, x + h * l.x_row, w + h * row, w1 + h * row);
            for (int h = l.kernel_h; h < l.kernel_h + stride; ++h)
                add_row<QUADS, false, true>(acc, l, x + h * l.x_row, w, w1 + h * row);
        }
    }
#pragma GCC unroll 2
    for (int i = 0; i < ROWS; ++i) {
        const auto whole = [&](int c) __attribute__((always_inline)) {
            return c < COLUMNS ? to_int(mul(to_float(acc[i][c]), block.factors)) : broadcast_i32(0);
        };
        const u8x64 v = pack4(whole(0), whole(1), whole(2), whole(3), block.zero);
        store_pixels(y + i * l.y_row, COLUMNS, min(max(v, block.low), block.high));
    }
}

// `width` columns of ROWS output rows. What a block has in common stays in registers meanwhile: set
// up for each tile, it took as long as all else. QUADS is 0 for any number of quads.
template <int ROWS, int QUADS>
__attribute__((noinline)) void run_columns(const Layer& l, const Block& common, int stride,
                                           const uint8_t* x, const int8_t* w, uint8_t* y,
                                           int64_t width) {
    const Block block = common;
    for (; width >= kColumns; width -= kColumns, x += kColumns * l.step, y += kColumns * 16)
        tile<ROWS, kColumns, QUADS>(l, block, stride, x, w, y);
    if (width == 3) tile<ROWS, 3, QUADS>(l, block, stride, x, w, y);
    if (width == 2) tile<ROWS, 2, QUADS>(l, block, stride, x, w, y);
    if (width == 1) tile<ROWS, 1, QUADS>(l, block, stride, x, w, y);
}

constexpr decltype(&run_columns<1, 0>) kRunColumns[2][3] = {
    {run_columns<1, 0>, run_columns<1, 1>, run_columns<1, 2>},
    {run_columns<2, 0>, run_columns<2, 1>, run_columns<2, 2>},
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
    const int quads = l.dense && l.quads <= 2 ? l.quads : 0;
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
        const Block common(bias + block * 16, factors + block * 16, g.requant);
        const int64_t stop = smaller<int64_t>(g.out_h, (band + 1) * kBandRows);
        for (int64_t h = band * kBandRows; h < stop;) {
            const int rows = shared && h + 2 <= stop ? 2 : 1;
            const uint8_t* row = from + h * g.stride_h * g.x.row;
            uint8_t* out = to + h * g.y.row;
            kRunColumns[rows - 1][quads](l, common, stride, row, w, out, g.out_w);
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
