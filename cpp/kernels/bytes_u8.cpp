// Elementwise operators on bytes: sums and products of two tensors, and tables.
#include "output_u8.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 16 * 1024;  // bytes of a task of lookup_u8, at most

struct Pair {
    const BytePairArgs& g;
    f32x16 a_ratio, b_ratio, constant;
    i32x16 a_zero, b_zero;
    u8x64 low, high;

    explicit Pair(const BytePairArgs& args)
        : g(args),
          a_ratio(broadcast(g.a_ratio)),
          b_ratio(broadcast(g.b_ratio)),
          constant(broadcast(g.constant)),
          a_zero(broadcast_i32(g.op == Binary::add ? -g.shift : -g.a_zero)),
          b_zero(broadcast_i32(g.op == Binary::add ? -g.shift : -g.b_zero)) {
        uint8_t limits[128];
        __builtin_memset(limits, g.low, 64);
        __builtin_memset(limits + 64, g.high, 64);
        low = load_u8(limits);
        high = load_u8(limits + 64);
    }

    template <bool ADD>
    CNNRT_INLINE i32x16 one(const uint8_t* a, const uint8_t* b) const {
        const f32x16 u = to_float(add(widen(a), a_zero)), v = to_float(add(widen(b), b_zero));
        // Differences of bytes have at most 9 bits: their product is exact.
        if constexpr (ADD) return to_int(fused(u, a_ratio, fused(v, b_ratio, constant)));
        return to_int(add(mul(mul(u, v), a_ratio), constant));
    }

    // A row of pixels; b stays where it is if b_step is 0.
    template <bool ADD>
    void run(const uint8_t* a, const uint8_t* b, int64_t b_step, uint8_t* y, int64_t pixels) const {
        for (int64_t i = 0; i < pixels; i += 4) {
            const int n = static_cast<int>(smaller<int64_t>(4, pixels - i));
            const auto at = [&](int k) __attribute__((always_inline)) {
                const int64_t p = i + (k < n ? k : 0);
                return one<ADD>(a + p * 16, b + p * b_step);
            };
            const u8x64 v = pack4(at(0), at(1), at(2), at(3), g.shift);
            store_pixels(y + i * 16, n, min(max(v, low), high));
        }
    }
};

// The axes of a lookup: rows of `length` contiguous bytes.
struct Rows {
    int64_t length, rows, pieces, piece;
    explicit Rows(const LookupArgs& g) : length(g.shape[g.dims - 1]), rows(1) {
        for (int i = 0; i + 1 < g.dims; ++i) rows *= g.shape[i];
        piece = larger<int64_t>(1, smaller(length, kChunk));
        pieces = ceil_div(length, piece);
    }
};

}  // namespace

void byte_pair(const BytePairArgs& g, const Context& context, int64_t begin, int64_t end) {
    const uint8_t* a = context.at<const uint8_t>(g.a.at);
    const uint8_t* b = context.at<const uint8_t>(g.b.at);
    uint8_t* y = context.at<uint8_t>(g.y.at);
    const Pair pair(g);
    const int64_t b_step = g.gate ? 0 : 16;
    for (int64_t task = begin; task < end; ++task) {
        const int64_t plane = task / g.d, d = task % g.d;
        const int64_t n = plane / g.blocks, block = plane % g.blocks;
        const uint8_t* pa = a + n * g.a.image + block * g.a.block + d * g.a.plane;
        const uint8_t* pb = b + n * g.b.image + block * g.b.block + (g.gate ? 0 : d * g.b.plane);
        uint8_t* py = y + n * g.y.image + block * g.y.block + d * g.y.plane;
        for (int64_t h = 0; h < g.h; ++h) {
            const uint8_t* rb = g.gate ? pb : pb + h * g.b.row;
            if (g.op == Binary::add)
                pair.run<true>(pa + h * g.a.row, rb, b_step, py + h * g.y.row, g.w);
            else
                pair.run<false>(pa + h * g.a.row, rb, b_step, py + h * g.y.row, g.w);
        }
    }
}

int64_t byte_pair_tasks(const BytePairArgs& g) { return int64_t{g.n} * g.blocks * g.d; }

void lookup_u8(const LookupArgs& g, const Context& context, int64_t begin, int64_t end) {
    const Rows r(g);
    const uint8_t *x = context.at<const uint8_t>(g.x), *table = context.at<const uint8_t>(g.table);
    uint8_t* y = context.at<uint8_t>(g.y);
    for (int64_t task = begin; task < end; ++task) {
        int64_t row = task / r.pieces, from = 0, to = 0;
        for (int i = g.dims - 2; i >= 0; --i) {
            from += row % g.shape[i] * g.x_stride[i];
            to += row % g.shape[i] * g.y_stride[i];
            row /= g.shape[i];
        }
        const int64_t first = task % r.pieces * r.piece;
        const int64_t n = smaller(r.piece, r.length - first);
        __builtin_memmove(y + to + first, x + from + first, static_cast<size_t>(n));
        look_up(table, y + to + first, n);
    }
}

int64_t lookup_u8_tasks(const LookupArgs& g) {
    const Rows r(g);
    return r.rows * r.pieces;
}

}  // namespace cnnrt::CNNRT_ISA
