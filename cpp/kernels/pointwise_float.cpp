// The operations of pointwise programs on float32, with the arithmetic of `elementwise`.
#include "pointwise.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class F>
CNNRT_INLINE void over(const void* a, const void* b, void* y, int64_t n, F f) {
    const auto *pa = static_cast<const float*>(a), *pb = static_cast<const float*>(b);
    auto* py = static_cast<float*>(y);
#pragma GCC unroll 2
    for (int64_t i = 0; i < n; i += 16) store(py + i, f(load(pa + i), load(pb + i)));
}

// A truth value of one byte for each element, or a function of the C library: the compiler makes
// vectors of what it can.
template <class T, class F>
CNNRT_INLINE void each(const void* a, const void* b, void* y, int64_t n, F f) {
    const auto *pa = static_cast<const float*>(a), *pb = static_cast<const float*>(b);
    auto* py = static_cast<T*>(y);
    CNNRT_SAME_PLACES
    for (int64_t i = 0; i < n; ++i) py[i] = static_cast<T>(f(pa[i], pb[i]));
}

// The remainder with the sign of the divisor, as NumPy's mod.
float modulo(float a, float b) {
    float r = __builtin_fmodf(a, b);
    if (r != 0) return (b < 0) != (r < 0) ? r + b : r;
    return __builtin_copysignf(0.0f, b);
}

void activate_all(const Instruction& p, const void* a, const void*, const void*, void* y,
                  int64_t n) {
    const Epilogue e{static_cast<Activation>(p.c), p.alpha, p.beta};
    activate(e, static_cast<const float*>(a), static_cast<float*>(y), n);
}

#define LANES(value)                                                                          \
    [](const Instruction&, const void* pa, const void* pb, const void*, void* y, int64_t n) { \
        over(pa, pb, y, n,                                                                    \
             [](f32x16 a, [[maybe_unused]] f32x16 b)                                          \
                 __attribute__((always_inline)) { return value; });                           \
    }
#define EACH(type, value)                                                                     \
    [](const Instruction&, const void* pa, const void* pb, const void*, void* y, int64_t n) { \
        each<type>(pa, pb, y, n, [](float a, [[maybe_unused]] float b) { return value; });    \
    }

}  // namespace

Loop float_loop(Operation operation) {
    switch (operation) {
        case Operation::activation:
            return activate_all;
        case Operation::add:
            return LANES(add(a, b));
        case Operation::sub:
            return LANES(sub(a, b));
        case Operation::mul:
            return LANES(mul(a, b));
        case Operation::div:
            return LANES(div(a, b));
        // min and max propagate a NaN of either operand: the vocabulary's return b, and select
        // keeps a's.
        case Operation::min:
            return LANES(select(is_nan(a), a, min(a, b)));
        case Operation::max:
            return LANES(select(is_nan(a), a, max(a, b)));
        case Operation::prelu:
            return LANES(select(less(a, zero()), mul(a, b), a));
        case Operation::ceil:
            return LANES(sub(zero(), floor(sub(zero(), a))));
        case Operation::sign:
            return LANES(select(less(a, zero()), broadcast(-1.0f),
                                select(less(zero(), a), broadcast(1.0f), a)));
        case Operation::equal:
            return EACH(uint8_t, a == b);
        case Operation::less:
            return EACH(uint8_t, a < b);
        case Operation::less_or_equal:
            return EACH(uint8_t, a <= b);
        case Operation::is_nan:
            return EACH(uint8_t, a != a);
        case Operation::is_inf:
            return [](const Instruction& p, const void* a, const void* b, const void*, void* y,
                      int64_t n) {
                const bool negative = p.alpha != 0, positive = p.beta != 0;
                constexpr float kInfinity = __builtin_inff();
                each<uint8_t>(a, b, y, n, [=](float x, float) {
                    return (negative & (x == -kInfinity)) | (positive & (x == kInfinity));
                });
            };
        case Operation::pow:
            return EACH(float, __builtin_powf(a, b));
        case Operation::mod:
            return EACH(float, modulo(a, b));
        case Operation::fmod:
            return EACH(float, __builtin_fmodf(a, b));
        case Operation::sin:
            return EACH(float, __builtin_sinf(a));
        case Operation::cos:
            return EACH(float, __builtin_cosf(a));
        case Operation::tan:
            return EACH(float, __builtin_tanf(a));
        case Operation::sinh:
            return EACH(float, __builtin_sinhf(a));
        case Operation::cosh:
            return EACH(float, __builtin_coshf(a));
        case Operation::asinh:
            return EACH(float, __builtin_asinhf(a));
        case Operation::acosh:
            return EACH(float, __builtin_acoshf(a));
        case Operation::atanh:
            return EACH(float, __builtin_atanhf(a));
        default:
            return nullptr;
    }
}

}  // namespace cnnrt::CNNRT_ISA
