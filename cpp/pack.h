// Weights in the order in which the kernels read them. Done once per model, on all threads.
#pragma once

#include <cstdint>

namespace cnnrt {

// At any address: weights that are mapped from an ONNX file begin at any byte.
using Unaligned = float __attribute__((aligned(1)));

// weight [m][c][taps] -> to [m / 16][c / 16][taps][16 c, the last block only its real ones][16 m].
void pack_conv(const Unaligned* weight, int64_t m, int64_t c, int64_t taps, float* to, int threads);

// Grouped: block b of 16 outputs sees the channel blocks [window[b], window[b] + span) of x; the
// weights of channels outside an output's group are zero. Panels are `panel` floats apart.
// weight [m][c / group][taps].
void pack_conv_grouped(const Unaligned* weight, int64_t m, int64_t c, int64_t group, int64_t taps,
                       const int32_t* window, int64_t span, int64_t panel, float* to, int threads);

// weight [m][k], with any strides -> k from `first` on of to [m / 16][depth][16].
void pack_planar(const Unaligned* weight, int64_t m, int64_t k, int64_t m_stride, int64_t k_stride,
                 float* to, int64_t depth, int64_t first, int threads);

// weight [c][taps] -> to [c / 16][taps][16].
void pack_depthwise(const Unaligned* weight, int64_t c, int64_t taps, float* to);

// Winograd's G [size][taps] of one axis, taps 1, 3 or 5.
struct FilterTransform {
    const double* g;
    int64_t size, taps;
};

// weight [m][c][d][3][3], [5][5], [1][3] or [3][1] -> to [h.size * w.size][m / 16][d][c][16] = Gh g
// Gw^T.
void pack_winograd(const Unaligned* weight, int64_t m, int64_t c, int64_t d,
                   const FilterTransform& h, const FilterTransform& w, float* to, int threads);

}  // namespace cnnrt
