// The operations of pointwise programs on float32, with the arithmetic of `elementwise`.
#include "../simd/through_double.h"
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

// y = f(a, b) in vectors of doubles, rounded to floats.
template <class F>
CNNRT_INLINE void in_doubles(const float* a, const float* b, float* y, int64_t n, F f) {
    for (int64_t i = 0; i < n; i += kDoubles)
        store_rounded(y + i, f(load_widened(a + i), load_widened(b + i)));
}

// Squares and cubes, which are most of the exponents that networks compute, are products. They have
// the same bits beside other exponents and alone.
void power_all(const Instruction&, const void* pa, const void* pb, const void*, void* py,
               int64_t n) {
    const auto *a = static_cast<const float*>(pa), *b = static_cast<const float*>(pb);
    auto* y = static_cast<float*>(py);
    bool same = true;
    for (int64_t i = 0; i < n; i += 16)
        same = same && sum(abs(sub(load(b + i), broadcast(b[0])))) == 0.0f;
    if (same && b[0] == 2) return over(a, a, y, n, [](f32x16 x, f32x16) { return mul(x, x); });
    if (same && b[0] == 3) return in_doubles(a, a, y, n, [](f64xN x, f64xN) { return x * x * x; });
    if constexpr (kDoubles > 2) {
        in_doubles(a, b, y, n, [](f64xN x, f64xN e) __attribute__((always_inline)) {
            const f64xN product = e == 2 ? x * x : x * x * x;
            return ((e == 2) | (e == 3)) ? product : power(x, e);
        });
    } else {  // 13 ns an element in vectors of two, 4 in the C library
        each<float>(a, b, y, n, [](float x, float e) {
            const double wide = x;
            return e == 2   ? x * x
                   : e == 3 ? static_cast<float>(wide * wide * wide)
                            : __builtin_powf(x, e);
        });
    }
}

// A function of angles: near(x), and the C library's far(x) of the few that are larger than
// kLargestAngle or no numbers.
template <class Near, class Far>
CNNRT_INLINE void of_angles(const void* a, void* y, int64_t n, Near near, Far far) {
    constexpr int64_t kPiece = 64;
    float x[kPiece];  // y may take the place of a
    for (int64_t i = 0; i < n; i += kPiece) {
        const int64_t count = smaller(kPiece, n - i);
        __builtin_memcpy(x, static_cast<const float*>(a) + i, static_cast<size_t>(count) * 4);
        const auto is_far = [&](int64_t k) { return !(__builtin_fabsf(x[k]) <= kLargestAngle); };
        uint32_t any_far = 0;
        for (int64_t k = 0; k < count; ++k) any_far |= static_cast<uint32_t>(is_far(k));
        float* to = static_cast<float*>(y) + i;
        in_doubles(x, x, to, count, near);
        for (int64_t k = 0; any_far && k < count; ++k)
            if (is_far(k)) to[k] = far(x[k]);
    }
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

#define ANGLES(near, far)                                                                   \
    [](const Instruction&, const void* a, const void*, const void*, void* y, int64_t n) {   \
        of_angles(                                                                          \
            a, y, n, [](f64xN x, f64xN) __attribute__((always_inline)) { return near(x); }, \
            [](float x) { return far(x); });                                                \
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
            return power_all;
        case Operation::mod:
            return EACH(float, modulo(a, b));
        case Operation::fmod:
            return EACH(float, __builtin_fmodf(a, b));
        case Operation::sin:
            return ANGLES(near_sin, __builtin_sinf);
        case Operation::cos:
            return ANGLES(near_cos, __builtin_cosf);
        case Operation::tan:
            return ANGLES(near_tan, __builtin_tanf);
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
