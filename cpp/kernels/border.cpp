// Zeroes the border of a blocked tensor, whose interior is left alone.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

CNNRT_INLINE void clear(float* p, int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i) store(p + i * 16, zero());
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
                    clear(plane + h * v.row - args.left * 16, width);
            if (!inside) continue;
            // Column by column: rows of one or two pixels would each become a call of memset.
            for (int64_t w = -args.left; w < args.w + args.right; w = w == -1 ? args.w : w + 1)
                for (int64_t h = 0; h < args.h; ++h) store(plane + h * v.row + w * 16, zero());
        }
    }
}

int64_t border_tasks(const BorderArgs& args) { return int64_t{args.n} * args.blocks; }

int64_t border_scratch(const BorderArgs&) { return 0; }

}  // namespace cnnrt::CNNRT_ISA
