// Four-lane registers for AArch64; split.h makes f32x16 of four.
#pragma once

#include <arm_neon.h>

namespace cnnrt::CNNRT_ISA {
namespace {

using reg = float32x4_t;
constexpr int kLanes = 4;

CNNRT_INLINE reg as_float(uint32x4_t a) { return vreinterpretq_f32_u32(a); }
CNNRT_INLINE uint32x4_t as_bits(reg a) { return vreinterpretq_u32_f32(a); }

CNNRT_INLINE reg reg_load(const float* p) { return vld1q_f32(p); }
CNNRT_INLINE reg reg_load_first(const float* p, int n) {
    if (n >= 4) return reg_load(p);
    return reg{n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f, 0.0f};
}
CNNRT_INLINE void reg_store(float* p, reg a) { vst1q_f32(p, a); }
CNNRT_INLINE reg reg_load_half(const uint16_t* p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
CNNRT_INLINE void reg_store_half(uint16_t* p, reg a) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a)));
}
CNNRT_INLINE reg reg_load_bfloat16(const uint16_t* p) {
    return as_float(vshll_n_u16(vld1_u16(p), 16));
}
CNNRT_INLINE reg reg_broadcast(float x) { return vdupq_n_f32(x); }
template <int GROUP, int K>
CNNRT_INLINE reg reg_spread(reg a) {
    static_assert(GROUP == 2);
    return K ? vtrn2q_f32(a, a) : vtrn1q_f32(a, a);
}
CNNRT_INLINE reg reg_add(reg a, reg b) { return vaddq_f32(a, b); }
CNNRT_INLINE reg reg_sub(reg a, reg b) { return vsubq_f32(a, b); }
CNNRT_INLINE reg reg_mul(reg a, reg b) { return vmulq_f32(a, b); }
CNNRT_INLINE reg reg_div(reg a, reg b) { return vdivq_f32(a, b); }
CNNRT_INLINE reg reg_fma(reg a, reg b, reg c) { return vfmaq_f32(c, a, b); }
CNNRT_INLINE void reg_add_product(reg& sum, reg a, reg b) { sum = reg_fma(a, b, sum); }
CNNRT_INLINE reg reg_fnma(reg a, reg b, reg c) { return vfmsq_f32(c, a, b); }
// The machine's own min and max return NaN where either is; the vocabulary wants the second
// operand.
CNNRT_INLINE reg reg_min(reg a, reg b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
CNNRT_INLINE reg reg_max(reg a, reg b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
CNNRT_INLINE reg reg_abs(reg a) { return vabsq_f32(a); }
CNNRT_INLINE reg reg_copysign(reg magnitude, reg sign) {
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude);
}
CNNRT_INLINE reg reg_round(reg a) { return vrndnq_f32(a); }
CNNRT_INLINE reg reg_floor(reg a) { return vrndmq_f32(a); }
CNNRT_INLINE reg reg_sqrt(reg a) { return vsqrtq_f32(a); }
CNNRT_INLINE reg pow2(int32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
CNNRT_INLINE reg reg_scale2(reg a, reg n) {
    const int32x4_t all = vcvtq_s32_f32(n), half = vshrq_n_s32(all, 1);
    return reg_mul(reg_mul(a, pow2(half)), pow2(vsubq_s32(all, half)));
}
CNNRT_INLINE reg reg_scale2_normal(reg a, reg n) {
    const uint32x4_t by = vreinterpretq_u32_s32(vshlq_n_s32(vcvtq_s32_f32(n), 23));
    return vreinterpretq_f32_u32(vaddq_u32(as_bits(a), by));
}
CNNRT_INLINE reg reg_exponent(reg a) {
    const int32x4_t bits = vreinterpretq_s32_u32(vshrq_n_u32(as_bits(a), 23));
    return vcvtq_f32_s32(vsubq_s32(bits, vdupq_n_s32(127)));
}
CNNRT_INLINE reg reg_mantissa(reg a) {
    const uint32x4_t low = vandq_u32(as_bits(a), vdupq_n_u32(0x007fffffu));
    return as_float(vorrq_u32(low, vdupq_n_u32(0x3f800000u)));
}
CNNRT_INLINE reg reg_less(reg a, reg b) { return as_float(vcltq_f32(a, b)); }
CNNRT_INLINE reg reg_equal(reg a, reg b) { return as_float(vceqq_f32(a, b)); }
CNNRT_INLINE reg reg_unordered(reg a) { return as_float(vmvnq_u32(vceqq_f32(a, a))); }
CNNRT_INLINE reg reg_select(reg m, reg if_true, reg if_false) {
    return vbslq_f32(as_bits(m), if_true, if_false);
}
CNNRT_INLINE float reg_sum(reg a) { return vaddvq_f32(a); }
CNNRT_INLINE float reg_largest(reg a) { return vmaxvq_f32(a); }
CNNRT_INLINE void reg_transpose(reg* r) {
    const float32x4x2_t ab = vtrnq_f32(r[0], r[1]), cd = vtrnq_f32(r[2], r[3]);
    r[0] = vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0]));
    r[1] = vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1]));
    r[2] = vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0]));
    r[3] = vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1]));
}

using ireg = int32x4_t;

CNNRT_INLINE uint8x16_t as_u8(ireg a) { return vreinterpretq_u8_s32(a); }
CNNRT_INLINE int8x16_t as_i8(ireg a) { return vreinterpretq_s8_s32(a); }
CNNRT_INLINE ireg of_u8(uint8x16_t a) { return vreinterpretq_s32_u8(a); }

CNNRT_INLINE ireg ireg_load(const void* p) {
    return of_u8(vld1q_u8(static_cast<const uint8_t*>(p)));
}
CNNRT_INLINE void ireg_store(void* p, ireg a) { vst1q_u8(static_cast<uint8_t*>(p), as_u8(a)); }
CNNRT_INLINE ireg ireg_broadcast(int32_t x) { return vdupq_n_s32(x); }
CNNRT_INLINE ireg ireg_add(ireg a, ireg b) { return vaddq_s32(a, b); }
CNNRT_INLINE ireg ireg_widen(const uint8_t* p) { return ireg{p[0], p[1], p[2], p[3]}; }
CNNRT_INLINE ireg ireg_widen(const int8_t* p) { return ireg{p[0], p[1], p[2], p[3]}; }
CNNRT_INLINE reg ireg_to_float(ireg a) { return vcvtq_f32_s32(a); }
CNNRT_INLINE ireg reg_to_int(reg a) { return vcvtnq_s32_f32(a); }
CNNRT_INLINE ireg ireg_min_u8(ireg a, ireg b) { return of_u8(vminq_u8(as_u8(a), as_u8(b))); }
CNNRT_INLINE ireg ireg_max_u8(ireg a, ireg b) { return of_u8(vmaxq_u8(as_u8(a), as_u8(b))); }
CNNRT_INLINE void ireg_dot4(ireg& sum, ireg x, ireg w) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
    sum = vusdotq_s32(sum, as_u8(x), as_i8(w));
#elif defined(__ARM_FEATURE_DOTPROD)
    // SDOT is signed: it multiplies x - 128 by w. What is lacking, 128 times w, depends on the
    // weights alone.
    const int8x16_t less = vreinterpretq_s8_u8(veorq_u8(as_u8(x), vdupq_n_u8(0x80)));
    const ireg lacking = vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(-128), as_i8(w));
    sum = vsubq_s32(vdotq_s32(sum, less, as_i8(w)), lacking);
#else
    const int16x8_t x0 = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(as_u8(x))));
    const int16x8_t x1 = vreinterpretq_s16_u16(vmovl_high_u8(as_u8(x)));
    const int16x8_t w0 = vmovl_s8(vget_low_s8(as_i8(w))), w1 = vmovl_high_s8(as_i8(w));
    const ireg a =
        vpaddq_s32(vmull_s16(vget_low_s16(x0), vget_low_s16(w0)), vmull_high_s16(x0, w0));
    const ireg b =
        vpaddq_s32(vmull_s16(vget_low_s16(x1), vget_low_s16(w1)), vmull_high_s16(x1, w1));
    sum = vaddq_s32(sum, vpaddq_s32(a, b));
#endif
}
CNNRT_INLINE ireg ireg_pack(const ireg* a, int zero) {
    const int16x8_t z = vdupq_n_s16(static_cast<int16_t>(zero));
    const int16x8_t low = vqaddq_s16(vcombine_s16(vqmovn_s32(a[0]), vqmovn_s32(a[1])), z);
    const int16x8_t high = vqaddq_s16(vcombine_s16(vqmovn_s32(a[2]), vqmovn_s32(a[3])), z);
    return of_u8(vcombine_u8(vqmovun_s16(low), vqmovun_s16(high)));
}
CNNRT_INLINE void ireg_quads(const uint8_t* p, int64_t step, ireg* to) {
    const uint8x16x4_t pixels{
        {vld1q_u8(p), vld1q_u8(p + step), vld1q_u8(p + 2 * step), vld1q_u8(p + 3 * step)}};
    const uint8x16_t ab0 = vzip1q_u8(pixels.val[0], pixels.val[1]);
    const uint8x16_t ab1 = vzip2q_u8(pixels.val[0], pixels.val[1]);
    const uint8x16_t cd0 = vzip1q_u8(pixels.val[2], pixels.val[3]);
    const uint8x16_t cd1 = vzip2q_u8(pixels.val[2], pixels.val[3]);
    const auto zip = [](uint8x16_t a, uint8x16_t b, ireg* low) {
        const uint16x8_t ab = vreinterpretq_u16_u8(a), cd = vreinterpretq_u16_u8(b);
        low[0] = vreinterpretq_s32_u16(vzip1q_u16(ab, cd));
        low[1] = vreinterpretq_s32_u16(vzip2q_u16(ab, cd));
    };
    zip(ab0, cd0, to);
    zip(ab1, cd1, to + 2);
}
CNNRT_INLINE ireg ireg_lookup(const uint8_t* table, ireg index) {
    uint8x16_t result = vdupq_n_u8(0);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        // Indices beyond these 64 give zero.
        const uint8x16_t at = vsubq_u8(as_u8(index), vdupq_n_u8(static_cast<uint8_t>(i * 64)));
        result = vorrq_u8(result, vqtbl4q_u8(vld1q_u8_x4(table + i * 64), at));
    }
    return of_u8(result);
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA

#include "split.h"
