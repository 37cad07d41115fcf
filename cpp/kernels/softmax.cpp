// Softmax and log-softmax over the middle axis of plain [outer, axis, inner]. With m the largest x,
// they are e^(x - m) / sum e^(x - m) and x - m - log(sum e^(x - m)).
//
// inner == 1: vectors along the axis. inner > 1: vectors of 16 neighbouring inner positions, each
// lane a softmax of its own. A NaN makes its sum, and so the whole row, NaN. So does a row of
// -infinity alone, as -inf - -inf is NaN. The order of a sum depends on the shape alone.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kInnerVectors = 4;  // of 16 positions, in one task

// The first n lanes from p, -infinity in the others: neutral for the maximum, and e^-inf = 0.
CNNRT_INLINE f32x16 load_or_lowest(const float* p, int n) {
    static constexpr float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return select(less(load(kLane), broadcast(static_cast<float>(n))), load_partial(p, n),
                  broadcast(-__builtin_inff()));
}

// One row of n contiguous floats.
void softmax_row(const float* x, float* y, int64_t n, bool log_of) {
    const int64_t whole = n / 16 * 16;
    const int rest = static_cast<int>(n - whole);
    f32x16 m = broadcast(-__builtin_inff());
    for (int64_t i = 0; i < whole; i += 16) m = max(m, load(x + i));
    if (rest) m = max(m, load_or_lowest(x + whole, rest));
    m = broadcast(largest(m));

    f32x16 s = zero();
    for (int64_t i = 0; i < whole; i += 16) {
        const f32x16 e = exp(sub(load(x + i), m));
        if (!log_of) store(y + i, e);
        s = add(s, e);
    }
    if (rest) {
        const f32x16 e = exp(sub(load_or_lowest(x + whole, rest), m));
        if (!log_of) store_partial(y + whole, rest, e);
        s = add(s, e);
    }
    const float total = sum(s);

    if (log_of) {
        const f32x16 l = log(broadcast(total));
        for (int64_t i = 0; i < whole; i += 16) store(y + i, sub(sub(load(x + i), m), l));
        if (rest) store_partial(y + whole, rest, sub(sub(load_partial(x + whole, rest), m), l));
    } else {
        const f32x16 scale = broadcast(1.0f / total);
        for (int64_t i = 0; i < whole; i += 16) store(y + i, mul(load(y + i), scale));
        if (rest) store_partial(y + whole, rest, mul(load_partial(y + whole, rest), scale));
    }
}

// `lanes` neighbouring columns of `axis` floats, `step` apart.
void softmax_columns(const float* x, float* y, int64_t axis, int64_t step, int lanes, bool log_of) {
    const auto at = [=](const float* p, int64_t i) {
        return lanes == 16 ? load(p + i * step) : load_partial(p + i * step, lanes);
    };
    const auto put = [=](int64_t i, f32x16 v) {
        if (lanes == 16)
            store(y + i * step, v);
        else
            store_partial(y + i * step, lanes, v);
    };
    f32x16 m = broadcast(-__builtin_inff()), s = zero();
    for (int64_t i = 0; i < axis; ++i) m = max(m, at(x, i));
    for (int64_t i = 0; i < axis; ++i) {
        const f32x16 e = exp(sub(at(x, i), m));
        if (!log_of) put(i, e);
        s = add(s, e);
    }
    if (log_of) {
        const f32x16 l = log(s);
        for (int64_t i = 0; i < axis; ++i) put(i, sub(sub(at(x, i), m), l));
    } else {
        const f32x16 scale = div(broadcast(1.0f), s);
        for (int64_t i = 0; i < axis; ++i) put(i, mul(at(y, i), scale));
    }
}

int64_t chunks(const SoftmaxArgs& a) {
    return a.inner == 1 ? 1 : ceil_div(a.inner, 16 * kInnerVectors);
}

}  // namespace

void softmax(const SoftmaxArgs& args, const Context& context, int64_t begin, int64_t end) {
    const float* x = context.at(args.x);
    float* y = context.at(args.y);
    for (int64_t task = begin; task < end; ++task) {
        const int64_t offset = task / chunks(args) * args.axis * args.inner;
        if (args.inner == 1) {
            softmax_row(x + offset, y + offset, args.axis, args.log);
            continue;
        }
        const int64_t i0 = task % chunks(args) * 16 * kInnerVectors;
        const int64_t i1 = smaller(args.inner, i0 + 16 * kInnerVectors);
        for (int64_t i = i0; i < i1; i += 16) {
            const int lanes = static_cast<int>(smaller<int64_t>(16, i1 - i));
            softmax_columns(x + offset + i, y + offset + i, args.axis, args.inner, lanes, args.log);
        }
    }
}

int64_t softmax_tasks(const SoftmaxArgs& args) { return args.outer * chunks(args); }

}  // namespace cnnrt::CNNRT_ISA
