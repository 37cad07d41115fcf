// What becomes of int32 sums: bytes, requantised, or floats. See Requant of args.h.
//
// Each element is rounded in the same way wherever it is in a tile, and on every tier. The product
// with the factor is rounded to float, the result to even. Sources that include this file are
// compiled without contraction of products and sums.
#pragma once

#include "kernel.h"
#include "output.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// Bytes of `pixels` (1 to 4) pixels of 16.
CNNRT_INLINE void store_pixels(uint8_t* p, int pixels, u8x64 v) {
    if (pixels == 4) return store_u8(p, v);
    alignas(64) uint8_t bytes[64];
    store_u8(bytes, v);
    __builtin_memcpy(p, bytes, static_cast<size_t>(pixels) * 16);
}

// p[0..n) through a table, for n of whole pixels.
CNNRT_INLINE void look_up(const uint8_t* table, uint8_t* p, int64_t n) {
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) store_u8(p + i, lookup(table, load_u8(p + i)));
    if (i == n) return;
    alignas(64) uint8_t bytes[64] = {};
    __builtin_memcpy(bytes, p + i, static_cast<size_t>(n - i));
    store_u8(bytes, lookup(table, load_u8(bytes)));
    __builtin_memcpy(p + i, bytes, static_cast<size_t>(n - i));
}

// a * b + c, rounded once on every tier: `fma` rounds twice on the portable one.
CNNRT_INLINE f32x16 fused(f32x16 a, f32x16 b, f32x16 c) {
#if defined(CNNRT_ISA_PORTABLE)
    float u[16], v[16], w[16];
    store(u, a);
    store(v, b);
    store(w, c);
    for (int i = 0; i < 16; ++i) w[i] = __builtin_fmaf(u[i], v[i], w[i]);
    return load(w);
#else
    return fma(a, b, c);
#endif
}

// A float as a whole number that a byte is made of.
struct Requantiser {
    f32x16 mine, other, constant, shift, inner_zero, inner_low, inner_high;
    bool first, rounds;
    int zero;

    explicit CNNRT_INLINE Requantiser(const Requant& r, bool residual)
        : mine(broadcast(r.mine)),
          other(broadcast(r.other)),
          constant(broadcast(r.constant)),
          shift(broadcast(static_cast<float>(r.shift))),
          inner_zero(broadcast(static_cast<float>(r.inner_zero - r.shift))),
          inner_low(broadcast(static_cast<float>(r.inner_low - r.shift))),
          inner_high(broadcast(static_cast<float>(r.inner_high - r.shift))),
          first(r.residual_first != 0),
          rounds(r.rounds != 0),
          zero(residual ? r.shift : r.zero) {}

    CNNRT_INLINE i32x16 add_residual(f32x16 v, const uint8_t* residual) const {
        if (rounds) v = min(inner_high, max(inner_low, add(round(v), inner_zero)));
        const f32x16 r = sub(to_float(widen(residual)), shift);
        return to_int(first ? fused(r, other, fused(v, mine, constant))
                            : fused(v, mine, fused(r, other, constant)));
    }
};

struct IntegerOutput {
    using In = uint8_t;
    using Weight = int8_t;
    using Out = uint8_t;

    const uint8_t* residual;  // or null
    int64_t residual_row, residual_block, residual_split;
    uint8_t* y;  // or floats
    int64_t y_row, y_block, y_split;
    int lanes;
    Epilogue epilogue;  // of floats
    Requant requant;
    const float* factors;  // of all blocks
    const float* biases;   // of all blocks, or null
    const uint8_t* table;  // or null
    const float* factor;   // of the tile
    const float* added;    // of the tile

    template <class Args>
    CNNRT_INLINE void set(const Args& g, const Context& context) {
        requant = g.requant;
        epilogue = g.epilogue;
        factors = context.at<const float>(g.factors);
        biases = context.at<const float>(g.added);
        table = context.at<const uint8_t>(g.table);
    }
    CNNRT_INLINE int64_t unit() const { return requant.floats ? 4 : 1; }
    CNNRT_INLINE void begin_block(int64_t block) {
        factor = factors + block * 16;
        if (biases) added = biases + block * 16;
    }

    template <int ROWS, int BLOCKS, int SPLIT>
    CNNRT_INLINE void prefetch() const {
#pragma GCC unroll 4
        for (int o = 0; o < BLOCKS; ++o)
#pragma GCC unroll 8
            for (int m = 0; m < ROWS; m += 4)
                __builtin_prefetch(y + o * y_block + row<SPLIT>(m, y_row, y_split), 1, 3);
    }

    template <int SPLIT, bool PARTIAL, int ROWS, int BLOCKS>
    CNNRT_INLINE void finish(const i32x16 (&acc)[ROWS][BLOCKS]) const {
        if (requant.floats) {
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o)
#pragma GCC unroll 32
                for (int m = 0; m < ROWS; ++m)
                    store_sums<PARTIAL>(o, BLOCKS, y_of<SPLIT>(m, o), acc[m][o]);
            if (requant.floats == 1) finish_floats(ROWS, SPLIT, BLOCKS, PARTIAL ? lanes : 16);
            return;
        }
        if (residual)
            store_bytes<SPLIT, PARTIAL, true>(acc);
        else
            store_bytes<SPLIT, PARTIAL, false>(acc);
        if (!table) return;
        constexpr int kFirst = SPLIT ? SPLIT : ROWS;
        for (int o = 0; o < BLOCKS; ++o) {
            uint8_t* p = y + o * y_block;
            if (PARTIAL) {
                const int n = o + 1 < BLOCKS ? 16 : lanes;
                for (int m = 0; m < ROWS; ++m)
                    for (int l = 0; l < n; ++l) p[m * y_row + l] = table[p[m * y_row + l]];
            } else {
                look_up(table, p, kFirst * 16);
                if (SPLIT) look_up(table, p + y_split, (ROWS - kFirst) * 16);
            }
        }
    }

private:
    template <int SPLIT>
    CNNRT_INLINE uint8_t* y_of(int m, int o) const {
        return y + o * y_block + row<SPLIT>(m, y_row, y_split);
    }

    template <bool PARTIAL>
    CNNRT_INLINE void store_sums(int o, int blocks, uint8_t* p, i32x16 sums) const {
        if (!PARTIAL || o + 1 < blocks || lanes == 16)
            return store_i32(reinterpret_cast<int32_t*>(p), sums);
        int32_t whole[16];
        store_i32(whole, sums);
        __builtin_memcpy(p, whole, static_cast<size_t>(lanes) * 4);
    }

    // In place, over the stored sums: floats are not what this kernel is made for.
    __attribute__((noinline)) void finish_floats(int rows, int split, int blocks,
                                                 int last_lanes) const {
        for (int m = 0; m < rows; ++m)
            for (int o = 0; o < blocks; ++o) {
                const int64_t at = split && m >= split ? y_split + (m - split) * y_row : m * y_row;
                float* p = reinterpret_cast<float*>(y + o * y_block + at);
                const int n = o + 1 < blocks ? 16 : last_lanes;
                int32_t sums[16] = {};
                __builtin_memcpy(sums, p, static_cast<size_t>(n) * 4);
                f32x16 v = mul(to_float(load_i32(sums)), load(factor + o * 16));
                if (biases) v = add(v, load(added + o * 16));
                store_partial(p, n, v);
                if (epilogue.activation != Activation::none) activate(epilogue, p, n);
            }
    }

    template <int SPLIT, bool PARTIAL, bool RESIDUAL, int ROWS, int BLOCKS>
    CNNRT_INLINE void store_bytes(const i32x16 (&acc)[ROWS][BLOCKS]) const {
        constexpr int kFirst = SPLIT ? SPLIT : ROWS;
        const Requantiser q(requant, RESIDUAL);
        alignas(64) uint8_t limits[128];
        __builtin_memset(limits, requant.low, 64);
        __builtin_memset(limits + 64, requant.high, 64);
        const u8x64 low = load_u8(limits), high = load_u8(limits + 64);
#pragma GCC unroll 4
        for (int o = 0; o < BLOCKS; ++o) {
            const f32x16 s = load(factor + o * 16);
            const auto whole = [&](int m, int stop) __attribute__((always_inline)) {
                if (m >= stop) return broadcast_i32(0);
                const f32x16 v = mul(to_float(acc[m][o]), s);
                if constexpr (RESIDUAL) {
                    const uint8_t* r =
                        residual + o * residual_block + row<SPLIT>(m, residual_row, residual_split);
                    if (!PARTIAL || o + 1 < BLOCKS || lanes == 16) return q.add_residual(v, r);
                    uint8_t some[16] = {};
                    __builtin_memcpy(some, r, static_cast<size_t>(lanes));
                    return q.add_residual(v, some);
                } else {
                    return to_int(v);
                }
            };
            const auto store_run = [&](int begin, int stop) __attribute__((always_inline)) {
#pragma GCC unroll 8
                for (int m = begin; m < stop; m += 4) {
                    u8x64 v = pack4(whole(m, stop), whole(m + 1, stop), whole(m + 2, stop),
                                    whole(m + 3, stop), q.zero);
                    v = min(max(v, low), high);
                    const int pixels = stop - m < 4 ? stop - m : 4;
                    if (!PARTIAL) {
                        store_pixels(y_of<SPLIT>(m, o), pixels, v);
                        continue;
                    }
                    alignas(64) uint8_t bytes[64];
                    store_u8(bytes, v);
                    const int n = o + 1 < BLOCKS ? 16 : lanes;
                    for (int i = 0; i < pixels; ++i)
                        __builtin_memcpy(y_of<SPLIT>(m + i, o), bytes + i * 16,
                                         static_cast<size_t>(n));
                }
            };
            store_run(0, kFirst);
            if constexpr (SPLIT != 0) store_run(kFirst, ROWS);
        }
    }
};

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
