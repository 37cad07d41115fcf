// RoiAlign (Mask R-CNN, He et al. 2017): regions of blocked images, as grids of bins. A bin is the
// average or the maximum of sample points between the pixels.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// A bin with more points than this along a side stays zero: hardly a point of so large a region
// meets the image.
constexpr double kMaxPoints = 1 << 24;

// One side of a region: `bins` bins of `each` points.
struct Side {
    double low, step, points;
    int64_t size;

    Side(double from, double to, int64_t bins, int64_t pixels, int64_t ratio)
        : low(from), step((to - from) / static_cast<double>(bins)), size(pixels) {
        if (!(step - step == 0)) low = step = 0;  // infinite, or NaN
        points = ratio ? static_cast<double>(ratio) : __builtin_ceil(step);
        if (points < 0) points = 0;
    }
    // The points of a bin that may meet the image: [first, last).
    struct Span {
        int64_t first, last;
    };
    Span span(int64_t bin) const {
        if (points > kMaxPoints) return {0, 0};
        const double start = low + step * static_cast<double>(bin);
        const double gap = step / larger(points, 1.0);
        double first = 0, last = points;
        if (gap > 0) {  // a point of slack on each side: `at` decides
            first = __builtin_floor((-1 - start) / gap) - 1;
            last = __builtin_ceil((static_cast<double>(size) - start) / gap) + 1;
            first = first > 0 ? smaller(first, points) : 0;
            last = last > 0 ? smaller(last, points) : 0;
        }
        return {static_cast<int64_t>(first), static_cast<int64_t>(last)};
    }
    // The two pixels around a point, and their weights.
    struct Point {
        int64_t first, second;
        double weight_first, weight_second;
    };
    bool at(int64_t bin, int64_t i, Point& p) const {
        double x = low + step * (static_cast<double>(bin) +
                                 (static_cast<double>(i) + 0.5) / larger(points, 1.0));
        const double end = static_cast<double>(size);
        if (!(x >= -1 && x <= end)) return false;
        x = x < 0 ? 0 : x > end - 1 ? end - 1 : x;
        p.first = static_cast<int64_t>(x);
        p.second = smaller(p.first + 1, size - 1);
        p.weight_first = static_cast<double>(p.first + 1) - x;
        p.weight_second = x - static_cast<double>(p.first);
        return true;
    }
};

// Reduces the point (row, column) into the result of every block.
template <Pool MODE>
CNNRT_INLINE void reduce_point(const RoiAlignArgs& a, const float* image, const Side::Point& row,
                               const Side::Point& column, float* result) {
    const float w[4] = {static_cast<float>(row.weight_first * column.weight_first),
                        static_cast<float>(row.weight_first * column.weight_second),
                        static_cast<float>(row.weight_second * column.weight_first),
                        static_cast<float>(row.weight_second * column.weight_second)};
    const int64_t at[4] = {
        row.first * a.x.row + column.first * 16, row.first * a.x.row + column.second * 16,
        row.second * a.x.row + column.first * 16, row.second * a.x.row + column.second * 16};
    for (int64_t o = 0; o < a.blocks; ++o) {
        const float* x = image + o * a.x.block;
        f32x16 r = load(result + o * 16);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            const f32x16 v = load(x + at[i]), weight = broadcast(w[i]);
            if constexpr (MODE == Pool::average)
                r = fma(v, weight, r);
            else
                r = max(mul(v, weight), r);
        }
        store(result + o * 16, r);
    }
}

template <Pool MODE>
void bin(const RoiAlignArgs& a, const float* image, const Side& rows, const Side& columns,
         int64_t h, int64_t w, float* result) {
    const Side::Span over_rows = rows.span(h), over_columns = columns.span(w);
    const double total = rows.points * columns.points;
    double met = 0;
    const f32x16 start = broadcast(MODE == Pool::average ? 0.0f : -__builtin_inff());
    for (int64_t o = 0; o < a.blocks; ++o) store(result + o * 16, start);
    for (int64_t i = over_rows.first; i < over_rows.last; ++i) {
        Side::Point row, column;
        if (!rows.at(h, i, row)) continue;
        for (int64_t j = over_columns.first; j < over_columns.last; ++j) {
            if (!columns.at(w, j, column)) continue;
            ++met;
            reduce_point<MODE>(a, image, row, column, result);
        }
    }
    // A point outside the image is zero.
    const f32x16 count = broadcast(static_cast<float>(total > 0 ? total : 1));
    for (int64_t o = 0; o < a.blocks; ++o) {
        f32x16 r = load(result + o * 16);
        if constexpr (MODE == Pool::average)
            r = div(r, count);
        else if (met < total || total == 0)
            r = max(zero(), r);
        store(result + o * 16, r);
    }
}

}  // namespace

void roi_align(const RoiAlignArgs& a, const Context& context, int64_t begin, int64_t end) {
    const float* regions = context.at<const float>(a.regions);
    const int64_t* images = context.at<const int64_t>(a.images);
    float* result = reinterpret_cast<float*>(context.scratch);
    for (int64_t region = begin; region < end; ++region) {
        double at[4];
        for (int i = 0; i < 4; ++i)
            at[i] = static_cast<double>(regions[region * 4 + i]) * static_cast<double>(a.scale) -
                    (a.half_pixel ? 0.5 : 0.0);
        if (!a.half_pixel) {
            at[2] = larger(at[2], at[0] + 1);
            at[3] = larger(at[3], at[1] + 1);
        }
        int64_t n = images[region];
        if (n < 0) n += a.n;
        const bool known = n >= 0 && n < a.n;
        if (!known && context.fault->size < 0) *context.fault = {images[region], a.n};
        const float* image = context.at<const float>(a.x.at) + (known ? n : 0) * a.x.image;
        const Side rows(at[1], at[3], a.out_h, a.in_h, a.ratio);
        const Side columns(at[0], at[2], a.out_w, a.in_w, a.ratio);
        float* y = context.at(a.y.at) + region * a.y.image;
        for (int64_t h = 0; h < a.out_h; ++h)
            for (int64_t w = 0; w < a.out_w; ++w) {
                if (a.mode == Pool::max)
                    bin<Pool::max>(a, image, rows, columns, h, w, result);
                else
                    bin<Pool::average>(a, image, rows, columns, h, w, result);
                for (int64_t o = 0; o < a.blocks; ++o)
                    store(y + o * a.y.block + h * a.y.row + w * 16, load(result + o * 16));
            }
    }
}

int64_t roi_align_tasks(const RoiAlignArgs& a) { return a.count; }

int64_t roi_align_scratch(const RoiAlignArgs& a) { return a.blocks * 64; }

}  // namespace cnnrt::CNNRT_ISA
