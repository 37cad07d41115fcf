// Products of bytes, u8 by i8, in registers and nothing else: the peak rate of a core.

#include "dot.h"
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {

void peak_u8(const PeakArgs& g, const Context& context, int64_t begin, int64_t end) {
    using Products = Dot<uint8_t, int8_t>;
    constexpr TileShape kShape = kTileShape<uint8_t, int8_t>;
    constexpr int kSums = kShape.rows * kShape.blocks;
    const uint8_t* factors = context.at<const uint8_t>(g.y);
    int32_t* y = context.at<int32_t>(g.y) + 16;
    const auto weights = Products::weights(context.at<const int8_t>(g.y));
    for (int64_t task = begin; task < end; ++task) {
        i32x16 sums[kSums];
#pragma GCC unroll 32
        for (int i = 0; i < kSums; ++i) sums[i] = broadcast_i32(0);
        for (int64_t step = 0; step < g.steps; ++step) {
            // Other quads in each step and sum: equal products would be merged.
            const uint8_t* x = factors + step % 8 * 4;
#pragma GCC unroll 32
            for (int i = 0; i < kSums; ++i)
                Products::add(sums[i], Products::input(x + i % 8 * 4), weights);
        }
#pragma GCC unroll 32
        for (int i = 1; i < kSums; ++i) sums[0] = add(sums[0], sums[i]);
        store_i32(y + task * 16, sums[0]);
    }
}

int64_t peak_u8_tasks(const PeakArgs& g) { return g.tasks; }

}  // namespace cnnrt::CNNRT_ISA
