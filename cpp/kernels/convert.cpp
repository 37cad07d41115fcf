// Conversion between float32 and other elements; with a scale, quantisation to integers,
// y = saturate(round(x / scale) + zero), or back, y = (x - zero) * scale.
//
// Everything goes through a stretch of floats that L1 holds: what is not float32 is made so, or of
// it, by a loop that the compiler turns into the conversion's instruction.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 16384;  // elements in one task, about
constexpr int64_t kStretch = 512;  // floats between two stages

template <class T>
void from_integer(const void* x, float* y, int64_t n) {
    const T* p = static_cast<const T*>(x);
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(p[i]);
}

// Towards zero. What the type WIDE cannot hold, and NaN, become its nearest end: anything else
// would be undefined. Narrower types then take the low bits, as NumPy does.
template <class T, class WIDE>
void to_integer(const float* x, void* y, int64_t n) {
    constexpr float kEnd = sizeof(WIDE) == 8 ? 0x1.fffffep62f : 0x1.fffffep30f;
    T* p = static_cast<T*>(y);
    for (int64_t i = 0; i < n; ++i) {
        float v = x[i] < kEnd ? x[i] : kEnd;
        v = v > -kEnd ? v : -kEnd;
        p[i] = static_cast<T>(static_cast<WIDE>(v));
    }
}

void from_half(const uint16_t* x, float* y, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) store(y + i, load_half(x + i));
    if (i == n) return;
    uint16_t rest[16] = {};
    __builtin_memcpy(rest, x + i, static_cast<size_t>(n - i) * 2);
    store_partial(y + i, static_cast<int>(n - i), load_half(rest));
}

void to_half(const float* x, uint16_t* y, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) store_half(y + i, load(x + i));
    if (i == n) return;
    uint16_t rest[16];
    store_half(rest, load_partial(x + i, static_cast<int>(n - i)));
    __builtin_memcpy(y + i, rest, static_cast<size_t>(n - i) * 2);
}

void to_floats(Dtype from, const void* x, float* y, int64_t n) {
    switch (from) {
        case Dtype::boolean:
        case Dtype::uint8:
            return from_integer<uint8_t>(x, y, n);
        case Dtype::int8:
            return from_integer<int8_t>(x, y, n);
        case Dtype::uint16:
            return from_integer<uint16_t>(x, y, n);
        case Dtype::int16:
            return from_integer<int16_t>(x, y, n);
        case Dtype::int32:
            return from_integer<int32_t>(x, y, n);
        case Dtype::int64:
            return from_integer<int64_t>(x, y, n);
        case Dtype::float64:
            return from_integer<double>(x, y, n);
        case Dtype::float16:
            return from_half(static_cast<const uint16_t*>(x), y, n);
        case Dtype::float32:
            __builtin_memcpy(y, x, static_cast<size_t>(n) * 4);
    }
}

void of_floats(Dtype to, const float* x, void* y, int64_t n) {
    switch (to) {
        case Dtype::boolean: {
            uint8_t* p = static_cast<uint8_t*>(y);
            for (int64_t i = 0; i < n; ++i) p[i] = x[i] != 0.0f;
            return;
        }
        case Dtype::uint8:
            return to_integer<uint8_t, int32_t>(x, y, n);
        case Dtype::int8:
            return to_integer<int8_t, int32_t>(x, y, n);
        case Dtype::uint16:
            return to_integer<uint16_t, int32_t>(x, y, n);
        case Dtype::int16:
            return to_integer<int16_t, int32_t>(x, y, n);
        case Dtype::int32:
            return to_integer<int32_t, int32_t>(x, y, n);
        case Dtype::int64:
            return to_integer<int64_t, int64_t>(x, y, n);
        case Dtype::float64: {
            double* p = static_cast<double*>(y);
            for (int64_t i = 0; i < n; ++i) p[i] = static_cast<double>(x[i]);
            return;
        }
        case Dtype::float16:
            return to_half(x, static_cast<uint16_t*>(y), n);
        case Dtype::float32:
            __builtin_memcpy(y, x, static_cast<size_t>(n) * 4);
    }
}

int64_t bytes_of(Dtype e) {
    switch (e) {
        case Dtype::boolean:
        case Dtype::uint8:
        case Dtype::int8:
            return 1;
        case Dtype::uint16:
        case Dtype::int16:
        case Dtype::float16:
            return 2;
        case Dtype::int32:
        case Dtype::float32:
            return 4;
        default:
            return 8;
    }
}

// The range of the integers that quantisation makes.
struct Range {
    float low, high;
    explicit Range(Dtype e) {
        const bool is_signed = e == Dtype::int8 || e == Dtype::int16;
        const float span = bytes_of(e) == 1 ? 256.0f : 65536.0f;
        low = is_signed ? -span / 2 : 0.0f;
        high = low + span - 1;
    }
};

// y[i] = f(x[i], scale[i], zero[i]); `step` is 0 where all share the first scale and zero.
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
    const int64_t x_bytes = bytes_of(args.from), y_bytes = bytes_of(args.to);
    const int64_t stop = smaller(cut.units, end * cut.per_task);
    const bool quantises = args.from == Dtype::float32;
    const Range range(args.to);
    const f32x16 low = broadcast(range.low), high = broadcast(range.high);
    alignas(64) float stretch[kStretch];
    for (int64_t unit = begin * cut.per_task; unit < stop; ++unit) {
        const int64_t row = unit / cut.pieces, first = unit % cut.pieces * cut.piece;
        const int64_t last = smaller(args.columns, first + cut.piece);
        for (int64_t i = first; i < last; i += kStretch) {
            const int64_t n = smaller(kStretch, last - i), at = row * args.columns + i;
            const char* from = x + at * x_bytes;
            char* to = y + at * y_bytes;
            if (!scale) {
                if (quantises) {
                    of_floats(args.to, reinterpret_cast<const float*>(from), to, n);
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
                of_floats(args.to, stretch, to, n);
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

int64_t convert_scratch(const ConvertArgs&) { return 0; }

}  // namespace cnnrt::CNNRT_ISA
