// Zeroes the border of a blocked tensor.
//
// A task is one row of all planes and blocks, as in the convolutions around it: the threads' shares
// are the same rows, and no line moves from one core's cache to another's. The gap between two
// planes is written with the first row or with the last, in turns.

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

CNNRT_INLINE void clear(float* from, int64_t floats) {
    __builtin_memset(from, 0, static_cast<size_t>(floats) * 4);
}

}  // namespace

void border(const BorderArgs& g, const Context& context, int64_t begin, int64_t end) {
    float* y = context.at(g.y.at);
    const int64_t between_rows = int64_t{g.border_w} * 16;
    const int64_t between_planes = g.border_h * g.y.row + between_rows;
    const int64_t between_blocks = g.border_d * g.y.plane + between_planes;
    for (int64_t task = begin; task < end; ++task) {
        const int64_t n = task / g.h, h = task % g.h;
        for (int64_t block = 0; block < g.blocks; ++block)
            for (int64_t d = 0; d < g.d; ++d) {
                float* plane = y + n * g.y.image + block * g.y.block + d * g.y.plane;
                const int64_t before = d == 0 ? between_blocks : between_planes;
                if (h == ((block + d) % 2 ? g.h - 1 : 0)) clear(plane - before, before);
                if (h + 1 < g.h) clear(plane + h * g.y.row + g.w * 16, between_rows);
            }
        if (n + 1 == g.n && h + 1 == g.h)
            clear(y + g.n * g.y.image - between_blocks, between_blocks);
    }
}

int64_t border_tasks(const BorderArgs& g) { return int64_t{g.n} * g.h; }

}  // namespace cnnrt::CNNRT_ISA
