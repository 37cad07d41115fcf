// Zeroes the border of a blocked tensor.
//
// A task is one row of all planes and blocks, so that the threads' shares are rows, as those of the
// convolutions around it are: lines written by another core would have to cross to be read.

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {

void border(const BorderArgs& g, const Context& context, int64_t begin, int64_t end) {
    float* y = context.at(g.y.at);
    const int64_t rows = static_cast<int64_t>(g.top) + g.h + g.bottom;
    const auto clear = [](float* from, int64_t pixels) {
        __builtin_memset(from, 0, static_cast<size_t>(pixels) * 64);
    };
    for (int64_t task = begin; task < end; ++task) {
        const int64_t n = task / rows, h = task % rows - g.top;
        for (int64_t block = 0; block < g.blocks; ++block)
            for (int64_t d = -g.front; d < g.d + g.back; ++d) {
                float* row = y + n * g.y.image + block * g.y.block + d * g.y.plane + h * g.y.row;
                if (d < 0 || d >= g.d || h < 0 || h >= g.h) {
                    clear(row - g.left * 16, g.left + g.w + g.right);
                } else {
                    clear(row - g.left * 16, g.left);
                    clear(row + g.w * 16, g.right);
                }
            }
    }
}

int64_t border_tasks(const BorderArgs& g) {
    return static_cast<int64_t>(g.n) * (static_cast<int64_t>(g.top) + g.h + g.bottom);
}

int64_t border_scratch(const BorderArgs&) { return 0; }

}  // namespace cnnrt::CNNRT_ISA
