// The bounds of the kernels on bytes.

#include "bounds_parts.h"

namespace cnnrt {
namespace {

// What a kernel with a Requant reads for each output, and its table. Limits of bytes are bytes.
template <class Args>
void requantised(const Args& f, Checked channels, const Bounds& bounds) {
    const Requant& r = f.requant;
    need(r.floats >= 0 && r.floats <= 2, "another kind of result");
    need(0 <= r.low && r.low <= r.high && r.high <= 255, "limits beyond a byte");
    need(0 <= r.zero && r.zero <= 255 && 0 <= r.shift && r.shift <= 255, "a zero point of no byte");
    need(r.floats == 2 || f.factors, "no factors");
    bounds.first(f.bias, channels);
    bounds.first(f.factors, channels);
    bounds.first(f.table, 256, 1);
}

}  // namespace

void conv_u8_bounds(const ConvArgs& f, const Bounds& bounds) {
    const Checked taps = Checked(f.taps) + f.last_taps;
    need(f.taps >= 0 && f.last_taps >= 0, "fewer than no taps");
    Extremes reach = extremes(bounds.table(f.offsets, taps), taps.value());
    if (f.windows) {
        const int32_t* const windows = bounds.table(f.windows, Checked(f.blocks) * 2);
        const Extremes start = extremes(windows, f.blocks, 2);
        const Extremes depth = extremes(windows + 1, f.blocks, 2);
        reach.low += start.low;
        reach.high += start.high;
        need(depth.low >= 1 && depth.high <= kBlock, "a depth beyond a block");
    }
    need(f.last_depth >= 0 && f.last_depth <= kBlock, "a depth beyond a block");
    need(!f.group && !f.group_c && !f.scale, "groups or scales of floats");
    windows_of_taps(f);
    bounds.first(f.share,
                 Checked(f.kernel_d) * f.kernel_h * f.kernel_w * Checked(f.blocks) * kBlock);
    const Checked depth =
        Checked(f.taps) * kBlock + Checked(f.last_taps) * (ceil_div(f.last_depth, 4) * 4);
    need(depth * kBlock <= f.panel, "weights beyond a panel");
    const auto [first, last] =
        span({{f.n, f.x.image}, {f.out_d, f.step_d}, {f.out_h, f.step_h}, {f.out_w, f.step_w}});
    bounds.use(f.x.at, first + reach.low, last - 1 + reach.high + kBlock, 1);
    bounds.first(f.weight, Checked(f.blocks) * f.panel, 1);
    need(bounds.holds(f.y, f.requant.floats ? 4 : 1) && bounds.holds(f.residual, 1),
         "results of another size");
    requantised(f, Checked(f.blocks) * kBlock, bounds);
    bounds.first(f.added, Checked(f.blocks) * kBlock);
    outputs(f, f.y, bounds);
    outputs(f, f.residual, bounds);
}

void depthwise_u8_bounds(const DepthwiseBytesArgs& f, const Bounds& bounds) {
    need(f.kernel_d >= 1 && f.kernel_h >= 1 && f.kernel_w >= 1, "an empty kernel");
    for (const int32_t step : {f.stride_d, f.stride_h, f.stride_w, f.dilation_h, f.dilation_w})
        need(step >= 1, "no step between taps");
    need(f.dilation_d >= 0, "planes in the wrong order");  // 0: all taps read one plane
    const int64_t quads = ceil_div(f.kernel_w, 4);
    const auto [low, high] = span({{f.n, f.x.image},
                                   {f.blocks, f.x.block},
                                   {f.out_d, Checked(f.x.plane) * f.stride_d},
                                   {f.kernel_d, Checked(f.x.plane) * f.dilation_d},
                                   {f.out_h, Checked(f.x.row) * f.stride_h},
                                   {f.kernel_h, Checked(f.x.row) * f.dilation_h},
                                   {f.out_w, Checked(kBlock) * f.stride_w},
                                   {quads * 4, Checked(kBlock) * f.dilation_w}},
                                  kBlock);
    bounds.use(f.x.at, low, high, 1);
    bounds.first(f.weight, Checked(f.blocks) * f.kernel_d * f.kernel_h * (quads * 64), 1);
    need(bounds.holds(f.y, 1) && !f.requant.floats, "results of another size");
    requantised(f, Checked(f.blocks) * kBlock, bounds);
    outputs(f, f.y, bounds);
}

void linear_u8_bounds(const LinearArgs& f, const Bounds& bounds) {
    const int64_t padded = ceil_div(f.columns, kBlock) * kBlock;
    const int64_t size = f.requant.floats ? 4 : 1;
    bounds.strided(f.x, {{f.rows, f.x_row}, {f.depth, 1}}, 1);
    bounds.strided(f.y, {{f.rows, f.y_row}, {f.columns, 1}}, size);
    bounds.strided(f.residual, {{f.rows, f.residual_row}, {f.columns, 1}}, 1);
    bounds.first(f.weight, Checked(padded) * ceil_div(f.depth, 4) * 4, 1);
    requantised(f, padded, bounds);
    bounds.first(f.added, padded);
}

void pool_u8_bounds(const PoolBytesArgs& f, const Bounds& bounds) {
    const View& v = f.x;
    const struct {
        const Ref& table;
        int32_t out, dilation;
        int64_t step;
    } axes[] = {{f.windows_d, f.out_d, f.dilation_d, v.plane},
                {f.windows_h, f.out_h, f.dilation_h, v.row},
                {f.windows_w, f.out_w, f.dilation_w, kBlock}};
    Checked first = 0, last = 0;
    for (const auto& axis : axes) {
        const int32_t* const windows = bounds.table(axis.table, Checked(axis.out) * 3);
        const Extremes all = extremes(windows, int64_t{axis.out} * 3);
        need(all.low >= 0 && axis.dilation >= 1, "a window before the image");
        first = first + extremes(windows, axis.out, 3).low * Checked(axis.step);
        last = last + std::max<int64_t>(0, extremes(windows + 1, axis.out, 3).high - 1) *
                          Checked(axis.step);
    }
    need(0 <= f.low && f.low <= f.high && f.high <= 255, "limits beyond a byte");
    need(0 <= f.zero && f.zero <= 255 && 0 <= f.shift && f.shift <= 255, "a zero point of no byte");
    need(bounds.holds(f.x, 1) && bounds.holds(f.y, 1), "elements of another size");
    window_pixels(v, f.n, f.blocks, first, last, bounds);
    outputs(f, f.y, bounds);
}

void byte_pair_bounds(const BytePairArgs& f, const Bounds& bounds) {
    need(f.op == Binary::add || f.op == Binary::mul, "another operation");
    need(0 <= f.low && f.low <= f.high && f.high <= 255, "limits beyond a byte");
    need(0 <= f.shift && f.shift <= 255, "a shift of no byte");
    need(bounds.holds(f.a, 1) && bounds.holds(f.b, 1) && bounds.holds(f.y, 1),
         "elements of another size");
    bounds.pixels(f.a, f.n, f.blocks, f.d, f.h, f.w);
    if (f.gate)
        bounds.pixels(f.b, f.n, f.blocks, 1, 1, 1);
    else
        bounds.pixels(f.b, f.n, f.blocks, f.d, f.h, f.w);
    bounds.pixels(f.y, f.n, f.blocks, f.d, f.h, f.w);
}

void lookup_u8_bounds(const LookupArgs& f, const Bounds& bounds) {
    const Axes x = axes_of(f.dims, f.shape, f.x_stride), y = axes_of(f.dims, f.shape, f.y_stride);
    need(x.back().stride == 1 && y.back().stride == 1, "rows that are not contiguous");
    bounds.strided(f.x, x, 1);
    bounds.strided(f.y, y, 1);
    bounds.first(f.table, 256, 1);
}

}  // namespace cnnrt
