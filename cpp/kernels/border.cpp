// Zeroes the border of a blocked tensor, whose interior is left alone.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

CNNRT_INLINE void clear_row(float* p, int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i) store(p + i * 16, zero());
}

// Left and right go by columns: of their rows, a pixel or two wide, gcc makes calls of memset.
CNNRT_INLINE void clear_column(float* p, int64_t row, int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i) store(p + i * row, zero());
}

}  // namespace

void border(const BorderArgs& args, const Context& context, int64_t begin, int64_t end) {
    const View& v = args.y;
    const int64_t width = int64_t{args.left} + args.w + args.right;
    for (int64_t task = begin; task < end; ++task) {
        float* y = context.at(v.at) + task / args.blocks * v.image + task % args.blocks * v.block;
        for (int64_t d = -args.front; d < args.d + args.back; ++d) {
            float* plane = y + d * v.plane;
            const bool inside = d >= 0 && d < args.d;
            for (int64_t h = -args.top; h < args.h + args.bottom; ++h)
                if (!inside || h < 0 || h >= args.h)
                    clear_row(plane + h * v.row - args.left * 16, width);
            if (!inside) continue;
            for (int64_t w = 0; w < args.left; ++w)
                clear_column(plane - (w + 1) * 16, v.row, args.h);
            for (int64_t w = 0; w < args.right; ++w)
                clear_column(plane + (args.w + w) * 16, v.row, args.h);
        }
    }
}

int64_t border_tasks(const BorderArgs& args) { return int64_t{args.n} * args.blocks; }

int64_t border_scratch(const BorderArgs&) { return 0; }

}  // namespace cnnrt::CNNRT_ISA
