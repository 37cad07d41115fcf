// f32x16 as an array of narrower registers. The including header defines these for its register
// type `reg` of kLanes floats; masks are registers too:
//
//   reg_load, reg_load_first (the first n lanes, zero in the others; any n), reg_store,
//   reg_load_half, reg_store_half, reg_load_bfloat16, reg_broadcast, reg_add, reg_sub, reg_mul,
//   reg_div, reg_fma, reg_add_product, reg_fnma, reg_min, reg_max, reg_abs, reg_copysign,
//   reg_round, reg_floor, reg_sqrt, reg_scale2 (as two factors, so that results below 2^-126 and
//   factors above 2^127 come out right), reg_scale2_normal, reg_exponent, reg_mantissa, reg_less,
//   reg_equal, reg_unordered, reg_select, reg_spread<GROUP, K> for groups of fewer lanes than a
//   register has, reg_sum, reg_largest, reg_transpose (kLanes x kLanes)
//
// For integers, `ireg` has as many bytes:
//
//   ireg_load, ireg_store, ireg_broadcast, ireg_add, ireg_widen, ireg_to_float, reg_to_int,
//   ireg_min_u8, ireg_max_u8, ireg_dot4, ireg_pack (four registers to one, in order), ireg_quads
//   (64 bytes to all parts), ireg_lookup
#pragma once

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int kParts = 16 / kLanes;

struct f32x16 {
    reg v[kParts];
};
struct mask16 {
    reg v[kParts];
};

template <class F>
CNNRT_INLINE f32x16 each(F f) {
    f32x16 r;
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) r.v[i] = f(i);
    return r;
}
template <class F>
CNNRT_INLINE mask16 each_mask(F f) {
    mask16 r;
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) r.v[i] = f(i);
    return r;
}

CNNRT_INLINE f32x16 load(const float* p) {
    return each([=](int i) { return reg_load(p + i * kLanes); });
}
CNNRT_INLINE void store(float* p, f32x16 a) {
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) reg_store(p + i * kLanes, a.v[i]);
}
CNNRT_INLINE f32x16 load_partial(const float* p, int n) {
    return each([=](int i) { return reg_load_first(p + i * kLanes, n - i * kLanes); });
}
CNNRT_INLINE void store_partial(float* p, int n, f32x16 a) {
    if (n >= 16) return store(p, a);
    float lanes[16];
    store(lanes, a);
    // By powers of two: a loop over the lanes would become a call of memcpy, 10 times slower.
    const float* from = lanes;
#pragma GCC unroll 4
    for (int piece = 8; piece > 0; piece /= 2) {
        if (!(n & piece)) continue;
        __builtin_memcpy(p, from, static_cast<unsigned>(piece) * sizeof(float));
        p += piece;
        from += piece;
    }
}
CNNRT_INLINE f32x16 load_half(const uint16_t* p) {
    return each([=](int i) { return reg_load_half(p + i * kLanes); });
}
CNNRT_INLINE void store_half(uint16_t* p, f32x16 a) {
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) reg_store_half(p + i * kLanes, a.v[i]);
}
CNNRT_INLINE f32x16 load_bfloat16(const uint16_t* p) {
    return each([=](int i) { return reg_load_bfloat16(p + i * kLanes); });
}
CNNRT_INLINE f32x16 broadcast(float x) {
    const reg b = reg_broadcast(x);
    return each([=](int) { return b; });
}
CNNRT_INLINE f32x16 zero() { return broadcast(0.0f); }

template <int GROUP, int K>
CNNRT_INLINE f32x16 spread(const float* p) {
    return each([=](int i) {
        if constexpr (GROUP >= kLanes)
            return reg_broadcast(p[i * kLanes / GROUP * GROUP + K]);
        else
            return reg_spread<GROUP, K>(reg_load(p + i * kLanes));
    });
}

CNNRT_INLINE f32x16 add(f32x16 a, f32x16 b) {
    return each([&](int i) { return reg_add(a.v[i], b.v[i]); });
}
CNNRT_INLINE f32x16 sub(f32x16 a, f32x16 b) {
    return each([&](int i) { return reg_sub(a.v[i], b.v[i]); });
}
CNNRT_INLINE f32x16 mul(f32x16 a, f32x16 b) {
    return each([&](int i) { return reg_mul(a.v[i], b.v[i]); });
}
CNNRT_INLINE f32x16 div(f32x16 a, f32x16 b) {
    return each([&](int i) { return reg_div(a.v[i], b.v[i]); });
}
CNNRT_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    return each([&](int i) { return reg_fma(a.v[i], b.v[i], c.v[i]); });
}
CNNRT_INLINE void add_product(f32x16& sum, f32x16 a, f32x16 b) {
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) reg_add_product(sum.v[i], a.v[i], b.v[i]);
}
CNNRT_INLINE f32x16 broadcast_low(float x) { return broadcast(x); }
CNNRT_INLINE void add_product_low(f32x16& sum, f32x16 a, f32x16 b) {
#pragma GCC unroll 4
    for (int i = 0; i < kParts / 2; ++i) reg_add_product(sum.v[i], a.v[i], b.v[i]);
}
CNNRT_INLINE f32x16 fnma(f32x16 a, f32x16 b, f32x16 c) {
    return each([&](int i) { return reg_fnma(a.v[i], b.v[i], c.v[i]); });
}
CNNRT_INLINE f32x16 min(f32x16 a, f32x16 b) {
    return each([&](int i) { return reg_min(a.v[i], b.v[i]); });
}
CNNRT_INLINE f32x16 max(f32x16 a, f32x16 b) {
    return each([&](int i) { return reg_max(a.v[i], b.v[i]); });
}
CNNRT_INLINE f32x16 abs(f32x16 a) {
    return each([&](int i) { return reg_abs(a.v[i]); });
}
CNNRT_INLINE f32x16 copysign(f32x16 magnitude, f32x16 sign) {
    return each([&](int i) { return reg_copysign(magnitude.v[i], sign.v[i]); });
}
CNNRT_INLINE f32x16 round(f32x16 a) {
    return each([&](int i) { return reg_round(a.v[i]); });
}
CNNRT_INLINE f32x16 floor(f32x16 a) {
    return each([&](int i) { return reg_floor(a.v[i]); });
}
CNNRT_INLINE f32x16 sqrt(f32x16 a) {
    return each([&](int i) { return reg_sqrt(a.v[i]); });
}
CNNRT_INLINE f32x16 scale2(f32x16 a, f32x16 n) {
    return each([&](int i) { return reg_scale2(a.v[i], n.v[i]); });
}
CNNRT_INLINE f32x16 scale2_normal(f32x16 a, f32x16 n) {
    return each([&](int i) { return reg_scale2_normal(a.v[i], n.v[i]); });
}
CNNRT_INLINE f32x16 exponent(f32x16 a) {
    return each([&](int i) { return reg_exponent(a.v[i]); });
}
CNNRT_INLINE f32x16 mantissa(f32x16 a) {
    return each([&](int i) { return reg_mantissa(a.v[i]); });
}

CNNRT_INLINE mask16 less(f32x16 a, f32x16 b) {
    return each_mask([&](int i) { return reg_less(a.v[i], b.v[i]); });
}
CNNRT_INLINE mask16 equal(f32x16 a, f32x16 b) {
    return each_mask([&](int i) { return reg_equal(a.v[i], b.v[i]); });
}
CNNRT_INLINE mask16 is_nan(f32x16 a) {
    return each_mask([&](int i) { return reg_unordered(a.v[i]); });
}
CNNRT_INLINE f32x16 select(mask16 m, f32x16 if_true, f32x16 if_false) {
    return each([&](int i) { return reg_select(m.v[i], if_true.v[i], if_false.v[i]); });
}

CNNRT_INLINE float sum(f32x16 a) {
    reg r = a.v[0];
#pragma GCC unroll 4
    for (int i = 1; i < kParts; ++i) r = reg_add(r, a.v[i]);
    return reg_sum(r);
}
CNNRT_INLINE float largest(f32x16 a) {
    reg r = a.v[0];
#pragma GCC unroll 4
    for (int i = 1; i < kParts; ++i) r = reg_max(r, a.v[i]);
    return reg_largest(r);
}

CNNRT_INLINE void transpose(f32x16* r) {
    reg block[kParts][kParts][kLanes];  // block[row][column] of kLanes x kLanes
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < kParts; ++j) {
#pragma GCC unroll 8
            for (int k = 0; k < kLanes; ++k) block[i][j][k] = r[i * kLanes + k].v[j];
            reg_transpose(block[i][j]);
        }
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < kParts; ++j)
#pragma GCC unroll 8
            for (int k = 0; k < kLanes; ++k) r[j * kLanes + k].v[i] = block[i][j][k];
}

struct i32x16 {
    ireg v[kParts];
};
struct u8x64 {
    ireg v[kParts];
};
struct i8x64 {
    ireg v[kParts];
};

template <class V, class F>
CNNRT_INLINE V each_of(F f) {
    V r;
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) r.v[i] = f(i);
    return r;
}

constexpr int kRegBytes = kLanes * 4;

CNNRT_INLINE i32x16 load_i32(const int32_t* p) {
    return each_of<i32x16>([=](int i) { return ireg_load(p + i * kLanes); });
}
CNNRT_INLINE void store_i32(int32_t* p, i32x16 a) {
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) ireg_store(p + i * kLanes, a.v[i]);
}
CNNRT_INLINE i32x16 broadcast_i32(int32_t x) {
    const ireg b = ireg_broadcast(x);
    return each_of<i32x16>([=](int) { return b; });
}
CNNRT_INLINE i32x16 add(i32x16 a, i32x16 b) {
    return each_of<i32x16>([&](int i) { return ireg_add(a.v[i], b.v[i]); });
}
CNNRT_INLINE i32x16 widen(const uint8_t* p) {
    return each_of<i32x16>([=](int i) { return ireg_widen(p + i * kLanes); });
}
CNNRT_INLINE i32x16 widen(const int8_t* p) {
    return each_of<i32x16>([=](int i) { return ireg_widen(p + i * kLanes); });
}
CNNRT_INLINE f32x16 to_float(i32x16 a) {
    return each([&](int i) { return ireg_to_float(a.v[i]); });
}
CNNRT_INLINE i32x16 to_int(f32x16 a) {
    return each_of<i32x16>([&](int i) { return reg_to_int(a.v[i]); });
}
CNNRT_INLINE u8x64 load_u8(const uint8_t* p) {
    return each_of<u8x64>([=](int i) { return ireg_load(p + i * kRegBytes); });
}
CNNRT_INLINE void store_u8(uint8_t* p, u8x64 a) {
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) ireg_store(p + i * kRegBytes, a.v[i]);
}
CNNRT_INLINE i8x64 load_i8(const int8_t* p) {
    return each_of<i8x64>([=](int i) { return ireg_load(p + i * kRegBytes); });
}
CNNRT_INLINE u8x64 broadcast4(const uint8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, 4);
    const ireg b = ireg_broadcast(quad);
    return each_of<u8x64>([=](int) { return b; });
}
CNNRT_INLINE u8x64 min(u8x64 a, u8x64 b) {
    return each_of<u8x64>([&](int i) { return ireg_min_u8(a.v[i], b.v[i]); });
}
CNNRT_INLINE u8x64 max(u8x64 a, u8x64 b) {
    return each_of<u8x64>([&](int i) { return ireg_max_u8(a.v[i], b.v[i]); });
}
CNNRT_INLINE void dot4(i32x16& sum, u8x64 x, i8x64 w) {
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) ireg_dot4(sum.v[i], x.v[i], w.v[i]);
}
CNNRT_INLINE u8x64 quads_of_pixels(const uint8_t* p, int64_t step = 16) {
    u8x64 r;
    ireg_quads(p, step, r.v);
    return r;
}
CNNRT_INLINE u8x64 pack4(i32x16 a, i32x16 b, i32x16 c, i32x16 d, int zero) {
    ireg all[4 * kParts];
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) {
        all[i] = a.v[i];
        all[kParts + i] = b.v[i];
        all[2 * kParts + i] = c.v[i];
        all[3 * kParts + i] = d.v[i];
    }
    return each_of<u8x64>([&](int i) { return ireg_pack(all + 4 * i, zero); });
}
CNNRT_INLINE u8x64 lookup(const uint8_t* table, u8x64 index) {
    return each_of<u8x64>([&](int i) { return ireg_lookup(table, index.v[i]); });
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
