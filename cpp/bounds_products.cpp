// The bounds of the kernels that multiply matrices of floats.

#include "bounds_parts.h"

namespace cnnrt {
namespace {

void linear_like(const LinearArgs& f, const Bounds& bounds, int64_t weight_size) {
    need(f.columns >= 1, "no columns");
    const Checked padded = Checked(ceil_div(f.columns, kBlock)) * kBlock;
    bounds.strided(f.x, {{f.rows, f.x_row}, {f.depth, 1}});
    bounds.strided(f.y, {{f.rows, f.y_row}, {f.columns, 1}});
    bounds.strided(f.residual, {{f.rows, f.residual_row}, {f.columns, 1}});
    bounds.first(f.weight, padded * f.depth, weight_size);
    bounds.first(f.bias, padded);
}

void matmul_like(const MatmulArgs& f, const Bounds& bounds, int64_t size) {
    Axes a = axes_of(f.dims, f.shape, f.a_stride), b = axes_of(f.dims, f.shape, f.b_stride);
    a.insert(a.end(), {{f.rows, f.a_row}, {f.depth, 1}});
    b.insert(b.end(), {{f.depth, f.b_row}, {f.columns, f.b_column}});
    bounds.strided(f.a, a, size);
    bounds.strided(f.b, b, size);
    bounds.first(f.y, product(f.dims, f.shape) * f.rows * f.columns, size);
}

// Bytes of a weight that becomes a float in a register.
int64_t narrow_size(DType type, const Ref& factors) {
    const bool bytes = type == DType::int8;
    need(bytes || type == DType::float16 || type == DType::bfloat16, "weights of another type");
    need(!bytes || factors, "no factors");
    return bytes ? 1 : 2;
}

}  // namespace

void linear_bounds(const LinearArgs& f, const Bounds& bounds) {
    linear_like(f, bounds, sizeof(float));
}

void linear_narrow_bounds(const LinearArgs& f, const Bounds& bounds) {
    linear_like(f, bounds, narrow_size(f.weight_type, f.factors));
    bounds.first(f.factors, Checked(ceil_div(f.columns, kBlock)) * kBlock * ceil_div(f.depth, 32));
}

void matmul_bounds(const MatmulArgs& f, const Bounds& bounds) {
    matmul_like(f, bounds, sizeof(float));
}

void matmul_double_bounds(const MatmulArgs& f, const Bounds& bounds) {
    need(f.rows >= 1 && f.depth >= 1 && f.columns >= 1, "an empty product");
    matmul_like(f, bounds, sizeof(double));
}

void recurrent_bounds(const RecurrentArgs& f, const Bounds& bounds) {
    need(f.directions == 1 || f.directions == 2, "other than 1 or 2 directions");
    need(f.hidden >= 1, "no states");
    const int gates = f.cell == Cell::lstm ? 4 : f.cell == Cell::gru ? 3 : 1;
    const Checked width = Checked(ceil_div(f.hidden, kBlock)) * kBlock * f.directions;
    const auto [low, high] = span({{f.length, f.x_time}, {f.batch, f.x_row}}, width * gates);
    bounds.use(f.x, low, high);
    const bool wide = f.weight_type == DType::float32;
    const int64_t size = wide ? int64_t{sizeof(float)} : narrow_size(f.weight_type, f.factors);
    need(wide || f.hidden <= kMaxNarrowStates, "too many states for narrow weights");
    bounds.first(f.weight, width * gates * f.hidden, size);
    bounds.first(f.factors, width * gates * ceil_div(f.hidden, 32));
    bounds.first(f.bias, width);
    bounds.first(f.peephole, width * 3);
    bounds.first(f.lengths, f.batch, sizeof(int32_t));
    for (const Ref* state : {&f.h0, &f.c0, &f.h_last, &f.c_last})
        bounds.strided(*state,
                       {{f.directions, f.state_direction}, {f.batch, f.state_row}, {f.hidden, 1}});
    bounds.strided(
        f.y,
        {{f.length, f.y_time}, {f.directions, f.y_direction}, {f.batch, f.y_row}, {f.hidden, 1}});
}

void attention_bounds(const AttentionArgs& f, const Bounds& bounds) {
    need(f.group >= 1 && f.heads % f.group == 0, "heads that are no whole groups");
    const auto operand = [&](const Ref& field, const Dims& strides, int64_t heads, int64_t rows,
                             int64_t columns) {
        bounds.strided(
            field,
            {{f.n, strides[0]}, {heads, strides[1]}, {rows, strides[2]}, {columns, strides[3]}});
    };
    const int64_t shared = f.heads / f.group;
    operand(f.q, f.q_stride, f.heads, f.rows, f.depth);
    operand(f.k, f.k_stride, shared, f.tokens, f.depth);
    operand(f.v, f.v_stride, shared, f.tokens, f.columns);
    operand(f.mask, f.mask_stride, f.heads, f.rows, f.tokens);
    operand(f.y, f.y_stride, f.heads, f.rows, f.columns);
}

}  // namespace cnnrt
