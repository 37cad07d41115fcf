// Multiply-adds in registers and nothing else: the peak rate of a core, for profiles.

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {

void peak(const PeakArgs& g, const Context& context, int64_t begin, int64_t end) {
    // As many sums as the register tile has: enough to hide the latency.
    constexpr int kSums = kTileRows * kTileBlocks;
    float* y = context.at(g.y);
    for (int64_t task = begin; task < end; ++task) {
        // Loaded from memory: the compiler would merge registers that it knows to be equal.
        const f32x16 factor = load(y);
        f32x16 sums[kSums];
        for (int i = 0; i < kSums; ++i) sums[i] = mul(factor, broadcast(static_cast<float>(i)));
        for (int64_t step = 0; step < g.steps; ++step)
#pragma GCC unroll 32
            for (int i = 0; i < kSums; ++i) sums[i] = fma(sums[i], factor, factor);
        for (int i = 1; i < kSums; ++i) sums[0] = add(sums[0], sums[i]);
        store(y + 16 + task * 16, sums[0]);
    }
}

int64_t peak_tasks(const PeakArgs& g) { return g.tasks; }

}  // namespace cnnrt::CNNRT_ISA
