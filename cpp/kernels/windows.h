// Pooling windows: per axis and output position, the part of the window inside the image.
#pragma once

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// Pixels [begin, end) of one axis; an average divides by `count`.
struct Window {
    int32_t begin, end, count;
};

// The taps of a window along one axis.
CNNRT_INLINE int taps_of(const Window& w, int dilation) {
    return w.end > w.begin ? (w.end - w.begin + dilation - 1) / dilation : 0;
}

// Outputs [first, last) have equal windows, each `stride` pixels after the one before. They lie
// around the middle output; those near the edges are clipped. Empty if there are none.
struct RegularWindows {
    int first = 0, last = 0, taps = 0, stride = 1;

    RegularWindows(const Window* w, int n, int dilation) {
        if (n < 2) return;
        const int middle = n / 2, size = w[middle].end - w[middle].begin;
        stride = w[middle].begin - w[middle - 1].begin;
        if (stride < 1 || size < 1) return;
        taps = taps_of(w[middle], dilation);
        const auto regular = [&](int i) {
            return w[i].begin == w[middle].begin + (i - middle) * stride &&
                   w[i].end - w[i].begin == size && w[i].count == w[middle].count;
        };
        first = middle;
        last = middle + 1;
        while (first > 0 && regular(first - 1)) --first;
        while (last < n && regular(last)) ++last;
    }
};

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
