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

template <int BYTES>
struct Unsigned;
template <>
struct Unsigned<1> {
    using type = uint8_t;
};
template <>
struct Unsigned<2> {
    using type = uint16_t;
};
template <>
struct Unsigned<4> {
    using type = uint32_t;
};
template <>
struct Unsigned<8> {
    using type = uint64_t;
};
// The unsigned integer with as many bytes as T.
template <class T>
using UnsignedOf = typename Unsigned<sizeof(T)>::type;

// How an element of the table of types is computed with: `type` is ordered as it is. `kWhole`
// tells integers and truth values from floats.
template <class T>
struct Computed {
    using type = T;
    static constexpr bool kWhole = T(1) / T(2) == 0;
};
template <>
struct Computed<Bool> {
    using type = uint8_t;
    static constexpr bool kWhole = true;
};
// Halves are only stored: no kernel computes in them.
struct OnlyStored {
    using type = void;
    static constexpr bool kWhole = false;
};
template <>
struct Computed<Float16> : OnlyStored {};
template <>
struct Computed<BFloat16> : OnlyStored {};

template <class T>
constexpr bool kOnlyStored = __is_base_of(OnlyStored, Computed<T>);

// Calls f with a value of the C++ type of an element type.
template <class F>
CNNRT_INLINE void with_type(DType dtype, F f) {
    switch (dtype) {
#define DTYPE(id, name, type, kind, code) \
    case DType::id:                       \
        return f(type{});
#include "dtypes.def"
    }
}

// True if one of N elements may be better than the worst that is kept, or is a NaN.
template <int N, class T>
CNNRT_INLINE bool any_better(const T* x, T worst, bool most) {
    using Flag = UnsignedOf<T>;
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

// Calls f with a value of the type that is ordered as `dtype` is; not for halves.
template <class F>
CNNRT_INLINE void with_order_of(DType dtype, F f) {
    with_type(dtype, [&]<class T>(T) {
        if constexpr (!kOnlyStored<T>) f(typename Computed<T>::type{});
    });
}

// Calls f with a value of the type whose sums and products have the bits of those of `type`:
// integers wrap, as unsigned ones do.
template <class F>
CNNRT_INLINE void with_sums_of(DType type, F f) {
    with_order_of(type, [&]<class T>(T) {
        if constexpr (Computed<T>::kWhole)
            f(UnsignedOf<T>{});
        else
            f(T{});
    });
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
