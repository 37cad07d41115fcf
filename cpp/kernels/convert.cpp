// Conversion between element types. With a scale it quantises float32 to integers, y =
// saturate(round(x / scale) + zero), or dequantises, y = (x - zero) * scale.
//
// Both go through a stretch of floats that stays in L1.
#include "conversion.h"
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 16384;  // approximate elements in one task
constexpr int64_t kStretch = 512;  // floats between two stages

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
                convert_elements(args.from, from, args.to, to, n);
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
