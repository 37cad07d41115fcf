// Max and average pooling of blocked bytes, pixel by pixel, over windows clipped to the image.
#include "../simd/pixel.h"
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

void max_pixel(const PoolBytesArgs& g, const uint8_t* x, const Window& d, const Window& h,
               const Window& w, uint8_t* y) {
    u8x16 most = {};
    const int64_t step = int64_t{g.dilation_w} * 16;
    const int taps = taps_of(w, g.dilation_w);
    for (int i = d.begin; i < d.end; i += g.dilation_d)
        for (int j = h.begin; j < h.end; j += g.dilation_h) {
            const uint8_t* p = x + i * g.x.plane + j * g.x.row + w.begin * int64_t{16};
            for (int k = 0; k < taps; ++k, p += step) most = max(most, load_pixel(p));
        }
    store_pixel(y, most);
}

// The mean of a window, not yet clamped.
CNNRT_INLINE i32x16 mean(const PoolBytesArgs& g, const uint8_t* x, const Window& d, const Window& h,
                         const Window& w) {
    const i32x16 centre = broadcast_i32(-g.x_zero);
    if (g.whole) {
        i32x16 total = broadcast_i32(0);
        for_each_tap(g, x, d, h, w,
                     [&](const uint8_t* p) { total = add(total, add(widen(p), centre)); });
        return to_int(mul(to_float(total), broadcast(g.scale)));
    }
    const f32x16 scale = broadcast(g.scale);
    f32x16 total = broadcast(0.0f);
    for_each_tap(g, x, d, h, w, [&](const uint8_t* p) {
        total = add(total, mul(scale, to_float(add(widen(p), centre))));
    });
    const int count = d.count * h.count * w.count;
    const f32x16 mean = div(div(total, broadcast(static_cast<float>(count))), broadcast(g.y_scale));
    return to_int(add(mean, broadcast(static_cast<float>(g.zero - g.shift))));
}

// A row of means. Four pixels are packed, clamped and stored as one vector.
void mean_row(const PoolBytesArgs& g, const uint8_t* x, const Window& d, const Window& h,
              const Window* w, uint8_t* y) {
    alignas(64) uint8_t limits[128];
    __builtin_memset(limits, g.low, 64);
    __builtin_memset(limits + 64, g.high, 64);
    const u8x64 low = load_u8(limits), high = load_u8(limits + 64);
    const int zero = g.whole ? g.zero : g.shift;
    for (int64_t c = 0; c < g.out_w; c += 4) {
        const int pixels = static_cast<int>(smaller<int64_t>(4, g.out_w - c));
        i32x16 means[4];
        for (int i = 0; i < 4; ++i) means[i] = mean(g, x, d, h, w[c + (i < pixels ? i : 0)]);
        const u8x64 v = pack4(means[0], means[1], means[2], means[3], zero);
        store_pixels(y + c * 16, pixels, min(max(v, low), high));
    }
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
        for (int64_t h = band * kBandRows; h < stop; ++h) {
            uint8_t* row = to + h * g.y.row;
            if (g.mode == Pool::average)
                mean_row(g, from, windows_d[d], windows_h[h], windows_w, row);
            else
                for (int64_t w = 0; w < g.out_w; ++w)
                    max_pixel(g, from, windows_d[d], windows_h[h], windows_w[w], row + w * 16);
        }
    }
}

int64_t pool_u8_tasks(const PoolBytesArgs& g) {
    return int64_t{g.n} * g.blocks * g.out_d * ceil_div(g.out_h, kBandRows);
}

}  // namespace cnnrt::CNNRT_ISA
