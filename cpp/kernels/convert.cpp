// Conversion between float32 and the other element types. With a scale it quantises to integers, y
// = saturate(round(x / scale) + zero), or dequantises, y = (x - zero) * scale.
//
// Both go through a stretch of floats that stays in L1, filled or emptied by a loop that the
// compiler turns into the conversion's instruction.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 16384;  // elements in one task, about
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

// To an integer, towards zero, by way of WIDE. NaN and what WIDE cannot hold become the nearer end
// of its range: anything else would be undefined. T then takes the low bits, as in NumPy.
template <class WIDE, class T>
void truncate(const float* x, T* y, int64_t n) {
    constexpr float kEnd = sizeof(WIDE) == 8 ? 0x1.fffffep62f : 0x1.fffffep30f;
    for (int64_t i = 0; i < n; ++i) {
        float v = x[i] < kEnd ? x[i] : kEnd;
        v = v > -kEnd ? v : -kEnd;
        y[i] = static_cast<T>(static_cast<WIDE>(v));
    }
}

// narrow(x, y, n): y[i] = x[i] in another element type.
template <class T>
void narrow(const float* x, T* y, int64_t n) {
    constexpr bool kWide = sizeof(T) == 8 || (sizeof(T) == 4 && T(-1) > T(0));
    if constexpr (kWide)
        truncate<int64_t>(x, y, n);
    else
        truncate<int32_t>(x, y, n);
}

// The upper half of the range is beyond what int64_t holds.
void narrow(const float* x, uint64_t* y, int64_t n) {
    truncate<int64_t>(x, y, n);
    for (int64_t i = 0; i < n; ++i)
        if (x[i] >= 0x1p63f) y[i] = x[i] < 0x1p64f ? static_cast<uint64_t>(x[i]) : ~uint64_t{0};
}

void narrow(const float* x, Bool* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i].value = x[i] != 0.0f;
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

void to_floats(DType from, const void* x, float* y, int64_t n) {
    switch (from) {
#define DTYPE(id, name, type, kind, code) \
    case DType::id:                       \
        return widen(static_cast<const type*>(x), y, n);
#include "dtypes.def"
    }
}

void from_floats(DType to, const float* x, void* y, int64_t n) {
    switch (to) {
#define DTYPE(id, name, type, kind, code) \
    case DType::id:                       \
        return narrow(x, static_cast<type*>(y), n);
#include "dtypes.def"
    }
}

struct Element {
    int64_t size;  // bytes
    char kind;
};

Element element_of(DType dtype) {
    switch (dtype) {
#define DTYPE(id, name, type, kind, code) \
    case DType::id:                       \
        return {sizeof(type), kind};
#include "dtypes.def"
    }
    return {};
}

// The range of an integer type that quantisation makes, of 8 or 16 bits.
struct Range {
    float low, high;
    explicit Range(Element e) {
        const float span = e.size == 1 ? 256.0f : 65536.0f;
        low = e.kind == 'i' ? -span / 2 : 0.0f;
        high = low + span - 1;
    }
};

// y[i] = f(x[i], scale[i], zero[i]); with a step of 0 all share the first scale and zero.
template <class F>
CNNRT_INLINE void scaled(const float* x, float* y, int64_t n, const float* scale, const float* zero,
                         int64_t step, F f) {
    const f32x16 s0 = broadcast(*scale), z0 = broadcast(*zero);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        store(y + i, f(load(x + i), step ? load(scale + i) : s0, step ? load(zero + i) : z0));
    if (i == n) return;
    const int rest = static_cast<int>(n - i);
    store_partial(y + i, rest,
                  f(load_partial(x + i, rest), step ? load_partial(scale + i, rest) : s0,
                    step ? load_partial(zero + i, rest) : z0));
}

struct Cut {
    int64_t piece, pieces, units, per_task;
    explicit Cut(const ConvertArgs& a)
        : piece(larger<int64_t>(1, smaller(a.columns, kChunk))),
          pieces(ceil_div(a.columns, piece)),
          units(a.rows * pieces),
          per_task(larger<int64_t>(1, kChunk / piece)) {}
};

}  // namespace

void convert(const ConvertArgs& args, const Context& context, int64_t begin, int64_t end) {
    const Cut cut(args);
    const char* x = context.at<const char>(args.x);
    char* y = context.at<char>(args.y);
    const float *scale = context.at(args.scale), *zero = context.at(args.zero);
    const Element x_element = element_of(args.from), y_element = element_of(args.to);
    const int64_t stop = smaller(cut.units, end * cut.per_task);
    const bool quantises = args.from == DType::float32;
    const Range range(y_element);
    const f32x16 low = broadcast(range.low), high = broadcast(range.high);
    alignas(64) float stretch[kStretch];
    for (int64_t unit = begin * cut.per_task; unit < stop; ++unit) {
        const int64_t row = unit / cut.pieces, first = unit % cut.pieces * cut.piece;
        const int64_t last = smaller(args.columns, first + cut.piece);
        for (int64_t i = first; i < last; i += kStretch) {
            const int64_t n = smaller(kStretch, last - i), at = row * args.columns + i;
            const char* from = x + at * x_element.size;
            char* to = y + at * y_element.size;
            if (!scale) {
                if (quantises) {
                    from_floats(args.to, reinterpret_cast<const float*>(from), to, n);
                } else {
                    to_floats(args.from, from, reinterpret_cast<float*>(to), n);
                }
                continue;
            }
            const int64_t place = args.by_column ? i : row % args.scales;
            const float *s = scale + place, *z = zero + place;
            if (quantises) {
                scaled(reinterpret_cast<const float*>(from), stretch, n, s, z, args.by_column,
                       [=](f32x16 v, f32x16 vs, f32x16 vz) {
                           return min(high, max(low, add(round(div(v, vs)), vz)));
                       });
                from_floats(args.to, stretch, to, n);
            } else {
                to_floats(args.from, from, stretch, n);
                scaled(stretch, reinterpret_cast<float*>(to), n, s, z, args.by_column,
                       [=](f32x16 v, f32x16 vs, f32x16 vz) { return mul(sub(v, vz), vs); });
            }
        }
    }
}

int64_t convert_tasks(const ConvertArgs& args) {
    const Cut cut(args);
    return ceil_div(cut.units, cut.per_task);
}

}  // namespace cnnrt::CNNRT_ISA
