// Resizing of blocked tensors: every output is a weighted sum of a few inputs along each axis,
// given as tables. Nearest has one tap, linear two, cubic four, antialiased ones more.
//
// The input rows of an output row are summed into scratch memory first, then the pixels along it.
// That takes taps_d * taps_h + taps_w products per pixel instead of taps_d * taps_h * taps_w.

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {

void resize(const ResizeArgs& g, const Context& context, int64_t begin, int64_t end) {
    const float* x = context.at(g.x.at);
    float* y = context.at(g.y.at);
    const int32_t* index_d = context.at<const int32_t>(g.index_d);
    const int32_t* index_h = context.at<const int32_t>(g.index_h);
    const int32_t* index_w = context.at<const int32_t>(g.index_w);
    const float *weight_d = context.at(g.weight_d), *weight_h = context.at(g.weight_h);
    const float* weight_w = context.at(g.weight_w);
    float* row = reinterpret_cast<float*>(context.scratch);
    const bool copied = g.taps_d * g.taps_h == 1;  // one input row: read where it lies

    for (int64_t task = begin; task < end; ++task) {
        const int64_t block = task % g.blocks, h = task / g.blocks % g.out_h;
        const int64_t d = task / g.blocks / g.out_h % g.out_d;
        const int64_t n = task / g.blocks / g.out_h / g.out_d;
        const float* from = x + n * g.x.image + block * g.x.block;
        const float* source = row;
        if (copied) {
            source = from + index_d[d] * g.x.plane + index_h[h] * g.x.row;
        } else {
            for (int64_t i = 0; i < g.in_w; ++i) {
                f32x16 sum = zero();
                for (int64_t a = d * g.taps_d; a < (d + 1) * g.taps_d; ++a)
                    for (int64_t b = h * g.taps_h; b < (h + 1) * g.taps_h; ++b)
                        sum =
                            fma(broadcast(weight_d[a] * weight_h[b]),
                                load(from + index_d[a] * g.x.plane + index_h[b] * g.x.row + i * 16),
                                sum);
                store(row + i * 16, sum);
            }
        }
        float* to = y + n * g.y.image + block * g.y.block + d * g.y.plane + h * g.y.row;
        for (int64_t w = 0; w < g.out_w; ++w) {
            f32x16 sum = zero();
            for (int64_t c = w * g.taps_w; c < (w + 1) * g.taps_w; ++c)
                sum = fma(broadcast(weight_w[c]), load(source + index_w[c] * 16), sum);
            store(to + w * 16, sum);
        }
    }
}

int64_t resize_tasks(const ResizeArgs& g) {
    return static_cast<int64_t>(g.n) * g.out_d * g.out_h * g.blocks;
}

int64_t resize_scratch(const ResizeArgs& g) { return static_cast<int64_t>(g.in_w) * 64; }

}  // namespace cnnrt::CNNRT_ISA
