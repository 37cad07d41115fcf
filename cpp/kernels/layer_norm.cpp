// Layer normalisation: rows standardised, y = (x - mean) / sqrt(variance + epsilon) * scale + bias,
// or, not centred, divided by their root mean square.
//
// A row is a line of floats of a plain tensor, or the channels of a pixel of a blocked one. The
// latter are groups of 16, `block` floats apart. A row is read three times, the last two from L1:
// for the mean, the sum of squared distances from it, and the result. (The mean of squares less the
// square of the mean would cancel.) Group normalisation has longer rows, the channels of a group,
// with scale and bias per channel.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 8192;  // approximate floats in one task
constexpr int kSums = 4;          // running sums side by side: additions wait for each other

CNNRT_INLINE int64_t rows_of(const LayerNormArgs& a) {
    int64_t rows = 1;
    for (int i = 0; i < a.dims; ++i) rows *= a.shape[i];
    return rows;
}
CNNRT_INLINE int64_t rows_per_task(const LayerNormArgs& a) {
    return larger<int64_t>(1, kChunk / a.axis);
}

// The sum of f(x) over a row; lanes past its end add nothing.
template <class F>
CNNRT_INLINE float sum_of(const float* x, int64_t block, int64_t whole, int rest, F f) {
    f32x16 s[kSums];
#pragma GCC unroll 4
    for (int j = 0; j < kSums; ++j) s[j] = zero();
    int64_t i = 0;
    for (; i + kSums <= whole; i += kSums, x += kSums * block) {
#pragma GCC unroll 4
        for (int j = 0; j < kSums; ++j) s[j] = f(s[j], load(x + j * block));
    }
    for (; i < whole; ++i, x += block) s[0] = f(s[0], load(x));
    if (rest) {
        static constexpr float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const mask16 inside = less(load(kLane), broadcast(static_cast<float>(rest)));
        s[1] = add(s[1], select(inside, f(zero(), load_partial(x, rest)), zero()));
    }
    return sum(add(add(s[0], s[1]), add(s[2], s[3])));
}

void normalise_row(const LayerNormArgs& a, const float* x, float* y, const float* scale,
                   const float* bias) {
    const int64_t whole = a.axis / 16;
    const int rest = static_cast<int>(a.axis % 16);
    const float size = static_cast<float>(a.axis);
    float mean = 0;
    if (a.centred)
        mean =
            sum_of(x, a.x_block, whole, rest, [](f32x16 s, f32x16 v) { return add(s, v); }) / size;
    const f32x16 m = broadcast(mean);
    const float squares = sum_of(x, a.x_block, whole, rest, [=](f32x16 s, f32x16 v) {
        const f32x16 d = sub(v, m);
        return fma(d, d, s);
    });
    const f32x16 factor = broadcast(1.0f / __builtin_sqrtf(squares / size + a.epsilon));
    const auto result = [&](f32x16 v, f32x16 w, f32x16 b) {
        return fma(mul(sub(v, m), factor), w, b);
    };
    if (a.span) {
        // One scale and bias for each channel, `span` pixels of a plain row.
        for (int64_t i = 0; i < a.axis; i += a.span, x += a.span, y += a.span, ++scale, ++bias) {
            const f32x16 w = broadcast(*scale), b = broadcast(*bias);
            int64_t j = 0;
            for (; j + 16 <= a.span; j += 16) store(y + j, result(load(x + j), w, b));
            if (j < a.span) {
                const int left = static_cast<int>(a.span - j);
                store_partial(y + j, left, result(load_partial(x + j, left), w, b));
            }
        }
        return;
    }
    const f32x16 one = broadcast(1.0f), none = zero();
    for (int64_t i = 0; i < whole; ++i)
        store(y + i * a.y_block, result(load(x + i * a.x_block), scale ? load(scale + i * 16) : one,
                                        bias ? load(bias + i * 16) : none));
    if (rest)
        store_partial(y + whole * a.y_block, rest,
                      result(load_partial(x + whole * a.x_block, rest),
                             scale ? load_partial(scale + whole * 16, rest) : one,
                             bias ? load_partial(bias + whole * 16, rest) : none));
}

}  // namespace

void layer_norm(const LayerNormArgs& args, const Context& context, int64_t begin, int64_t end) {
    const float *scale = context.at(args.scale), *bias = context.at(args.bias);
    const int64_t rows = smaller(rows_of(args), end * rows_per_task(args));
    for (int64_t row = begin * rows_per_task(args); row < rows; ++row) {
        const float* x = context.at(args.x);
        float* y = context.at(args.y);
        int64_t rest = row;
        for (int i = args.dims - 1; i >= 0; rest /= args.shape[i--]) {
            x += rest % args.shape[i] * args.x_stride[i];
            y += rest % args.shape[i] * args.y_stride[i];
        }
        const int64_t channel = args.span ? row % args.groups * (args.axis / args.span) : 0;
        normalise_row(args, x, y, scale + channel, bias + channel);
    }
}

int64_t layer_norm_tasks(const LayerNormArgs& args) {
    return ceil_div(rows_of(args), rows_per_task(args));
}

}  // namespace cnnrt::CNNRT_ISA
