// The operations of pointwise programs on float64: loops over doubles. The compiler makes vectors
// of those that are arithmetic. The rest are the C library's functions.
#include "pointwise.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class T, class F>
CNNRT_INLINE void each(const void* a, const void* b, void* y, int64_t n, F f) {
    const auto *pa = static_cast<const double*>(a), *pb = static_cast<const double*>(b);
    auto* py = static_cast<T*>(y);
    CNNRT_SAME_PLACES
    for (int64_t i = 0; i < n; ++i) py[i] = static_cast<T>(f(pa[i], pb[i]));
}

// Both propagate a NaN of either operand.
CNNRT_INLINE double least(double a, double b) { return a < b || a != a ? a : b; }
CNNRT_INLINE double most(double a, double b) { return a > b || a != a ? a : b; }

double modulo(double a, double b) {
    double r = __builtin_fmod(a, b);
    if (r != 0) return (b < 0) != (r < 0) ? r + b : r;
    return __builtin_copysign(0.0, b);
}

// 2^n for whole n from -1022 to 1023.
CNNRT_INLINE double power_of_two(double n) {
    // The low bits of the sum hold n, as its unit is 1.
    const auto bits = __builtin_bit_cast(uint64_t, n + (0x1.8p52 + 1023));
    return __builtin_bit_cast(double, bits << 52);
}

// e^x, or e^x - 1 = 2^n p + (2^n - 1), with x = n ln 2 + r. p is the Taylor polynomial of e^r - 1
// to r^13. Its error at |r| <= ln 2 / 2 is below 2^-55 of it. There are no calls or branches, so
// that loops become vectors. Source of the reduction: Cody and Waite, "Software Manual for the
// Elementary Functions", 1980.
template <bool MINUS_ONE>
CNNRT_INLINE double exponential(double x) {
    const double in_range = x > 720 ? 720 : x < -760 ? -760 : x;  // NaN stays
    const double whole = in_range * 1.4426950408889634 + 0x1.8p52;
    const double n = whole - 0x1.8p52;
    const double r = (in_range - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 6227020800;
    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r * r + r;
    // In two steps, as 2^n itself may be out of range.
    const double half = (n * 0.5 + 0x1.8p52) - 0x1.8p52, rest = n - half;
    const double first = power_of_two(half);
    const double beside = MINUS_ONE ? first - power_of_two(-rest) : first;
    return (p * first + beside) * power_of_two(rest);
}
CNNRT_INLINE double exp_of(double x) { return exponential<false>(x); }
CNNRT_INLINE double expm1_of(double x) { return exponential<true>(x); }

// From e^2|x| - 1, which keeps the digits of a small x.
CNNRT_INLINE double tanh_of(double x) {
    const double wide = 2 * __builtin_fabs(x);
    const double t = expm1_of(wide > 44 ? 44 : wide);  // 1 from there on
    return __builtin_copysign(t / (t + 2), x);
}
CNNRT_INLINE double sigmoid(double x) { return 1 / (1 + exp_of(-x)); }
double softplus(double x) {
    return most(x, 0.0) + __builtin_log1p(__builtin_exp(-__builtin_fabs(x)));
}
double hard_sigmoid(double x, double a, double b) { return least(most(a * x + b, 0.0), 1.0); }
CNNRT_INLINE double elu(double x, double a) {
    const double below = a * expm1_of(x);
    return x < 0 ? below : x;
}
CNNRT_INLINE double celu(double x, double a) {
    const double below = a * expm1_of(x / a);
    return x < 0 ? below : x;
}
CNNRT_INLINE double gelu_tanh(double x) {
    const double inner = 0.79788456080286535588 * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1 + tanh_of(inner));
}

// The parameter of an activation, which takes the place of both floats.
double parameter(const Instruction& p) {
    double value;
    __builtin_memcpy(&value, &p.alpha, sizeof value);
    return value;
}

// The activations of activations.def with at most one parameter, as ACTIVATIONS of
// ops/elementwise.py defines them.
#define ACTIVATE(name, value)                                                                     \
    case Activation::name:                                                                        \
        return [](const Instruction& p, const void* pa, const void*, const void*, void* y,        \
                  int64_t n) {                                                                    \
            [[maybe_unused]] const double a = parameter(p);                                       \
            each<double>(pa, pa, y, n, [=]([[maybe_unused]] double x, double) { return value; }); \
        }

Loop activation_loop(Activation activation) {
    switch (activation) {
        ACTIVATE(none, x);
        ACTIVATE(relu, most(x, 0.0));
        ACTIVATE(leaky_relu, x < 0 ? a * x : x);
        ACTIVATE(sigmoid, sigmoid(x));
        ACTIVATE(silu, x * sigmoid(x));
        ACTIVATE(tanh, tanh_of(x));
        ACTIVATE(hard_swish, x * hard_sigmoid(x, 1.0 / 6, 0.5));
        ACTIVATE(gelu, 0.5 * x * (1 + __builtin_erf(x * 0.70710678118654752440)));
        ACTIVATE(gelu_tanh, gelu_tanh(x));
        ACTIVATE(elu, elu(x, a));
        ACTIVATE(celu, celu(x, a));
        ACTIVATE(softplus, softplus(x));
        ACTIVATE(mish, x * __builtin_tanh(softplus(x)));
        ACTIVATE(softsign, x / (1 + __builtin_fabs(x)));
        ACTIVATE(abs, __builtin_fabs(x));
        ACTIVATE(neg, -x);
        ACTIVATE(exp, exp_of(x));
        ACTIVATE(log, __builtin_log(x));
        ACTIVATE(sqrt, __builtin_sqrt(x));
        ACTIVATE(reciprocal, 1 / x);
        ACTIVATE(erf, __builtin_erf(x));
        ACTIVATE(floor, __builtin_floor(x));
        ACTIVATE(round, __builtin_rint(x));
        ACTIVATE(thresholded_relu, x > a ? x : 0);
        ACTIVATE(atan, __builtin_atan(x));
        ACTIVATE(asin, __builtin_asin(x));
        ACTIVATE(acos, __builtin_acos(x));
        default:
            return nullptr;
    }
}

// Squares and cubes, which are most of the exponents that networks compute, are products. If all
// exponents are alike, a loop of vectors makes them; lane by lane they have the same bits.
void power_all(const Instruction&, const void* pa, const void* pb, const void*, void* y,
               int64_t n) {
    const auto* b = static_cast<const double*>(pb);
    uint64_t no_square = 0, no_cube = 0;  // as wide as doubles, so that the loop has vectors
    for (int64_t i = 0; i < n; ++i) {
        no_square |= static_cast<uint64_t>(b[i] != 2);
        no_cube |= static_cast<uint64_t>(b[i] != 3);
    }
    if (!no_square) return each<double>(pa, pa, y, n, [](double x, double) { return x * x; });
    if (!no_cube) return each<double>(pa, pa, y, n, [](double x, double) { return x * x * x; });
    each<double>(pa, pb, y, n, [](double x, double e) {
        return e == 2 ? x * x : e == 3 ? x * x * x : __builtin_pow(x, e);
    });
}

#define EACH(type, value)                                                                     \
    [](const Instruction&, const void* pa, const void* pb, const void*, void* y, int64_t n) { \
        each<type>(pa, pb, y, n, [](double a, [[maybe_unused]] double b) { return value; });  \
    }

}  // namespace

Loop double_loop(const Instruction& instruction) {
    switch (static_cast<Operation>(instruction.operation)) {
        case Operation::activation:
            return activation_loop(static_cast<Activation>(instruction.c));
        case Operation::add:
            return EACH(double, a + b);
        case Operation::sub:
            return EACH(double, a - b);
        case Operation::mul:
            return EACH(double, a* b);
        case Operation::div:
            return EACH(double, a / b);
        case Operation::min:
            return EACH(double, least(a, b));
        case Operation::max:
            return EACH(double, most(a, b));
        case Operation::prelu:
            return EACH(double, a < 0 ? a * b : a);
        case Operation::ceil:
            return EACH(double, __builtin_ceil(a));
        case Operation::sign:
            return EACH(double, a < 0 ? -1.0 : a > 0 ? 1.0 : a);
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
                constexpr double kInfinity = __builtin_inf();
                each<uint8_t>(a, b, y, n, [=](double x, double) {
                    return (negative & (x == -kInfinity)) | (positive & (x == kInfinity));
                });
            };
        case Operation::pow:
            return power_all;
        case Operation::mod:
            return EACH(double, modulo(a, b));
        case Operation::fmod:
            return EACH(double, __builtin_fmod(a, b));
        case Operation::sin:
            return EACH(double, __builtin_sin(a));
        case Operation::cos:
            return EACH(double, __builtin_cos(a));
        case Operation::tan:
            return EACH(double, __builtin_tan(a));
        case Operation::sinh:
            return EACH(double, __builtin_sinh(a));
        case Operation::cosh:
            return EACH(double, __builtin_cosh(a));
        case Operation::asinh:
            return EACH(double, __builtin_asinh(a));
        case Operation::acosh:
            return EACH(double, __builtin_acosh(a));
        case Operation::atanh:
            return EACH(double, __builtin_atanh(a));
        default:
            return nullptr;
    }
}

}  // namespace cnnrt::CNNRT_ISA
