// Max and average pooling of plain tensors with too few channels to block, over windows given as
// for `pool`. The rows of a window are reduced to one row first, in vectors; then each output
// reduces its taps of that row.
#include "windows.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <Pool MODE>
CNNRT_INLINE float join(float a, float x) {
    if constexpr (MODE == Pool::average) return a + x;
    return x > a || x != x ? x : a;  // NaN wins, and stays
}

template <Pool MODE>
CNNRT_INLINE float start() {
    return MODE == Pool::average ? 0.0f : -__builtin_inff();
}

template <Pool MODE>
void join_row(const float* x, float* row, int64_t n) {
    for (int64_t i = 0; i < n; ++i) row[i] = join<MODE>(row[i], x[i]);
}

// Outputs [first, last). Their windows have `taps` elements, `step` apart, and begin `stride`
// elements after each other.
template <Pool MODE>
void join_taps(const float* row, const Window* w, int64_t first, int64_t last, int64_t taps,
               int64_t stride, int64_t step, float* y) {
    const int64_t n = last - first;
    const float* x = row + w[first].begin;
    float* to = y + first;
    const auto loop = [&](int64_t s) __attribute__((always_inline)) {
        for (int64_t o = 0; o < n; ++o) to[o] = x[o * s];
        for (int64_t k = 1; k < taps; ++k)
            for (int64_t o = 0; o < n; ++o) to[o] = join<MODE>(to[o], x[o * s + k * step]);
    };
    // The usual strides are constants, so that the compiler makes vectors of them.
    if (stride == 1)
        loop(1);
    else if (stride == 2)
        loop(2);
    else
        loop(stride);
}

template <Pool MODE>
void pool_rows(const PoolPlanarArgs& args, const Context& context, int64_t begin, int64_t end) {
    const Window* windows_d = context.at<const Window>(args.windows_d);
    const Window* windows_h = context.at<const Window>(args.windows_h);
    const Window* windows_w = context.at<const Window>(args.windows_w);
    float* row = reinterpret_cast<float*>(context.scratch);
    const RegularWindows regular(windows_w, args.out_w, args.dilation_w);
    for (int64_t task = begin; task < end; ++task) {
        const int64_t h = task % args.out_h, d = task / args.out_h % args.out_d;
        const int64_t plane = task / args.out_h / args.out_d;
        const float* x = context.at(args.x) + plane * args.in_d * args.in_h * args.in_w;
        float* y = context.at(args.y) + task * args.out_w;
        const Window &wd = windows_d[d], &wh = windows_h[h];
        for (int64_t i = 0; i < args.in_w; ++i) row[i] = start<MODE>();
        for (int64_t i = wd.begin; i < wd.end; i += args.dilation_d)
            for (int64_t j = wh.begin; j < wh.end; j += args.dilation_h)
                join_row<MODE>(x + (i * args.in_h + j) * args.in_w, row, args.in_w);
        if (regular.first < regular.last)
            join_taps<MODE>(row, windows_w, regular.first, regular.last, regular.taps,
                            regular.stride, args.dilation_w, y);
        for (int64_t o = 0; o < args.out_w; ++o) {
            if (o == regular.first) o = larger<int64_t>(o, regular.last);
            if (o == args.out_w) break;
            float v = start<MODE>();
            for (int64_t k = windows_w[o].begin; k < windows_w[o].end; k += args.dilation_w)
                v = join<MODE>(v, row[k]);
            y[o] = v;
        }
        if constexpr (MODE == Pool::average) {
            const float count = static_cast<float>(wd.count) * static_cast<float>(wh.count);
            for (int64_t o = 0; o < args.out_w; ++o)
                y[o] = y[o] / (count * static_cast<float>(windows_w[o].count));
        }
    }
}

}  // namespace

void pool_planar(const PoolPlanarArgs& args, const Context& context, int64_t begin, int64_t end) {
    if (args.mode == Pool::max)
        pool_rows<Pool::max>(args, context, begin, end);
    else
        pool_rows<Pool::average>(args, context, begin, end);
}

int64_t pool_planar_tasks(const PoolPlanarArgs& args) {
    return int64_t{args.planes} * args.out_d * args.out_h;
}

int64_t pool_planar_scratch(const PoolPlanarArgs& args) { return int64_t{args.in_w} * 4; }

}  // namespace cnnrt::CNNRT_ISA
