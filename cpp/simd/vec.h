// The vocabulary the kernels are written in: f32x16, sixteen floats, on every instruction set.
//
// Each tier's header maps it to machine registers: one zmm (avx512.h), or an array of narrower
// registers through split.h (avx2.h, neon.h, portable.h). These headers hold the only intrinsics of
// the project. Kernel sources are compiled once per tier, with CNNRT_ISA naming the tier.
// Everything is in an unnamed namespace inside cnnrt::CNNRT_ISA: the linker must not take a
// function compiled for a newer instruction set into an older tier.
//
//   load, store             unaligned; load_partial, store_partial touch only the first n lanes
//   load_half, store_half   sixteen IEEE half-precision floats, rounded to even
//   load_bfloat16           sixteen upper halves of floats
//   broadcast, zero         the same value in every lane
//   spread<GROUP, K>(p)     lane K of every GROUP (2, 4 or 8) lanes in all of these
//   add sub mul div fma fnma   fma(a, b, c) = a * b + c; fnma(a, b, c) = c - a * b
//   add_product(sum, a, b)  sum = fma(a, b, sum)
//   add_product_low(sum, a, b), broadcast_low   the same in eight lanes, the others undefined
//   min, max                return the SECOND operand where either is NaN
//   max_or_nan              is NaN where either is
//   abs, copysign, round (to nearest even), floor, sqrt
//   scale2(x, n)            x * 2^n for integral n in [-252, 254], over- and underflowing as ldexp
//   scale2_normal(x, n)     the same where x and the result are normal
//   exponent, mantissa      x = mantissa * 2^exponent with mantissa in [1, 2), for x > 0 and normal
//   less, equal, is_nan     masks for select(mask, if_true, if_false)
//   sum, largest            over the lanes
//   transpose(r)            a 16 x 16 block held in r[0..15], in place
//
// Integers: i32x16, and u8x64 and i8x64, 64 bytes as 16 quads. The results are the same on every
// tier; sums wrap.
//
//   load_i32, store_i32, broadcast_i32, load_u8, store_u8, load_i8, add, min, max
//   broadcast4(p)           the 4 bytes at p in every quad
//   dot4(sum, x, w)         adds the four products u8 * i8 of each quad to its sum, exactly
//   quads_of_pixels(p)      4 pixels of 16 channels to 16 quads, one for each channel
//   quads_of_pixels(p, s)   the same of pixels that are s bytes apart
//   widen(p)                16 bytes, with or without a sign, to i32x16
//   to_float, to_int        to_int rounds to nearest even; below 2^31
//   pack4(a, b, c, d, zero) 64 bytes: a + zero, b + zero, ... saturated; zero from 0 to 255
//   lookup(table, x)        table[x] of each byte, in a table of 256
#pragma once

#include <cstdint>

#define CNNRT_INLINE inline __attribute__((always_inline))

#if defined(CNNRT_ISA_AVX512) && !defined(CNNRT_BY_HALVES)
#include "avx512.h"
#elif defined(CNNRT_ISA_AVX2) || defined(CNNRT_BY_HALVES)
#include "avx2.h"
#elif defined(CNNRT_ISA_NEON)
#include "neon.h"
#elif defined(CNNRT_ISA_PORTABLE)
#include "portable.h"
#else
#error "no vocabulary for this tier"
#endif

#include "tile_shape.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// max(x, a) is a where either is NaN: a NaN in `a` stays, and select keeps one in `x`.
CNNRT_INLINE f32x16 max_or_nan(f32x16 a, f32x16 x) { return select(is_nan(x), x, max(x, a)); }

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
