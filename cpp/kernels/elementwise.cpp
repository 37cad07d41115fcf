// y = activation(a op b), element by element over up to 8 strided axes, with broadcasting.
//
// The two innermost axes are the rows and columns of a rectangle. If columns are long, they are the
// hot loop. If they are short, such as the 16 channels of a block, the rows are, one strip of 16
// columns at a time. An operand that is the same in every row then stays in its register.
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 4096;  // approximate elements in one task
constexpr int64_t kRun = 1024;    // elements stored before an activation that needs its own pass
constexpr int64_t kShort = 64;    // columns up to which the rows are the hot loop

// An operand along the hot loop: a vector every `step` floats, 0 for the same one throughout. If
// `scalar`, one float for all lanes instead of a vector.
struct Operand {
    const float* p;
    int64_t step;
    bool scalar;
};

CNNRT_INLINE f32x16 vector_of(const Operand& o, int lanes) {
    return o.scalar ? broadcast(*o.p) : lanes < 16 ? load_partial(o.p, lanes) : load(o.p);
}

template <bool B_FIXED, class F>
CNNRT_INLINE void run_whole(const Operand& a, const Operand& b, float* y, int64_t y_step,
                            int64_t count, f32x16 low, f32x16 high, F op) {
    const float *pa = a.p, *pb = b.p;
    const f32x16 fixed = load(pb);
#pragma GCC unroll 2
    for (int64_t i = 0; i < count; ++i) {
        store(y, min(high, max(low, op(load(pa), B_FIXED ? fixed : load(pb)))));
        pa += a.step;
        pb += b.step;
        y += y_step;
    }
}

// y = op(a, b) on `count` vectors of `lanes` lanes, `y_step` floats apart.
template <class F>
__attribute__((noinline)) void run(Operand a, Operand b, float* y, int64_t y_step, int64_t count,
                                   int lanes, Limits limits, F op) {
    const f32x16 low = broadcast(limits.low), high = broadcast(limits.high);
    const bool varies = (a.scalar && a.step) || (b.scalar && b.step);
    if (lanes == 16 && !varies) {
        float a_lanes[16], b_lanes[16];
        if (a.scalar) store(a_lanes, broadcast(*a.p)), a.p = a_lanes;
        if (b.scalar) store(b_lanes, broadcast(*b.p)), b.p = b_lanes;
        if (b.step == 0)
            run_whole<true>(a, b, y, y_step, count, low, high, op);
        else
            run_whole<false>(a, b, y, y_step, count, low, high, op);
        return;
    }
    for (int64_t i = 0; i < count; ++i) {
        const f32x16 v = min(high, max(low, op(vector_of(a, lanes), vector_of(b, lanes))));
        store_partial(y, lanes, v);
        a.p += a.step;
        b.p += b.step;
        y += y_step;
    }
}

// Part of the two innermost axes. a and b are contiguous along a row, or one float (column 0).
struct Rectangle {
    const float *a, *b;
    float* y;
    int64_t rows, columns;
    int64_t a_row, b_row, y_row;
    int64_t a_column, b_column;
    Limits limits;  // of the epilogue
};

template <class F>
CNNRT_INLINE void fill(const Rectangle& r, F op) {
    if (r.rows > 1 && r.columns <= kShort) {
        for (int64_t j = 0; j < r.columns; j += 16) {
            const Operand a{r.a + j * r.a_column, r.a_row, r.a_column == 0};
            const Operand b{r.b + j * r.b_column, r.b_row, r.b_column == 0};
            const int lanes = static_cast<int>(smaller<int64_t>(16, r.columns - j));
            run(a, b, r.y + j, r.y_row, r.rows, lanes, r.limits, op);
        }
        return;
    }
    const int64_t vectors = r.columns / 16, done = vectors * 16;
    const int rest = static_cast<int>(r.columns - done);
    for (int64_t i = 0; i < r.rows; ++i) {
        Operand a{r.a + i * r.a_row, 16 * r.a_column, r.a_column == 0};
        Operand b{r.b + i * r.b_row, 16 * r.b_column, r.b_column == 0};
        float* y = r.y + i * r.y_row;
        if (vectors) run(a, b, y, 16, vectors, 16, r.limits, op);
        a.p += done * r.a_column;
        b.p += done * r.b_column;
        if (rest) run(a, b, y + done, 16, 1, rest, r.limits, op);
    }
}

#define OP(value) \
    [](f32x16 a, [[maybe_unused]] f32x16 b) __attribute__((always_inline)) { return value; }

// min and max propagate a NaN of either operand: the vocabulary's return b, and select keeps a's.
__attribute__((noinline)) void apply(Binary op, const Rectangle& r) {
    switch (op) {
        case Binary::none:
            return fill(r, OP(a));
        case Binary::add:
            return fill(r, OP(add(a, b)));
        case Binary::sub:
            return fill(r, OP(sub(a, b)));
        case Binary::mul:
            return fill(r, OP(mul(a, b)));
        case Binary::div:
            return fill(r, OP(div(a, b)));
        case Binary::min:
            return fill(r, OP(select(is_nan(a), a, min(a, b))));
        case Binary::max:
            return fill(r, OP(select(is_nan(a), a, max(a, b))));
        case Binary::prelu:
            return fill(r, OP(select(less(a, zero()), mul(a, b), a)));
    }
}

#undef OP

// Computes the rectangle, and applies the activation while it is in L1.
void apply(const ElementwiseArgs& args, Rectangle r) {
    const Epilogue& e = args.epilogue;
    if (is_clamp(e)) return apply(args.op, r);
    const int64_t columns = smaller(r.columns, kRun), rows = larger<int64_t>(1, kRun / columns);
    for (int64_t i = 0; i < r.rows; i += rows)
        for (int64_t j = 0; j < r.columns; j += columns) {
            Rectangle part = r;
            part.a += i * r.a_row + j * r.a_column;
            part.b += i * r.b_row + j * r.b_column;
            part.y += i * r.y_row + j;
            part.rows = smaller(rows, r.rows - i);
            part.columns = smaller(columns, r.columns - j);
            apply(args.op, part);
            if (part.y_row == part.columns) {
                activate(e, part.y, part.rows * part.columns);
            } else {
                for (int64_t k = 0; k < part.rows; ++k)
                    activate(e, part.y + k * part.y_row, part.columns);
            }
        }
}

// How the index space is cut: pieces of the rectangle of the two innermost axes, whole rows or
// parts of one. A task is as many pieces as make a chunk.
struct Cut {
    int64_t outer = 1, rows = 1, columns = 1;   // extents
    int64_t piece_rows = 1, piece_columns = 1;  // of a piece
    int64_t row_pieces = 1, column_pieces = 1;
    int64_t pieces = 0, per_task = 1;

    explicit Cut(const ElementwiseArgs& a) {
        if (a.dims > 0) columns = a.shape[a.dims - 1];
        if (a.dims > 1) rows = a.shape[a.dims - 2];
        for (int i = 0; i < a.dims - 2; ++i) outer *= a.shape[i];
        if (outer * rows * columns == 0) return;
        piece_columns = smaller(columns, kChunk);
        piece_rows = smaller(rows, larger<int64_t>(1, kChunk / columns));
        row_pieces = ceil_div(rows, piece_rows);
        column_pieces = ceil_div(columns, piece_columns);
        pieces = outer * row_pieces * column_pieces;
        per_task = larger<int64_t>(1, kChunk / (piece_rows * piece_columns));
    }
};

}  // namespace

void elementwise(const ElementwiseArgs& args, const Context& context, int64_t begin, int64_t end) {
    const Cut cut(args);
    const int last = args.dims - 1;
    const float* a = context.at(args.a);
    // A unary operation has no b: any readable float will do.
    const bool binary = args.op != Binary::none;
    const float* b = binary ? context.at(args.b) : a;
    float* y = context.at(args.y);

    Rectangle r{};
    r.a_column = last >= 0 ? args.a_stride[last] : 0;
    r.b_column = last >= 0 && binary ? args.b_stride[last] : 0;
    r.a_row = last >= 1 ? args.a_stride[last - 1] : 0;
    r.b_row = last >= 1 && binary ? args.b_stride[last - 1] : 0;
    r.y_row = last >= 1 ? args.y_stride[last - 1] : 0;
    r.limits = limits_of(args.epilogue);

    const int64_t stop = smaller(cut.pieces, end * cut.per_task);
    for (int64_t i = begin * cut.per_task; i < stop; ++i) {
        const int64_t row = i / cut.column_pieces % cut.row_pieces * cut.piece_rows;
        const int64_t column = i % cut.column_pieces * cut.piece_columns;
        r.a = a + row * r.a_row + column * r.a_column;
        r.b = b + row * r.b_row + column * r.b_column;
        r.y = y + row * r.y_row + column;
        int64_t rest = i / (cut.column_pieces * cut.row_pieces);
        for (int axis = last - 2; axis >= 0; --axis) {
            const int64_t k = rest % args.shape[axis];
            rest /= args.shape[axis];
            r.a += k * args.a_stride[axis];
            if (binary) r.b += k * args.b_stride[axis];
            r.y += k * args.y_stride[axis];
        }
        r.rows = smaller(cut.piece_rows, cut.rows - row);
        r.columns = smaller(cut.piece_columns, cut.columns - column);
        apply(args, r);
    }
}

int64_t elementwise_tasks(const ElementwiseArgs& args) {
    const Cut cut(args);
    return ceil_div(cut.pieces, cut.per_task);
}

}  // namespace cnnrt::CNNRT_ISA
