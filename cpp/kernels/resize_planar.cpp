// Resizing of plain tensors, by tables as for `resize`. The input
// rows of an output row are summed first, in vectors. Then sixteen outputs at a time take their
// pixels from that row.
#include "../simd/pick.h"
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {

void resize_planar(const ResizePlanarArgs& g, const Context& context, int64_t begin, int64_t end) {
    const int32_t* index_d = context.at<const int32_t>(g.index_d);
    const int32_t* index_h = context.at<const int32_t>(g.index_h);
    const int32_t* index_w = context.at<const int32_t>(g.index_w);
    const float *weight_d = context.at(g.weight_d), *weight_h = context.at(g.weight_h);
    const float* weight_w = context.at(g.weight_w);
    float* row = reinterpret_cast<float*>(context.scratch);
    const bool copied = g.taps_d * g.taps_h == 1;  // one input row: read where it lies
    const int64_t in_w = g.in_w, out_w = g.out_w;

    for (int64_t task = begin; task < end; ++task) {
        const int64_t h = task % g.out_h, d = task / g.out_h % g.out_d;
        const int64_t plane = task / g.out_h / g.out_d;
        const float* x = context.at(g.x) + plane * g.in_d * g.in_h * in_w;
        const auto row_of = [&](int64_t a, int64_t b) {
            return x + (static_cast<int64_t>(index_d[a]) * g.in_h + index_h[b]) * in_w;
        };
        const float* source = row;
        if (copied) {
            source = row_of(d, h);
        } else {
            for (int64_t i = 0; i < in_w; i += 16) {
                const int lanes = static_cast<int>(in_w - i < 16 ? in_w - i : 16);
                f32x16 sum = zero();
                for (int64_t a = d * g.taps_d; a < (d + 1) * g.taps_d; ++a)
                    for (int64_t b = h * g.taps_h; b < (h + 1) * g.taps_h; ++b)
                        sum = fma(broadcast(weight_d[a] * weight_h[b]),
                                  load_partial(row_of(a, b) + i, lanes), sum);
                store(row + i, sum);
            }
        }
        float* y = context.at(g.y) + task * out_w;
        for (int64_t w = 0; w < out_w; w += 16) {
            const int lanes = static_cast<int>(out_w - w < 16 ? out_w - w : 16);
            f32x16 sum = zero();
            for (int64_t c = 0; c < g.taps_w; ++c) {
                const int32_t* index = index_w + c * out_w + w;
                const float* weight = weight_w + c * out_w + w;
                if (lanes == 16 && can_pick(index)) {
                    sum = fma(load(weight), pick(source, in_w, index), sum);
                    continue;
                }
                float taken[16] = {};
                for (int l = 0; l < lanes; ++l) taken[l] = source[index[l]];
                sum = fma(load_partial(weight, lanes), load(taken), sum);
            }
            store_partial(y + w, lanes, sum);
        }
    }
}

int64_t resize_planar_tasks(const ResizePlanarArgs& g) {
    return static_cast<int64_t>(g.planes) * g.out_d * g.out_h;
}

int64_t resize_planar_scratch(const ResizePlanarArgs& g) {
    return (static_cast<int64_t>(g.in_w) + 15) / 16 * 64;
}

}  // namespace cnnrt::CNNRT_ISA
