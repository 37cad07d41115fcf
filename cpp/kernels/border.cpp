// Fills the border of a blocked tensor.
//
// A task is one row of all planes and blocks, as in the convolutions around it. Each thread then
// works on the same rows, and no cache line moves between cores. The gap between two planes is
// written with the first row or with the last, in turns.

#include "element.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class T>
CNNRT_INLINE void fill(T* from, int64_t count, T value) {
    if (value == 0) {
        __builtin_memset(from, 0, static_cast<size_t>(count) * sizeof(T));
    } else {
        for (int64_t i = 0; i < count; ++i) from[i] = value;
    }
}

template <class T>
void fill_border(const BorderArgs& g, T* y, T value, int64_t begin, int64_t end) {
    const int64_t between_rows = int64_t{g.border_w} * 16;
    const int64_t between_planes = g.border_h * g.y.row + between_rows;
    const int64_t between_blocks = g.border_d * g.y.plane + between_planes;
    for (int64_t task = begin; task < end; ++task) {
        const int64_t n = task / g.h, h = task % g.h;
        for (int64_t block = 0; block < g.blocks; ++block)
            for (int64_t d = 0; d < g.d; ++d) {
                T* plane = y + n * g.y.image + block * g.y.block + d * g.y.plane;
                const int64_t before = d == 0 ? between_blocks : between_planes;
                if (h == ((block + d) % 2 ? g.h - 1 : 0)) fill(plane - before, before, value);
                if (h + 1 < g.h) fill(plane + h * g.y.row + g.w * 16, between_rows, value);
            }
        if (n + 1 == g.n && h + 1 == g.h)
            fill(y + g.n * g.y.image - between_blocks, between_blocks, value);
    }
}

}  // namespace

void border(const BorderArgs& g, const Context& context, int64_t begin, int64_t end) {
    with_element(g.element, [&]<class T>(T) {
        fill_border(g, context.at<T>(g.y.at), static_cast<T>(g.fill), begin, end);
    });
}

int64_t border_tasks(const BorderArgs& g) { return int64_t{g.n} * g.h; }

}  // namespace cnnrt::CNNRT_ISA
