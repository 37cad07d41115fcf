// y[i] = condition[i] ? a[i] : b[i] over up to 8 strided axes, elements of 1, 2, 4 or 8 bytes; y is
// row-major.
#include "element.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 8192;  // approximate elements in one task

// Elements `0 .. n` of a row; steps in elements. The usual steps are constants, so that the
// compiler makes vectors of them.
template <class T>
void choose(const uint8_t* c, int64_t c_step, const T* a, int64_t a_step, const T* b,
            int64_t b_step, T* __restrict y, int64_t n) {
    const auto loop = [&](int64_t cs, int64_t as, int64_t bs) __attribute__((always_inline)) {
        for (int64_t i = 0; i < n; ++i) {
            // Both are read: a load under a condition would keep the loop scalar.
            const T yes = a[i * as], no = b[i * bs];
            y[i] = c[i * cs] ? yes : no;
        }
    };
    if (c_step == 1 && a_step == 1 && b_step == 1)
        loop(1, 1, 1);
    else if (c_step == 1 && a_step == 1 && b_step == 0)
        loop(1, 1, 0);
    else if (c_step == 1 && a_step == 0 && b_step == 1)
        loop(1, 0, 1);
    else if (c_step == 1 && a_step == 0 && b_step == 0)
        loop(1, 0, 0);
    else
        loop(c_step, a_step, b_step);
}

struct Cut {
    int64_t rows = 1, columns = 1, piece = 1, pieces = 1, per_task = 1;
    explicit Cut(const WhereArgs& a) {
        columns = a.shape[a.dims - 1];
        for (int i = 0; i < a.dims - 1; ++i) rows *= a.shape[i];
        piece = larger<int64_t>(1, smaller(columns, kChunk));
        pieces = ceil_div(columns, piece);
        per_task = larger<int64_t>(1, kChunk / piece);
    }
    int64_t units() const { return rows * pieces; }
};

template <class T>
void choose_rows(const WhereArgs& args, const Context& context, const Cut& cut, int64_t begin,
                 int64_t end) {
    const int last = args.dims - 1;
    for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t row = unit / cut.pieces, column = unit % cut.pieces * cut.piece;
        const uint8_t* c = context.at<const uint8_t>(args.condition);
        const T *a = context.at<const T>(args.a), *b = context.at<const T>(args.b);
        int64_t rest = row;
        for (int i = last - 1; i >= 0; --i) {
            const int64_t k = rest % args.shape[i];
            rest /= args.shape[i];
            c += k * args.condition_stride[i];
            a += k * args.a_stride[i];
            b += k * args.b_stride[i];
        }
        const int64_t cs = args.condition_stride[last], as = args.a_stride[last],
                      bs = args.b_stride[last];
        choose(c + column * cs, cs, a + column * as, as, b + column * bs, bs,
               context.at<T>(args.y) + row * cut.columns + column,
               smaller(cut.piece, cut.columns - column));
    }
}

}  // namespace

void where(const WhereArgs& args, const Context& context, int64_t begin, int64_t end) {
    const Cut cut(args);
    begin *= cut.per_task;
    end = smaller(cut.units(), end * cut.per_task);
    with_element(args.element, [&]<class T>(T) { choose_rows<T>(args, context, cut, begin, end); });
}

int64_t where_tasks(const WhereArgs& args) {
    const Cut cut(args);
    return ceil_div(cut.units(), cut.per_task);
}

}  // namespace cnnrt::CNNRT_ISA
