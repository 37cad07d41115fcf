// Max and average pooling of blocked tensors, 1 to 3 dimensions, over windows given per output
// position and axis. Windows are clipped to the image: no border is needed.
//
// Regular windows along the width have 2, 3 or 5 taps and stride 1 or 2. There a few outputs that
// share columns are computed at once. They are neighbours, or one dilation apart. Inputs are
// reduced down the columns first, each loaded once, then across them. Other outputs go pixel by
// pixel with four partial results, so pooling a whole image is not a chain of dependent operations.
// The choice, and so the order of a sum, depends on the layer's shape alone.
#include "windows.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int kStrip = kTileRows * kTileBlocks >= 28 ? 4 : 2;  // outputs computed at once
constexpr int64_t kBandRows = 8;                               // of the output, in one task

// The rows of taps that all outputs of one output row read, from the image's column 0 on.
struct Rows {
    const float* x;
    int planes, rows;              // taps along depth and height
    int64_t plane_step, row_step;  // floats from a tap to the next
    float count;                   // what an average divides by along these axes
    Limits limits;                 // of the epilogue
};

template <Pool MODE>
CNNRT_INLINE f32x16 join(f32x16 a, f32x16 x) {
    if constexpr (MODE == Pool::average) return add(a, x);
    return max_or_nan(a, x);
}

template <Pool MODE>
CNNRT_INLINE void finish(const Rows& r, float* y, f32x16 v, int count) {
    if constexpr (MODE == Pool::average) v = div(v, broadcast(r.count * static_cast<float>(count)));
    store(y, min(broadcast(r.limits.high), max(broadcast(r.limits.low), v)));
}

// One output with any window.
template <Pool MODE>
void pool_pixel(const Rows& r, const Window& w, int dilation, float* y) {
    const int taps = taps_of(w, dilation);
    const int64_t step = int64_t{dilation} * 16;
    const f32x16 start = broadcast(MODE == Pool::max ? -__builtin_inff() : 0.0f);
    f32x16 a = start, b = start, c = start, d = start;
    for (int i = 0; i < r.planes; ++i)
        for (int j = 0; j < r.rows; ++j) {
            const float* p = r.x + i * r.plane_step + j * r.row_step + int64_t{w.begin} * 16;
            int k = 0;
            for (; k + 4 <= taps; k += 4, p += 4 * step) {
                a = join<MODE>(a, load(p));
                b = join<MODE>(b, load(p + step));
                c = join<MODE>(c, load(p + 2 * step));
                d = join<MODE>(d, load(p + 3 * step));
            }
            if (k < taps) a = join<MODE>(a, load(p));
            if (k + 1 < taps) b = join<MODE>(b, load(p + step));
            if (k + 2 < taps) c = join<MODE>(c, load(p + 2 * step));
        }
    finish<MODE>(r, y, join<MODE>(join<MODE>(a, b), join<MODE>(c, d)), w.count);
}

// Computes COUNT outputs of KERNEL taps each, STRIDE taps apart, from column `x` on. Two taps are
// `step` floats apart. A dilated pool has STRIDE 1: its outputs are also `step` floats apart.
template <Pool MODE, int KERNEL, int STRIDE, int COUNT>
CNNRT_INLINE void pool_strip(const Rows& r, int64_t x, int64_t step, int count, float* y) {
    constexpr int kInputs = (COUNT - 1) * STRIDE + KERNEL;
    const float* plane = r.x + x * 16;
    f32x16 column[kInputs];
#pragma GCC unroll 16
    for (int i = 0; i < kInputs; ++i) column[i] = load(plane + i * step);
    for (int d = 0; d < r.planes; ++d, plane += r.plane_step) {
        for (int h = d == 0; h < r.rows; ++h) {
            const float* p = plane + h * r.row_step;
#pragma GCC unroll 16
            for (int i = 0; i < kInputs; ++i) column[i] = join<MODE>(column[i], load(p + i * step));
        }
    }
#pragma GCC unroll 4
    for (int o = 0; o < COUNT; ++o) {
        f32x16 v = column[o * STRIDE];
#pragma GCC unroll 4
        for (int k = 1; k < KERNEL; ++k) v = join<MODE>(v, column[o * STRIDE + k]);
        finish<MODE>(r, y + o * step, v, count);
    }
}

// Outputs [first, last) of a row, whose windows are regular.
template <Pool MODE, int KERNEL, int STRIDE>
void pool_run(const Rows& r, const Window* w, int dilation, int first, int last, float* y) {
    const int64_t step = int64_t{dilation} * 16;
    for (int start = first; start < smaller(last, first + dilation); ++start) {
        int o = start;
        for (; o + (kStrip - 1) * dilation < last; o += kStrip * dilation)
            pool_strip<MODE, KERNEL, STRIDE, kStrip>(r, w[o].begin, step, w[o].count, y + o * 16);
        for (; o < last; o += dilation)
            pool_strip<MODE, KERNEL, STRIDE, 1>(r, w[o].begin, step, w[o].count, y + o * 16);
    }
}

using Run = void (*)(const Rows&, const Window*, int, int, int, float*);

// The function for regular windows of this size and stride, or null.
template <Pool MODE>
Run find_run(const RegularWindows& w, int n, int dilation) {
    if (w.first == w.last || dilation > n) return nullptr;
    if (w.stride > (dilation == 1 ? 2 : 1)) return nullptr;
    const bool twos = w.stride == 2;
    switch (w.taps) {
        case 2:
            return twos ? pool_run<MODE, 2, 2> : pool_run<MODE, 2, 1>;
        case 3:
            return twos ? pool_run<MODE, 3, 2> : pool_run<MODE, 3, 1>;
        case 5:
            return twos ? nullptr : pool_run<MODE, 5, 1>;
        default:
            return nullptr;
    }
}

int64_t bands(const PoolArgs& a) { return ceil_div(a.out_h, kBandRows); }

template <Pool MODE>
void pool_bands(const PoolArgs& args, const Context& context, int64_t begin, int64_t end) {
    const Window* windows_d = context.at<const Window>(args.windows_d);
    const Window* windows_h = context.at<const Window>(args.windows_h);
    const Window* windows_w = context.at<const Window>(args.windows_w);
    const float* x = context.at(args.x.at);
    float* y = context.at(args.y.at);
    const Epilogue& e = args.epilogue;
    const Limits limits = limits_of(e);
    const RegularWindows regular(windows_w, args.out_w, args.dilation_w);
    const Run run = find_run<MODE>(regular, args.out_w, args.dilation_w);

    const int64_t in_plane = bands(args);
    for_each_rectangle(begin, end, args.blocks, [&](int64_t i, int64_t i1, int64_t o0, int64_t o1) {
        while (i < i1) {
            // This task's bands of one plane, in one go.
            const int64_t band = i % in_plane, plane = i / in_plane;
            const int64_t stop = smaller(in_plane, band + (i1 - i));
            const int64_t h0 = args.out_h * band / in_plane, h1 = args.out_h * stop / in_plane;
            const int64_t n = plane / args.out_d, d = plane % args.out_d;
            const Window& wd = windows_d[d];
            i += stop - band;
            for (int64_t o = o0; o < o1; ++o)
                for (int64_t h = h0; h < h1; ++h) {
                    const Window& wh = windows_h[h];
                    const Rows r{.x = x + n * args.x.image + o * args.x.block +
                                      wd.begin * args.x.plane + wh.begin * args.x.row,
                                 .planes = taps_of(wd, args.dilation_d),
                                 .rows = taps_of(wh, args.dilation_h),
                                 .plane_step = args.dilation_d * args.x.plane,
                                 .row_step = args.dilation_h * args.x.row,
                                 .count = static_cast<float>(wd.count) * wh.count,
                                 .limits = limits};
                    const bool fast = run && r.planes > 0 && r.rows > 0;
                    const int first = fast ? regular.first : args.out_w;
                    const int last = fast ? regular.last : args.out_w;
                    float* row =
                        y + n * args.y.image + o * args.y.block + d * args.y.plane + h * args.y.row;
                    for (int w = 0; w < first; ++w)
                        pool_pixel<MODE>(r, windows_w[w], args.dilation_w, row + w * 16);
                    if (fast) run(r, windows_w, args.dilation_w, first, last, row);
                    for (int w = last; w < args.out_w; ++w)
                        pool_pixel<MODE>(r, windows_w[w], args.dilation_w, row + w * 16);
                    if (!is_clamp(e)) activate(e, row, int64_t{args.out_w} * 16);
                }
        }
    });
}

}  // namespace

void pool(const PoolArgs& args, const Context& context, int64_t begin, int64_t end) {
    if (args.mode == Pool::max)
        pool_bands<Pool::max>(args, context, begin, end);
    else
        pool_bands<Pool::average>(args, context, begin, end);
}

int64_t pool_tasks(const PoolArgs& args) {
    return int64_t{args.n} * args.out_d * bands(args) * args.blocks;
}

}  // namespace cnnrt::CNNRT_ISA
