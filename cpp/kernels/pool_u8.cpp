// Max and average pooling of blocked bytes, pixel by pixel, over windows clipped to the image.
#include "output_u8.h"
#include "windows.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kBandRows = 8;  // of the output, in one task

// Calls f(pixel) for every tap of the window of one output, in the order of the taps.
template <class F>
CNNRT_INLINE void for_each_tap(const PoolBytesArgs& g, const uint8_t* x, const Window& d,
                               const Window& h, const Window& w, F f) {
    for (int i = d.begin; i < d.end; i += g.dilation_d)
        for (int j = h.begin; j < h.end; j += g.dilation_h) {
            const uint8_t* row = x + i * g.x.plane + j * g.x.row;
            for (int k = w.begin; k < w.end; k += g.dilation_w) f(row + k * 16);
        }
}

CNNRT_INLINE void store_pixel(uint8_t* y, const PoolBytesArgs& g, i32x16 q, int zero) {
    uint8_t bytes[64];
    const i32x16 none = broadcast_i32(0);
    store_u8(bytes, pack4(q, none, none, none, zero));
    for (int l = 0; l < 16; ++l) {
        const int v = bytes[l];
        y[l] = static_cast<uint8_t>(v < g.low ? g.low : v > g.high ? g.high : v);
    }
}

void pool_pixel(const PoolBytesArgs& g, const uint8_t* x, const Window& d, const Window& h,
                const Window& w, uint8_t* y) {
    if (g.mode == Pool::max) {
        uint8_t most[16] = {};
        for_each_tap(g, x, d, h, w, [&](const uint8_t* p) {
            for (int l = 0; l < 16; ++l) most[l] = most[l] > p[l] ? most[l] : p[l];
        });
        __builtin_memcpy(y, most, 16);
        return;
    }
    const i32x16 centre = broadcast_i32(-g.x_zero);
    if (g.whole) {
        i32x16 total = broadcast_i32(0);
        for_each_tap(g, x, d, h, w,
                     [&](const uint8_t* p) { total = add(total, add(widen(p), centre)); });
        store_pixel(y, g, to_int(mul(to_float(total), broadcast(g.scale))), g.zero);
        return;
    }
    const f32x16 scale = broadcast(g.scale);
    f32x16 total = broadcast(0.0f);
    for_each_tap(g, x, d, h, w, [&](const uint8_t* p) {
        total = add(total, mul(scale, to_float(add(widen(p), centre))));
    });
    const int count = d.count * h.count * w.count;
    const f32x16 mean = div(div(total, broadcast(static_cast<float>(count))), broadcast(g.y_scale));
    const f32x16 zero = broadcast(static_cast<float>(g.zero - g.shift));
    store_pixel(y, g, to_int(add(mean, zero)), g.shift);
}

}  // namespace

void pool_u8(const PoolBytesArgs& g, const Context& context, int64_t begin, int64_t end) {
    const uint8_t* x = context.at<const uint8_t>(g.x.at);
    uint8_t* y = context.at<uint8_t>(g.y.at);
    const Window* windows_d = context.at<const Window>(g.windows_d);
    const Window* windows_h = context.at<const Window>(g.windows_h);
    const Window* windows_w = context.at<const Window>(g.windows_w);
    const int64_t bands = ceil_div(g.out_h, kBandRows), per_image = bands * g.out_d;
    for (int64_t task = begin; task < end; ++task) {
        const int64_t plane = task / per_image, d = task % per_image / bands, band = task % bands;
        const int64_t n = plane / g.blocks, block = plane % g.blocks;
        const uint8_t* from = x + n * g.x.image + block * g.x.block;
        uint8_t* to = y + n * g.y.image + block * g.y.block + d * g.y.plane;
        const int64_t stop = smaller<int64_t>(g.out_h, (band + 1) * kBandRows);
        for (int64_t h = band * kBandRows; h < stop; ++h)
            for (int64_t w = 0; w < g.out_w; ++w)
                pool_pixel(g, from, windows_d[d], windows_h[h], windows_w[w],
                           to + h * g.y.row + w * 16);
    }
}

int64_t pool_u8_tasks(const PoolBytesArgs& g) {
    return int64_t{g.n} * g.blocks * g.out_d * ceil_div(g.out_h, kBandRows);
}

}  // namespace cnnrt::CNNRT_ISA
