// Depthwise convolution, 1 to 3 dimensions: one filter per channel, so every block of 16 channels
// is independent. Padding is not in memory: tiles at the edges of the image skip what lies outside.
// So the producer of x, mostly a 1x1 convolution, may treat the image as one long row.
//
// A tile is one or two output rows x a few columns, accumulated in registers. For square kernels
// each vector of an input row is loaded once and multiplied by every tap that reads it, for both
// output rows. A 3x3 kernel on 2 x 7 pixels takes 54 loads for 126 multiply-adds. Every output is
// the bias, then its taps in the order kd, kh, kw: results do not depend on how rows are cut.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int kColumns = kDepthwiseShape.columns, kRows = kDepthwiseShape.rows;
constexpr int64_t kBandRows = 8;  // of the output, in one task

// What all tiles of a layer share. Strides in floats.
struct Layer {
    int64_t x_plane, x_row;  // from a tap to the next
    int64_t y_row;
    int kernel_d, kernel_h, kernel_w;
    int64_t tap;    // along the width
    int64_t step;   // of x from a column to the next
    Limits limits;  // of the epilogue
};

// The part of a tile's windows that lies inside the image. Without EDGE that is all of them.
struct Inside {
    int d0, d1, h0, h1;   // taps
    int64_t first, last;  // pixels of a row, from the first that column 0 would read
};

template <int ROWS, int COLUMNS>
CNNRT_INLINE void start(f32x16 (&acc)[ROWS][COLUMNS], const float* bias) {
    const f32x16 b = load(bias);
#pragma GCC unroll 2
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < COLUMNS; ++c) acc[r][c] = b;
}

template <int ROWS, int COLUMNS>
CNNRT_INLINE void finish(const f32x16 (&acc)[ROWS][COLUMNS], const Layer& l, float* y) {
    const f32x16 low = broadcast(l.limits.low), high = broadcast(l.limits.high);
    const int64_t y_row = l.y_row;
#pragma GCC unroll 2
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < COLUMNS; ++c)
            store(y + r * y_row + c * 16, min(high, max(low, acc[r][c])));
}

// Adds one input row to output row 0 through the taps at `w0` (FIRST) and to output row 1 through
// those at `w1` (SECOND).
template <int KERNEL, int STRIDE, bool EDGE, bool FIRST, bool SECOND, int COLUMNS, int ROWS>
CNNRT_INLINE void add_row(f32x16 (&acc)[ROWS][COLUMNS], const Inside& in, const float* x,
                          const float* w0, const float* w1) {
    constexpr int kInputs = (COLUMNS - 1) * STRIDE + KERNEL;
    if constexpr (STRIDE == 1) {
        // All inputs first: when they come from L3, this is 8 % faster than the order below.
        f32x16 v[kInputs];
#pragma GCC unroll 16
        for (int i = 0; i < kInputs; ++i)
            v[i] = EDGE && (i < in.first || i >= in.last) ? zero() : load(x + i * 16);
#pragma GCC unroll 8
        for (int k = 0; k < KERNEL; ++k) {
            const f32x16 u0 = load(w0 + k * 16), u1 = load(w1 + k * 16);
#pragma GCC unroll 8
            for (int c = 0; c < COLUMNS; ++c)
                if (FIRST) acc[0][c] = fma(v[c + k], u0, acc[0][c]);
#pragma GCC unroll 8
            for (int c = 0; c < COLUMNS; ++c)
                if (SECOND) acc[ROWS - 1][c] = fma(v[c + k], u1, acc[ROWS - 1][c]);
        }
    } else {
        // One input at a time: 15 to 19 of them would not fit beside the accumulators.
#pragma GCC unroll 32
        for (int i = 0; i < kInputs; ++i) {
            if (EDGE && (i < in.first || i >= in.last)) continue;
            const f32x16 v = load(x + i * 16);
#pragma GCC unroll 8
            for (int c = 0; c < COLUMNS; ++c) {
                const int k = i - c * STRIDE;
                if (k < 0 || k >= KERNEL) continue;
                if (FIRST) acc[0][c] = fma(v, load(w0 + k * 16), acc[0][c]);
                if (SECOND) acc[ROWS - 1][c] = fma(v, load(w1 + k * 16), acc[ROWS - 1][c]);
            }
        }
    }
}

// KERNEL x KERNEL taps, STRIDE in both directions, dilation 1. The loops over tap rows are not
// unrolled: they would be no faster, and 7x7 would take 5 KB of code. But their length must be a
// constant: otherwise GCC's bookkeeping costs 3x3 a sixth of its speed.
template <int KERNEL, int STRIDE, bool EDGE, int ROWS, int COLUMNS>
__attribute__((noinline)) void square_tile(const Layer& l, const Inside& in, const float* x,
                                           const float* w, const float* bias, float* y) {
    constexpr int64_t kRow = KERNEL * 16;
    f32x16 acc[ROWS][COLUMNS];
    start(acc, bias);
    const int64_t x_row = l.x_row;
    if constexpr (ROWS == 1) {
        const int first = EDGE ? in.h0 : 0, last = EDGE ? in.h1 : KERNEL;
#pragma GCC unroll 1
        for (int h = first; h < last; ++h)
            add_row<KERNEL, STRIDE, EDGE, true, false>(acc, in, x + h * x_row, w + h * kRow, w);
    } else {
        // The input rows of output row 0 alone, of both, of output row 1 alone.
        const float* w1 = w - STRIDE * kRow;
#pragma GCC unroll 1
        for (int h = 0; h < STRIDE; ++h)
            add_row<KERNEL, STRIDE, EDGE, true, false>(acc, in, x + h * x_row, w + h * kRow, w);
#pragma GCC unroll 1
        for (int h = STRIDE; h < KERNEL; ++h)
            add_row<KERNEL, STRIDE, EDGE, true, true>(acc, in, x + h * x_row, w + h * kRow,
                                                      w1 + h * kRow);
#pragma GCC unroll 1
        for (int h = KERNEL; h < KERNEL + STRIDE; ++h)
            add_row<KERNEL, STRIDE, EDGE, false, true>(acc, in, x + h * x_row, w, w1 + h * kRow);
    }
    finish(acc, l, y);
}

// Any kernel, stride and dilation. With EDGE every pixel is tested; without, the windows of all
// columns meet the image with the same taps.
template <bool EDGE, int COLUMNS>
__attribute__((noinline)) void any_tile(const Layer& l, const Inside& in, const float* x,
                                        const float* w, const float* bias, float* y) {
    f32x16 acc[1][COLUMNS];
    start(acc, bias);
    const int64_t tap = l.tap, step = l.step, first = in.first * 16, last = in.last * 16;
    for (int d = in.d0; d < in.d1; ++d) {
        for (int h = in.h0; h < in.h1; ++h) {
            const float* row = x + d * l.x_plane + h * l.x_row;
            const float* u = w + (int64_t{d} * l.kernel_h + h) * l.kernel_w * 16;
            for (int64_t k = 0, at = 0; k < l.kernel_w; ++k, at += tap) {
                const f32x16 v = load(u + k * 16);
#pragma GCC unroll 8
                for (int c = 0; c < COLUMNS; ++c) {
                    const int64_t pixel = at + c * step;
                    if (EDGE && (pixel < first || pixel >= last)) continue;
                    acc[0][c] = fma(load(row + pixel), v, acc[0][c]);
                }
            }
        }
    }
    finish(acc, l, y);
}

using Tile = void (*)(const Layer&, const Inside&, const float*, const float*, const float*,
                      float*);

// The tiles of one kernel and stride, by edge (true or false), rows and columns. KERNEL 0: any
// kernel.
struct Tiles {
    Tile of[2][kRows + 1][kColumns + 1];
};
template <int KERNEL, int STRIDE, int ROWS, int COLUMNS>
constexpr void fill(Tiles& t) {
    if constexpr (ROWS > 0 && COLUMNS > 0) {
        if constexpr (KERNEL > 0) {
            t.of[false][ROWS][COLUMNS] = square_tile<KERNEL, STRIDE, false, ROWS, COLUMNS>;
            t.of[true][ROWS][COLUMNS] = square_tile<KERNEL, STRIDE, true, ROWS, COLUMNS>;
            fill<KERNEL, STRIDE, ROWS - 1, COLUMNS>(t);
        } else {
            t.of[false][1][COLUMNS] = any_tile<false, COLUMNS>;
            t.of[true][1][COLUMNS] = any_tile<true, COLUMNS>;
        }
        if constexpr (ROWS == kRows) fill<KERNEL, STRIDE, ROWS, COLUMNS - 1>(t);
    }
}
template <int KERNEL, int STRIDE>
constexpr Tiles make_tiles() {
    Tiles t{};
    fill<KERNEL, STRIDE, kRows, kColumns>(t);
    return t;
}
constexpr Tiles kAny = make_tiles<0, 0>();
template <int KERNEL, int STRIDE>
constexpr Tiles kSquare = make_tiles<KERNEL, STRIDE>();

const Tiles& tiles_for([[maybe_unused]] const DepthwiseArgs& a) {
    if constexpr (kDepthwiseShape.keeps_inputs) {
        const bool square = a.kernel_d == 1 && a.kernel_h == a.kernel_w &&
                            a.stride_h == a.stride_w && a.dilation_h == 1 && a.dilation_w == 1;
        if (square && (a.stride_w == 1 || a.stride_w == 2)) {
            const bool ones = a.stride_w == 1;
            if (a.kernel_w == 3) return ones ? kSquare<3, 1> : kSquare<3, 2>;
            if (a.kernel_w == 5) return ones ? kSquare<5, 1> : kSquare<5, 2>;
            if (a.kernel_w == 7) return ones ? kSquare<7, 1> : kSquare<7, 2>;
        }
    }
    return kAny;
}

int64_t bands(const DepthwiseArgs& a) { return ceil_div(a.out_h, kBandRows); }

// The taps [t0, t1) of a window that lie inside an axis of `size`, the first being at `at`.
struct Taps {
    int t0, t1;
    Taps(int64_t at, int64_t kernel, int64_t dilation, int64_t size) {
        t0 = static_cast<int>(at < 0 ? smaller(kernel, ceil_div(-at, dilation)) : 0);
        const int64_t reach = at >= size ? 0 : ceil_div(size - at, dilation);
        t1 = static_cast<int>(larger<int64_t>(t0, smaller(kernel, reach)));
    }
};

struct Depthwise {
    const DepthwiseArgs& g;
    const Tiles& tiles;
    const Layer l;
    const int max_rows, pieces, narrow, wider;  // rows of a tile; tiles of a row, and their columns

    Depthwise(const DepthwiseArgs& args, const Layer& layer)
        : g(args),
          tiles(tiles_for(args)),
          l(layer),
          max_rows(tiles.of[false][kRows][1] ? kRows : 1),
          pieces(static_cast<int>(ceil_div(args.out_w, kColumns))),
          narrow(args.out_w / pieces),
          wider(args.out_w % pieces) {}

    // Rows [h0, h1) of one plane of one block. x is the plane's first pixel at the first tap's
    // depth.
    void rows(const float* x, const float* w, const float* bias, float* y, int64_t h0, int64_t h1,
              Taps depth) const {
        for (int64_t h = h0, next; h < h1; h = next) {
            const Taps taps = taps_of_row(h);
            const bool high = whole(taps);
            next = h + 1;
            if (max_rows == 2 && high && next < h1 && whole(taps_of_row(next))) ++next;
            Inside in{depth.t0, depth.t1, taps.t0, taps.t1, 0, 0};
            row(x + (h * g.stride_h - g.pad_h) * g.x.row, w, bias, y + h * g.y.row,
                static_cast<int>(next - h), in, high && depth.t1 - depth.t0 == g.kernel_d);
            for (int64_t r = h; r < next && !is_clamp(g.epilogue); ++r)
                activate(g.epilogue, y + r * g.y.row, g.out_w * 16);
        }
    }

private:
    Taps taps_of_row(int64_t h) const {
        return {h * g.stride_h - g.pad_h, g.kernel_h, g.dilation_h, g.in_h};
    }
    bool whole(Taps taps) const { return taps.t1 - taps.t0 == g.kernel_h; }

    // One or two rows at once; `high`: all taps of a column meet the image.
    void row(const float* x, const float* w, const float* bias, float* y, int rows, Inside in,
             bool high) const {
        int64_t pixel = -int64_t{g.pad_w};
        for (int t = 0; t < pieces; ++t) {
            const int columns = narrow + (t < wider);
            const int64_t reach =
                int64_t{columns - 1} * g.stride_w + int64_t{g.kernel_w - 1} * g.dilation_w + 1;
            in.first = larger<int64_t>(0, -pixel);
            in.last = smaller<int64_t>(reach, g.in_w - pixel);
            const bool edge = !high || in.first > 0 || in.last < reach;
            tiles.of[edge][rows][columns](l, in, x + pixel * 16, w, bias, y);
            pixel += int64_t{columns} * g.stride_w;
            y += columns * 16;
        }
    }
};

}  // namespace

void depthwise(const DepthwiseArgs& args, const Context& context, int64_t begin, int64_t end) {
    const Depthwise kernel(args, {.x_plane = args.dilation_d * args.x.plane,
                                  .x_row = args.dilation_h * args.x.row,
                                  .y_row = args.y.row,
                                  .kernel_d = args.kernel_d,
                                  .kernel_h = args.kernel_h,
                                  .kernel_w = args.kernel_w,
                                  .tap = args.dilation_w * 16,
                                  .step = args.stride_w * 16,
                                  .limits = limits_of(args.epilogue)});
    const int64_t taps = int64_t{args.kernel_d} * args.kernel_h * args.kernel_w;
    const float *x0 = context.at(args.x.at), *w0 = context.at(args.weight);
    const float* bias = context.at(args.bias);
    float* y0 = context.at(args.y.at);

    const int64_t in_plane = bands(args);
    for_each_rectangle(begin, end, args.blocks, [&](int64_t i, int64_t i1, int64_t o0, int64_t o1) {
        while (i < i1) {
            // This task's bands of one plane, in one go: their rows follow one another.
            const int64_t band = i % in_plane, plane = i / in_plane;
            const int64_t stop = smaller(in_plane, band + (i1 - i));
            const int64_t h0 = args.out_h * band / in_plane, h1 = args.out_h * stop / in_plane;
            const int64_t n = plane / args.out_d, d = plane % args.out_d;
            const int64_t depth = d * args.stride_d - args.pad_d;
            const Taps in_depth(depth, args.kernel_d, args.dilation_d, args.in_d);
            i += stop - band;
            for (int64_t o = o0; o < o1; ++o) {
                float* y = y0 + n * args.y.image + o * args.y.block + d * args.y.plane;
                kernel.rows(x0 + n * args.x.image + o * args.x.block + depth * args.x.plane,
                            w0 + o * taps * 16, bias + o * 16, y, h0, h1, in_depth);
            }
        }
    });
}

int64_t depthwise_tasks(const DepthwiseArgs& args) {
    return int64_t{args.n} * args.out_d * bands(args) * args.blocks;
}

}  // namespace cnnrt::CNNRT_ISA
