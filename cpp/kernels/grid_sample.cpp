// Samples images between their pixels, at the points of a grid. The offsets and weights of a
// point's taps are computed once for all channels. Blocked images are read 16 channels at a time.
// Plain ones of few channels are read tap by tap: blocks of a picture would be five times as large
// as it is.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kPoints = 64;  // in one task
constexpr int kMaxTaps = 4;      // along one axis

// The taps along one axis: pixels inside the image, and their weights.
struct AxisTaps {
    int64_t index[kMaxTaps] = {};
    double weight[kMaxTaps] = {1.0};
    int count = 1;
};

CNNRT_INLINE double clamped(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;  // NaN stays
}

// x mirrored at both bounds until it is within them.
CNNRT_INLINE double reflected(double x, double low, double high) {
    if (high <= low) return low;
    const double period = 2 * (high - low), from_low = x - low;
    const double distance = __builtin_fmod(from_low < 0 ? -from_low : from_low, period);
    return low + (distance < period - distance ? distance : period - distance);
}

// The convolution kernel of Keys (1981) with a = -0.75.
CNNRT_INLINE double cubic(double t) {
    constexpr double a = -0.75;
    t = t < 0 ? -t : t;
    if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
    return t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0;
}

// The pixel that a coordinate of the grid names, along an axis of `size` pixels.
CNNRT_INLINE double pixel_of(bool corners, double place, double size) {
    return corners ? (place + 1) / 2 * (size - 1) : ((place + 1) * size - 1) / 2;
}

template <class Args>
CNNRT_INLINE AxisTaps taps_of(const Args& a, double place, int64_t size) {
    const double last = static_cast<double>(size - 1);
    const double low = a.align_corners ? 0.0 : -0.5, high = a.align_corners ? last : last + 0.5;
    double x = pixel_of(a.align_corners, place, static_cast<double>(size));
    if (a.mode == Sampling::nearest) x = __builtin_rint(x);
    if (a.mode != Sampling::cubic) {  // cubic moves its taps inside one by one, not the point
        if (a.padding == Padding::border && (x < low || x > high)) x = clamped(x, 0, last);
        if (a.padding == Padding::reflection) x = reflected(x, low, high);
    }

    const double floor = __builtin_floor(x);
    int count = 1;
    double first = __builtin_rint(x);
    if (a.mode == Sampling::linear) count = 2, first = floor;
    if (a.mode == Sampling::cubic) count = 4, first = floor - 1;
    AxisTaps taps;
    taps.count = 0;
    for (int i = 0; i < count; ++i) {
        double index = first + i, weight = 1;
        if (a.mode == Sampling::linear) weight = i == 0 ? floor + 1 - x : x - floor;
        if (a.mode == Sampling::cubic) weight = cubic(index - x);
        if (a.padding == Padding::border) index = clamped(index, 0, last);
        if (a.padding == Padding::reflection)
            index = clamped(__builtin_rint(reflected(index, low, high)), 0, last);
        if (!(index >= 0 && index <= last)) continue;  // outside, or NaN
        taps.index[taps.count] = static_cast<int64_t>(index);
        taps.weight[taps.count++] = weight;
    }
    return taps;
}

// Distances between pixels, in floats.
struct Steps {
    int64_t plane, row, pixel;
};

// All taps of a point: offsets in floats from the first pixel, and weights.
struct Taps {
    int64_t offset[kMaxTaps * kMaxTaps * kMaxTaps];
    float weight[kMaxTaps * kMaxTaps * kMaxTaps];
    int count = 0;

    template <class Args>
    CNNRT_INLINE Taps(const Args& a, const Steps& steps, const float* place) {
        // The grid's coordinates run from the innermost axis outwards.
        AxisTaps w = taps_of(a, static_cast<double>(place[0]), a.in_w), h, d;
        if (a.rank > 1) h = taps_of(a, static_cast<double>(place[1]), a.in_h);
        if (a.rank > 2) d = taps_of(a, static_cast<double>(place[2]), a.in_d);
        for (int i = 0; i < d.count; ++i)
            for (int j = 0; j < h.count; ++j)
                for (int k = 0; k < w.count; ++k, ++count) {
                    offset[count] = d.index[i] * steps.plane + h.index[j] * steps.row +
                                    w.index[k] * steps.pixel;
                    weight[count] = static_cast<float>(d.weight[i] * h.weight[j] * w.weight[k]);
                }
    }
};

template <class Args>
CNNRT_INLINE int64_t points_of(const Args& a) {
    return int64_t{a.out_d} * a.out_h * a.out_w;
}
template <class Args>
CNNRT_INLINE int64_t per_image(const Args& a) {
    return ceil_div(points_of(a), kPoints);
}

// Inlined with a mode, a padding and a rank that the compiler knows: a point then takes a third of
// the time.
CNNRT_INLINE void sample(const GridSampleArgs& a, const Context& context, int64_t begin,
                         int64_t end) {
    const float* grid = context.at<const float>(a.grid);
    for (int64_t task = begin; task < end; ++task) {
        const int64_t n = task / per_image(a), first = task % per_image(a) * kPoints;
        const int64_t last = smaller(points_of(a), first + kPoints);
        const float* image = context.at<const float>(a.x.at) + n * a.x.image;
        float* result = context.at(a.y.at) + n * a.y.image;
        int64_t w = first % a.out_w, h = first / a.out_w % a.out_h, d = first / a.out_w / a.out_h;
        for (int64_t point = first; point < last; ++point) {
            const Taps taps(a, {a.x.plane, a.x.row, 16},
                            grid + (n * points_of(a) + point) * a.rank);
            float* y = result + d * a.y.plane + h * a.y.row + w * 16;
            for (int64_t o = 0; o < a.blocks; ++o) {
                const float* x = image + o * a.x.block;
                f32x16 sum = zero();
                for (int i = 0; i < taps.count; ++i)
                    sum = fma(broadcast(taps.weight[i]), load(x + taps.offset[i]), sum);
                store(y + o * a.y.block, sum);
            }
            if (++w < a.out_w) continue;
            w = 0;
            if (++h < a.out_h) continue;
            h = 0, ++d;
        }
    }
}

// The four taps of bilinear points, and which of them are inside the image.
struct Bilinear {
    int32_t offset[4][kPoints];
    float weight[4][kPoints];
    int32_t inside[4][kPoints];

    // Without a branch, so that the compiler computes several points at once.
    CNNRT_INLINE void find(const GridSamplePlanarArgs& a, const float* grid, int64_t count) {
        const double in_w = a.in_w, in_h = a.in_h, last_w = in_w - 1, last_h = in_h - 1;
        const bool corners = a.align_corners;
        for (int64_t i = 0; i < count; ++i) {
            const double x = pixel_of(corners, static_cast<double>(grid[2 * i]), in_w);
            const double y = pixel_of(corners, static_cast<double>(grid[2 * i + 1]), in_h);
            const double x0 = __builtin_floor(x), y0 = __builtin_floor(y);
            const double right = x - x0, left = x0 + 1 - x, lower = y - y0, upper = y0 + 1 - y;
            // Comparisons are false if a coordinate is NaN.
            const int32_t has_left = x0 >= 0 && x0 <= last_w, has_right = x0 >= -1 && x0 < last_w;
            const int32_t has_upper = y0 >= 0 && y0 <= last_h, has_lower = y0 >= -1 && y0 < last_h;
            const int32_t l = has_left ? static_cast<int32_t>(x0) : 0;
            const int32_t r = has_right ? static_cast<int32_t>(x0 + 1) : 0;
            const int32_t t = (has_upper ? static_cast<int32_t>(y0) : 0) * a.in_w;
            const int32_t b = (has_lower ? static_cast<int32_t>(y0 + 1) : 0) * a.in_w;
            offset[0][i] = t + l, offset[1][i] = t + r, offset[2][i] = b + l, offset[3][i] = b + r;
            weight[0][i] = static_cast<float>(upper * left);
            weight[1][i] = static_cast<float>(upper * right);
            weight[2][i] = static_cast<float>(lower * left);
            weight[3][i] = static_cast<float>(lower * right);
            inside[0][i] = has_upper & has_left, inside[1][i] = has_upper & has_right;
            inside[2][i] = has_lower & has_left, inside[3][i] = has_lower & has_right;
        }
    }
};

CNNRT_INLINE void sample_bilinear(const GridSamplePlanarArgs& a, const float* grid, const float* x,
                                  float* y, int64_t count) {
    Bilinear taps;
    taps.find(a, grid, count);
    for (int64_t c = 0; c < a.channels; ++c, x += int64_t{a.in_h} * a.in_w, y += points_of(a)) {
        for (int64_t i = 0; i < count; ++i) {
            float sum = 0;
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) {
                const float value = x[taps.offset[k][i]];
                sum += taps.inside[k][i] ? taps.weight[k][i] * value : 0.0f;
            }
            y[i] = sum;
        }
    }
}

CNNRT_INLINE void sample_any(const GridSamplePlanarArgs& a, const float* grid, const float* x,
                             float* y, int64_t count) {
    const int64_t row = a.in_w, plane = row * a.in_h;
    for (int64_t i = 0; i < count; ++i) {
        const Taps taps(a, {plane, row, 1}, grid + i * a.rank);
        for (int64_t c = 0; c < a.channels; ++c) {
            const float* from = x + c * plane * a.in_d;
            float sum = 0;
            for (int k = 0; k < taps.count; ++k) sum += taps.weight[k] * from[taps.offset[k]];
            y[c * points_of(a) + i] = sum;
        }
    }
}

}  // namespace

void grid_sample(const GridSampleArgs& a, const Context& context, int64_t begin, int64_t end) {
    if (a.mode != Sampling::linear || a.padding != Padding::zeros || a.rank != 2)
        return sample(a, context, begin, end);
    GridSampleArgs usual = a;
    usual.mode = Sampling::linear, usual.padding = Padding::zeros, usual.rank = 2;
    sample(usual, context, begin, end);
}

int64_t grid_sample_tasks(const GridSampleArgs& a) { return a.n * per_image(a); }

void grid_sample_planar(const GridSamplePlanarArgs& a, const Context& context, int64_t begin,
                        int64_t end) {
    const bool small = int64_t{a.in_h} * a.in_w < (int64_t{1} << 31);  // offsets are 32 bits wide
    const bool bilinear =
        a.mode == Sampling::linear && a.padding == Padding::zeros && a.rank == 2 && small;
    for (int64_t task = begin; task < end; ++task) {
        const int64_t n = task / per_image(a), first = task % per_image(a) * kPoints;
        const int64_t count = smaller(kPoints, points_of(a) - first);
        const float* x = context.at<const float>(a.x) + n * a.image;
        float* y = context.at<float>(a.y) + n * a.channels * points_of(a) + first;
        const float* grid = context.at<const float>(a.grid) + (n * points_of(a) + first) * a.rank;
        if (bilinear)
            sample_bilinear(a, grid, x, y, count);
        else
            sample_any(a, grid, x, y, count);
    }
}

int64_t grid_sample_planar_tasks(const GridSamplePlanarArgs& a) { return a.n * per_image(a); }

}  // namespace cnnrt::CNNRT_ISA
