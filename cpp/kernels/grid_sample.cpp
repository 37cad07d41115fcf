// Samples blocked images between their pixels, at the points of a grid. The offsets and weights of
// a point's taps are computed once for all channels.
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

CNNRT_INLINE AxisTaps taps_of(const GridSampleArgs& a, double place, int64_t size) {
    const double last = static_cast<double>(size - 1);
    const double low = a.align_corners ? 0.0 : -0.5, high = a.align_corners ? last : last + 0.5;
    double x = a.align_corners ? (place + 1) / 2 * last
                               : ((place + 1) * static_cast<double>(size) - 1) / 2;
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

// All taps of a point: offsets in floats from the first pixel of a block, and weights.
struct Taps {
    int64_t offset[kMaxTaps * kMaxTaps * kMaxTaps];
    float weight[kMaxTaps * kMaxTaps * kMaxTaps];
    int count = 0;

    CNNRT_INLINE Taps(const GridSampleArgs& a, const float* place) {
        // The grid's coordinates run from the innermost axis outwards.
        AxisTaps w = taps_of(a, static_cast<double>(place[0]), a.in_w), h, d;
        if (a.rank > 1) h = taps_of(a, static_cast<double>(place[1]), a.in_h);
        if (a.rank > 2) d = taps_of(a, static_cast<double>(place[2]), a.in_d);
        for (int i = 0; i < d.count; ++i)
            for (int j = 0; j < h.count; ++j)
                for (int k = 0; k < w.count; ++k, ++count) {
                    offset[count] = d.index[i] * a.x.plane + h.index[j] * a.x.row + w.index[k] * 16;
                    weight[count] = static_cast<float>(d.weight[i] * h.weight[j] * w.weight[k]);
                }
    }
};

CNNRT_INLINE int64_t points_of(const GridSampleArgs& a) {
    return int64_t{a.out_d} * a.out_h * a.out_w;
}
CNNRT_INLINE int64_t per_image(const GridSampleArgs& a) { return ceil_div(points_of(a), kPoints); }

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
            const Taps taps(a, grid + (n * points_of(a) + point) * a.rank);
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

}  // namespace

void grid_sample(const GridSampleArgs& a, const Context& context, int64_t begin, int64_t end) {
    if (a.mode != Sampling::linear || a.padding != Padding::zeros || a.rank != 2)
        return sample(a, context, begin, end);
    GridSampleArgs usual = a;
    usual.mode = Sampling::linear, usual.padding = Padding::zeros, usual.rank = 2;
    sample(usual, context, begin, end);
}

int64_t grid_sample_tasks(const GridSampleArgs& a) { return a.n * per_image(a); }

}  // namespace cnnrt::CNNRT_ISA
