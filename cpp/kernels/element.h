// The instances of a kernel: one per element size if it moves elements without reading their
// values, else one per element type.
#pragma once

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <bool CONDITION, class A, class B>
struct Selected {
    using type = A;
};
template <class A, class B>
struct Selected<false, A, B> {
    using type = B;
};
// One of two types.
template <bool CONDITION, class A, class B>
using Select = typename Selected<CONDITION, A, B>::type;

// True if one of N elements may be better than the worst that is kept, or is a NaN.
template <int N, class T>
CNNRT_INLINE bool any_better(const T* x, T worst, bool most) {
    using Flag =
        Select<sizeof(T) == 8, uint64_t,
               Select<sizeof(T) == 4, uint32_t, Select<sizeof(T) == 2, uint16_t, uint8_t>>>;
    Flag any = 0;
    if (most)
        for (int j = 0; j < N; ++j) any |= static_cast<Flag>(!(x[j] <= worst));
    else
        for (int j = 0; j < N; ++j) any |= static_cast<Flag>(!(x[j] >= worst));
    return any != 0;
}

// Calls f with a value of the unsigned integer type of `bytes` bytes: 1, 2, 4 or 8.
template <class F>
CNNRT_INLINE void with_element(int bytes, F f) {
    switch (bytes) {
        case 1:
            return f(uint8_t{});
        case 2:
            return f(uint16_t{});
        case 4:
            return f(uint32_t{});
        case 8:
            return f(uint64_t{});
    }
}

// Calls f with a value of the type that is ordered as `type` is.
template <class F>
CNNRT_INLINE void with_order_of(DType type, F f) {
    switch (type) {
        case DType::float32:
            return f(float{});
        case DType::float64:
            return f(double{});
        case DType::boolean:
        case DType::uint8:
            return f(uint8_t{});
        case DType::uint16:
            return f(uint16_t{});
        case DType::uint32:
            return f(uint32_t{});
        case DType::uint64:
            return f(uint64_t{});
        case DType::int8:
            return f(int8_t{});
        case DType::int16:
            return f(int16_t{});
        case DType::int32:
            return f(int32_t{});
        case DType::int64:
            return f(int64_t{});
        case DType::float16:  // no kernel computes in these
        case DType::bfloat16:
            return;
    }
}

// Calls f with a value of the type whose sums and products have the bits of those of `type`:
// integers wrap, as unsigned ones do.
template <class F>
CNNRT_INLINE void with_sums_of(DType type, F f) {
    with_order_of(type, [&]<class T>(T) {
        if constexpr (T(1) / T(2) != 0)
            f(T{});
        else
            with_element(sizeof(T), f);
    });
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
