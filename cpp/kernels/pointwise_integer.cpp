// The operations of pointwise programs on integers and truth values: loops of which the compiler
// makes vectors. Sums and products wrap.
#include "element.h"
#include "pointwise.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class T, class Y, class F>
CNNRT_INLINE void each(const void* a, const void* b, void* y, int64_t n, F f) {
    const auto *pa = static_cast<const T*>(a), *pb = static_cast<const T*>(b);
    auto* py = static_cast<Y*>(y);
    CNNRT_SAME_PLACES
    for (int64_t i = 0; i < n; ++i) py[i] = static_cast<Y>(f(pa[i], pb[i]));
}

template <class T>
constexpr bool kSigned = T(-1) < T(0);

// The quotient towards zero; 0 if the divisor is, as in NumPy. The least integer by -1 wraps.
template <class T>
CNNRT_INLINE T quotient(T a, T b) {
    if (b == 0) return 0;
    if constexpr (kSigned<T>) {
        using U = UnsignedOf<T>;
        if (b == T(-1)) return static_cast<T>(U(0) - static_cast<U>(a));
    }
    return static_cast<T>(a / b);
}
// 32-bit quotients go by way of doubles, which have vector division. Such a quotient cannot round
// to the next integer: it is further from it than 2^-31 of itself.
CNNRT_INLINE int32_t quotient(int32_t a, int32_t b) {
    const double q = static_cast<double>(a) / static_cast<double>(b == 0 ? 1 : b);
    const double wrapped = q >= 0x1p31 ? -0x1p31 : q;
    return b == 0 ? 0 : static_cast<int32_t>(wrapped);
}
template <class T>
CNNRT_INLINE T remainder(T a, T b) {
    if (b == 0) return 0;
    if constexpr (kSigned<T>) {
        if (b == T(-1)) return 0;
    }
    return static_cast<T>(a % b);
}
// With the sign of the divisor.
template <class T>
CNNRT_INLINE T modulo(T a, T b) {
    const T r = remainder(a, b);
    return r != 0 && (r < 0) != (b < 0) ? static_cast<T>(r + b) : r;
}

// Products wrap. A negative power is that of 1 or -1, or else 0.
template <class T>
CNNRT_INLINE T power(T base, T exponent) {
    using U = decltype(T{} + 1u);
    if constexpr (kSigned<T>)
        if (exponent < 0) {
            if (base != 1 && base != T(-1)) return 0;
            exponent = exponent & 1;
        }
    U result = 1, square = static_cast<U>(base);
    for (; exponent > 0; exponent = static_cast<T>(exponent >> 1)) {
        if (exponent & 1) result *= square;
        square *= square;
    }
    return static_cast<T>(result);
}

// A shift by as many bits as there are, or more, leaves sign bits.
template <class T>
CNNRT_INLINE T shifted_right(T a, T b) {
    constexpr T kBits = sizeof(T) * 8;
    const bool inside = b >= 0 && b < kBits;
    return static_cast<T>(a >> (inside ? b : kBits - 1)) * T(inside || a < 0);
}

#define EACH(T, Y, value)                                                                     \
    [](const Instruction&, const void* pa, const void* pb, const void*, void* y, int64_t n) { \
        each<T, Y>(pa, pb, y, n, [](T a, [[maybe_unused]] T b) { return value; });            \
    }

// Quotients of int64 go by way of doubles too if all operands of a tile are below 2^52. None of
// those rounds to the next integer either.
void divide_wide(const Instruction&, const void* pa, const void* pb, const void*, void* py,
                 int64_t n) {
    const auto *a = static_cast<const int64_t*>(pa), *b = static_cast<const int64_t*>(pb);
    int64_t high = 0;
    for (int64_t i = 0; i < n; ++i) high |= (a[i] ^ (a[i] >> 63)) | (b[i] ^ (b[i] >> 63));
    if (high >> 52)
        return each<int64_t, int64_t>(pa, pb, py, n,
                                      [](int64_t x, int64_t y) { return quotient(x, y); });
    each<int64_t, int64_t>(pa, pb, py, n, [](int64_t x, int64_t y) {
        const double q = static_cast<double>(x) / static_cast<double>(y == 0 ? 1 : y);
        return y == 0 ? 0 : static_cast<int64_t>(q);
    });
}

// A loop for all exponents alike, mostly 2, is one of vectors.
template <class T>
void power_all(const Instruction&, const void* pa, const void* pb, const void*, void* py,
               int64_t n) {
    const T* b = static_cast<const T*>(pb);
    T other = 0;  // the bits in which an exponent is not 2
    for (int64_t i = 0; i < n; ++i) other = static_cast<T>(other | (b[i] ^ 2));
    if (other == 0)
        return each<T, T>(pa, pa, py, n, [](T x, T) { return decltype(x + 1u)(x) * x; });
    each<T, T>(pa, pb, py, n, [](T x, T y) { return power(x, y); });
}

// Loops that are the same for signed and unsigned integers of a size.
template <class U>
Loop same_loop(Operation operation) {
    using Wide = decltype(U{} + 1u);  // unsigned: a product of narrow ones is promoted to int
    switch (operation) {
        case Operation::activation:  // neg, the only one of integers
            return EACH(U, U, Wide(0) - a);
        case Operation::add:
            return EACH(U, U, Wide(a) + b);
        case Operation::sub:
            return EACH(U, U, Wide(a) - b);
        case Operation::mul:
            return EACH(U, U, Wide(a) * b);
        case Operation::bit_and:
            return EACH(U, U, a & b);
        case Operation::bit_or:
            return EACH(U, U, a | b);
        case Operation::bit_xor:
            return EACH(U, U, a ^ b);
        case Operation::bit_not:
            return EACH(U, U, ~a);
        case Operation::logical_not:
            return EACH(U, uint8_t, a == 0);
        case Operation::equal:
            return EACH(U, uint8_t, a == b);
        case Operation::shift_left:
            return EACH(U, U, b < sizeof(U) * 8 ? Wide(a) << b : 0);
        case Operation::where:
            return [](const Instruction&, const void* condition, const void* a, const void* b,
                      void* y, int64_t n) {
                const auto* c = static_cast<const uint8_t*>(condition);
                const auto *pa = static_cast<const U*>(a), *pb = static_cast<const U*>(b);
                auto* py = static_cast<U*>(y);
                CNNRT_SAME_PLACES
                for (int64_t i = 0; i < n; ++i) {
                    const U yes = pa[i], no = pb[i];
                    py[i] = c[i] ? yes : no;
                }
            };
        default:
            return nullptr;
    }
}

template <class T>
Loop ordered_loop(Operation operation) {
    switch (operation) {
        case Operation::div:
            if constexpr (kSigned<T> && sizeof(T) == 8) return divide_wide;
            return EACH(T, T, quotient(a, b));
        case Operation::fmod:
            return EACH(T, T, remainder(a, b));
        case Operation::mod:
            return EACH(T, T, modulo(a, b));
        case Operation::pow:
            return power_all<T>;
        case Operation::min:
            return EACH(T, T, a < b ? a : b);
        case Operation::max:
            return EACH(T, T, a > b ? a : b);
        case Operation::less:
            return EACH(T, uint8_t, a < b);
        case Operation::less_or_equal:
            return EACH(T, uint8_t, a <= b);
        case Operation::sign:
            return EACH(T, T, (a > 0) - (a < 0));
        case Operation::shift_right:
            return EACH(T, T, shifted_right(a, b));
        default:
            return same_loop<UnsignedOf<T>>(operation);
    }
}

}  // namespace

Loop integer_loop(Operation operation, DType type) {
    Loop loop = nullptr;
    with_type(type, [&]<class T>(T) {
        if constexpr (Computed<T>::kWhole)
            loop = ordered_loop<typename Computed<T>::type>(operation);
        else if (operation == Operation::where)  // only selected, whatever the bits mean
            loop = same_loop<UnsignedOf<T>>(operation);
    });
    return loop;
}

}  // namespace cnnrt::CNNRT_ISA
