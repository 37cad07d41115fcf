// Weights in the order in which the kernels read them. Done once per model, on all threads.
#pragma once

#include <cstdint>

#include "thread_pool.h"

namespace cnnrt {

// Panels of weights: [blocks of 16 outputs][steps of depth][16][depth of a step], zeros where there
// is no weight. The elements of a step lie together, as Dot of kernels/dot.h multiplies them.
struct PackedFormat {
    int bytes;  // of an element
    int depth;  // of a step

    bool operator==(const PackedFormat&) const = default;
    int64_t steps(int64_t elements) const { return (elements + depth - 1) / depth; }
    // Elements of the panel of a convolution: every tap begins a step in each block of channels.
    int64_t conv_panel(int64_t c, int64_t taps) const {
        return (c / 16 * steps(16) + steps(c % 16)) * taps * 16 * depth;
    }
};
constexpr PackedFormat kFloat32Panels{4, 1}, kInt8Panels{1, 4};
// Of linear_narrow: float16 or bfloat16, and int8 that is widened.
constexpr PackedFormat kHalfPanels{2, 1}, kBytePanels{1, 1};

// Weights may begin at any address, as those mapped from an ONNX file do. They are moved, not read:
// `weight` and `to` have elements of the format's size.

// weight [m][c][taps] -> panels of [c / 16][taps][16 channels, the last block only its real ones].
void pack_conv(PackedFormat format, const void* weight, int64_t m, int64_t c, int64_t taps,
               void* to, Threads threads);

// Grouped: block b of 16 outputs sees the channel blocks [window[b], window[b] + span) of x; the
// weights of channels outside an output's group are zero. Panels are `panel` elements apart.
// weight [m][c / group][taps].
void pack_conv_grouped(PackedFormat format, const void* weight, int64_t m, int64_t c, int64_t group,
                       int64_t taps, const int32_t* window, int64_t span, int64_t panel, void* to,
                       Threads threads);

// weight [m][k], with any strides -> k from `first` on, a whole step, of panels of `depth`
// elements. Depthwise weights too: there m is the channels, k the taps.
void pack_linear(PackedFormat format, const void* weight, int64_t m, int64_t k, int64_t m_stride,
                 int64_t k_stride, void* to, int64_t depth, int64_t first, Threads threads);

// A float at any address.
using Unaligned = float __attribute__((aligned(1)));

constexpr int kMaxPositions = 9;  // of a tile on an axis

// Winograd's G [size][taps] of one axis, taps 1, 3 or 5, and at most kMaxPositions as its size.
struct FilterTransform {
    const double* g;
    int64_t size, taps;
};

// weight [m][c][d][3][3], [5][5], [1][3] or [3][1] -> to [h.size * w.size][m / 16][d][c][16] = Gh g
// Gw^T.
void pack_winograd(const Unaligned* weight, int64_t m, int64_t c, int64_t d,
                   const FilterTransform& h, const FilterTransform& w, float* to, Threads threads);

}  // namespace cnnrt
