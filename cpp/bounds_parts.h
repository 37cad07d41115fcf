// What the checks of bounds.cpp and bounds_u8.cpp share.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "bounds.h"

namespace cnnrt {
namespace {

constexpr int64_t kMaxSize = INT32_MAX;  // of an axis: MAX_SIZE of process/limits.py
constexpr int64_t kBlock = 16;

[[maybe_unused]] void need(bool condition, const char* problem) {
    if (!condition) throw OutOfBounds(problem);
}

[[maybe_unused]] int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

[[maybe_unused]] bool is_element(int64_t bytes) {
    return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

struct Range {
    Checked low, high;
};

// The elements that strided axes reach, each place being `width` elements wide.
template <class List>
Range span(const List& axes, Checked width = 1) {
    Range range{0, width};
    for (const Axis& axis : axes) {
        need(axis.size >= 1 && axis.size <= kMaxSize, "an axis of no elements, or of too many");
        const Checked end = (axis.size - 1) * axis.stride;
        if (end < 0)
            range.low = range.low + end;
        else
            range.high = range.high + end;
    }
    return range;
}
[[maybe_unused]] Range span(std::initializer_list<Axis> axes, Checked width = 1) {
    return span<std::initializer_list<Axis>>(axes, width);
}

[[maybe_unused]] Axes axes_of(int dims, const Dims& shape, const Dims& strides) {
    need(dims >= 1 && dims <= kMaxDims, "other than 1 to 8 axes");
    Axes axes;
    axes.reserve(kMaxDims + 2);
    for (int i = 0; i < dims; ++i) axes.push_back({shape[i], strides[i]});
    return axes;
}

[[maybe_unused]] Checked product(int dims, const Dims& shape) {
    Checked elements = 1;
    for (int i = 0; i < dims; ++i) elements = elements * shape[i];
    return elements;
}

struct Extremes {
    int64_t low, high;
};

// The least and the greatest of `count` entries of a table, `step` apart.
[[maybe_unused]] Extremes extremes(const int32_t* table, int64_t count, int64_t step = 1) {
    Extremes found{table[0], table[0]};
    for (int64_t i = 1; i < count; ++i) {
        found.low = std::min<int64_t>(found.low, table[i * step]);
        found.high = std::max<int64_t>(found.high, table[i * step]);
    }
    return found;
}

// The results of a blocked kernel, and what lies as they do.
template <class Args>
void outputs(const Args& f, const View& field, const Bounds& bounds) {
    bounds.pixels(field, f.n, f.blocks, f.out_d, f.out_h, f.out_w);
}

// The windows of a convolution that leaves out taps: counted as its table of offsets counts them.
[[maybe_unused]] void windows_of_taps(const ConvArgs& f) {
    if (!f.kernel_d) return;
    for (const int32_t size :
         {f.kernel_d, f.kernel_h, f.kernel_w, f.in_d, f.in_h, f.in_w, f.stride_d, f.stride_h,
          f.stride_w, f.dilation_d, f.dilation_h, f.dilation_w})
        need(size >= 1, "windows of no size");
    need(std::min({f.pad_d, f.pad_h, f.pad_w}) >= 0, "padding of less than nothing");
    const Checked kernel = Checked(f.kernel_d) * f.kernel_h * f.kernel_w;
    need(kernel <= kMaxSize, "a kernel of too many taps");
    const int64_t taps = kernel.value();
    need(f.taps % taps == 0 && f.last_taps % taps == 0, "taps of no whole kernel");
    need(!f.flat && !f.scale && !f.group && !f.group_c, "taps that are left out where none can be");
}

// The elements of a blocked tensor from the first of some windows to the last, over all blocks.
// `first` and `last` are those of one block.
[[maybe_unused]] void window_pixels(const View& v, Checked n, Checked blocks, Checked first,
                                    Checked last, const Bounds& bounds) {
    const auto [low, high] = span({{n, v.image}, {blocks, v.block}}, kBlock);
    bounds.use(v.at, low + std::min(first, last), high + last, bounds.itemsize(v));
}

}  // namespace
}  // namespace cnnrt
