// Each conversion is a loop that the compiler turns into the instruction for it.
#include "conversion.h"

#include "element.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kStretch = 512;  // floats between two stages

// widen(x, y, n): y[i] = x[i] as a float.
template <class T>
void widen(const T* x, float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i]);
}

void widen(const Bool* x, float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i].value);
}

void widen(const BFloat16* x, float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = __builtin_bit_cast(float, uint32_t{x[i].bits} << 16);
}

void widen(const Float16* x, float* y, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) store(y + i, load_half(&x[i].bits));
    if (i == n) return;
    uint16_t rest[16] = {};
    __builtin_memcpy(rest, x + i, static_cast<size_t>(n - i) * 2);
    store_partial(y + i, static_cast<int>(n - i), load_half(rest));
}

void widen(const float* x, float* y, int64_t n) {
    __builtin_memcpy(y, x, static_cast<size_t>(n) * 4);
}

// To an integer, towards zero, by way of WIDE. NaN and values beyond WIDE become the nearer end of
// its range: anything else would be undefined. T then takes the low bits, as in NumPy.
template <class WIDE, class T>
void truncate(const float* x, T* y, int64_t n) {
    constexpr float kEnd = sizeof(WIDE) == 8 ? 0x1.fffffep62f : 0x1.fffffep30f;
    for (int64_t i = 0; i < n; ++i) {
        float v = x[i] < kEnd ? x[i] : kEnd;
        v = v > -kEnd ? v : -kEnd;
        y[i] = static_cast<T>(static_cast<WIDE>(v));
    }
}
template <class WIDE, class T>
void truncate(const double* x, T* y, int64_t n) {
    constexpr double kEnd = sizeof(WIDE) == 8 ? 0x1.fffffffffffffp62 : 0x1.fffffffcp30;
    for (int64_t i = 0; i < n; ++i) {
        double v = x[i] < kEnd ? x[i] : kEnd;
        v = v > -kEnd ? v : -kEnd;
        y[i] = static_cast<T>(static_cast<WIDE>(v));
    }
}

// narrow(x, y, n): y[i] = x[i] in another element type.
template <class FLOAT, class T>
void narrow(const FLOAT* x, T* y, int64_t n) {
    constexpr bool kWide = sizeof(T) == 8 || (sizeof(T) == 4 && T(-1) > T(0));
    if constexpr (kWide)
        truncate<int64_t>(x, y, n);
    else
        truncate<int32_t>(x, y, n);
}

// The upper half of the range is beyond what int64_t holds.
template <class FLOAT>
void narrow(const FLOAT* x, uint64_t* y, int64_t n) {
    truncate<int64_t>(x, y, n);
    for (int64_t i = 0; i < n; ++i)
        if (x[i] >= FLOAT(0x1p63))
            y[i] = x[i] < FLOAT(0x1p64) ? static_cast<uint64_t>(x[i]) : ~uint64_t{0};
}

template <class FLOAT>
void narrow(const FLOAT* x, Bool* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i].value = x[i] != FLOAT(0);
}

// Rounded to even. NaN keeps its upper bits, of which the quiet bit is then set: the others alone
// could be those of an infinity.
void narrow(const float* x, BFloat16* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        const uint32_t bits = __builtin_bit_cast(uint32_t, x[i]);
        const uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1);
        const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
        y[i].bits = static_cast<uint16_t>((nan ? bits | 0x400000u : rounded) >> 16);
    }
}

void narrow(const float* x, Float16* y, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) store_half(&y[i].bits, load(x + i));
    if (i == n) return;
    uint16_t rest[16];
    store_half(rest, load_partial(x + i, static_cast<int>(n - i)));
    __builtin_memcpy(y + i, rest, static_cast<size_t>(n - i) * 2);
}

void narrow(const float* x, float* y, int64_t n) {
    __builtin_memcpy(y, x, static_cast<size_t>(n) * 4);
}

void narrow(const float* x, double* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<double>(x[i]);
}

// A double as the float towards zero, with the last bit set if anything was lost. Rounded once
// more, to half precision, it gives what the double would. Source: Boldo and Melquiond, "When
// double rounding is odd", 2005.
float to_odd(double x) {
    const float nearest = static_cast<float>(x);
    if (static_cast<double>(nearest) == x || x != x) return nearest;
    uint32_t bits = __builtin_bit_cast(uint32_t, nearest);
    const double magnitude = x < 0 ? -x : x;
    const float rounded = nearest < 0 ? -nearest : nearest;
    if (static_cast<double>(rounded) > magnitude) --bits;
    return __builtin_bit_cast(float, bits | 1u);
}

template <class T>
void narrow_halves(const double* x, T* y, int64_t n) {
    float stretch[kStretch];
    for (int64_t i = 0; i < n; i += kStretch) {
        const int64_t count = n - i < kStretch ? n - i : kStretch;
        for (int64_t k = 0; k < count; ++k) stretch[k] = to_odd(x[i + k]);
        narrow(stretch, y + i, count);
    }
}
void narrow(const double* x, BFloat16* y, int64_t n) { narrow_halves(x, y, n); }
void narrow(const double* x, Float16* y, int64_t n) { narrow_halves(x, y, n); }
void narrow(const double* x, float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i]);
}
void narrow(const double* x, double* y, int64_t n) {
    __builtin_memcpy(y, x, static_cast<size_t>(n) * 8);
}

// resize(x, y, n): an integer in another type of integer, of which it takes the low bits.
template <class FROM, class TO>
void resize(const FROM* x, TO* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<TO>(x[i]);
}
template <class FROM>
void resize(const FROM* x, Bool* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i].value = x[i] != 0;
}

template <class FROM>
void from_integers(const FROM* x, DType to, void* y, int64_t n) {
    with_type(to, [&]<class T>(T) {
        // Halves come by way of floats. Signed integers have the bits of unsigned ones.
        if constexpr (Computed<T>::kWhole && !__is_same(T, Bool))
            resize(x, static_cast<UnsignedOf<T>*>(y), n);
        else if constexpr (!kOnlyStored<T>)
            resize(x, static_cast<T*>(y), n);
    });
}

void from_doubles(DType to, const double* x, void* y, int64_t n) {
    with_type(to, [&]<class T>(T) { narrow(x, static_cast<T*>(y), n); });
}

bool is_half(DType dtype) {
    bool half = false;
    with_type(dtype, [&]<class T>(T) { half = kOnlyStored<T>; });
    return half;
}

int64_t bytes_of(DType dtype) {
    int64_t bytes = 0;
    with_type(dtype, [&]<class T>(T) { bytes = sizeof(T); });
    return bytes;
}

}  // namespace

void to_floats(DType from, const void* x, float* y, int64_t n) {
    with_type(from, [&]<class T>(T) { widen(static_cast<const T*>(x), y, n); });
}

void from_floats(DType to, const float* x, void* y, int64_t n) {
    with_type(to, [&]<class T>(T) { narrow(x, static_cast<T*>(y), n); });
}

void convert_elements(DType from, const void* x, DType to, void* y, int64_t n) {
    if (from == DType::float32) return from_floats(to, static_cast<const float*>(x), y, n);
    if (to == DType::float32) return to_floats(from, x, static_cast<float*>(y), n);
    if (from == DType::float64) return from_doubles(to, static_cast<const double*>(x), y, n);
    if (is_half(from) || is_half(to)) {
        float stretch[kStretch];
        for (int64_t i = 0; i < n; i += kStretch) {
            const int64_t count = n - i < kStretch ? n - i : kStretch;
            to_floats(from, static_cast<const char*>(x) + i * bytes_of(from), stretch, count);
            from_floats(to, stretch, static_cast<char*>(y) + i * bytes_of(to), count);
        }
        return;
    }
    with_type(from, [&]<class T>(T) {
        if constexpr (Computed<T>::kWhole)
            from_integers(static_cast<const typename Computed<T>::type*>(x), to, y, n);
    });
}

}  // namespace cnnrt::CNNRT_ISA
