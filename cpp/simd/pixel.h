// u8x16: the sixteen channels of one pixel of bytes, by the compiler's own vectors on every tier.
#pragma once

#include "vec.h"

namespace cnnrt::CNNRT_ISA {
namespace {

typedef uint8_t u8x16 __attribute__((vector_size(16)));

CNNRT_INLINE u8x16 load_pixel(const uint8_t* p) {
    u8x16 a;
    __builtin_memcpy(&a, p, sizeof a);
    return a;
}
CNNRT_INLINE void store_pixel(uint8_t* p, u8x16 a) { __builtin_memcpy(p, &a, sizeof a); }
CNNRT_INLINE u8x16 max(u8x16 a, u8x16 b) { return a > b ? a : b; }

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
