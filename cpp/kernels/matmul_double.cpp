// Products of matrices of doubles, with the arguments of `matmul`.
//
// A task is 16 columns of one product. Their part of b is packed first, depth by depth, and then
// goes through L2 once for each group of rows. Each element is one sum in the order of the depth.
#include "../simd/double.h"
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int kColumns = 16, kVectors = kColumns / kDoubles;
// Registers: 16 of 32 for the sums on AVX-512, 12 of 16 on AVX2, 8 of 16 elsewhere.
constexpr int kRows = kDoubles == 8 ? 8 : kDoubles == 4 ? 3 : 1;

// y[ROWS][16] = a[ROWS][depth] panel[depth][16].
template <int ROWS>
__attribute__((noinline)) void multiply(const double* a, int64_t a_row, const double* panel,
                                        int64_t depth, double* y, int64_t y_row) {
    f64xN sums[ROWS][kVectors] = {};
    for (int64_t k = 0; k < depth; ++k, panel += kColumns) {
        f64xN b[kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) b[v] = load(panel + v * kDoubles);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
            const f64xN factor = broadcast(a[r * a_row + k]);
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) sums[r][v] += factor * b[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) store(y + r * y_row + v * kDoubles, sums[r][v]);
}

void pack(const MatmulArgs& args, const double* b, int64_t columns, double* panel) {
    for (int64_t k = 0; k < args.depth; ++k, b += args.b_row, panel += kColumns) {
        if (columns == kColumns && args.b_column == 1) {
            __builtin_memcpy(panel, b, sizeof(double) * kColumns);
            continue;
        }
        for (int64_t j = 0; j < kColumns; ++j) panel[j] = j < columns ? b[j * args.b_column] : 0;
    }
}

int64_t panels(const MatmulArgs& args) { return ceil_div(args.columns, kColumns); }

}  // namespace

void matmul_double(const MatmulArgs& args, const Context& context, int64_t begin, int64_t end) {
    auto* panel = reinterpret_cast<double*>(context.scratch);
    double* rest = panel + args.depth * kColumns;  // [kRows][16], of a panel that is not whole
    for (int64_t task = begin; task < end; ++task) {
        const int64_t product = task / panels(args), first = task % panels(args) * kColumns;
        const double *a = context.at<const double>(args.a), *b = context.at<const double>(args.b);
        int64_t left = product;
        for (int i = args.dims - 1; i >= 0; --i) {
            const int64_t k = left % args.shape[i];
            left /= args.shape[i];
            a += k * args.a_stride[i];
            b += k * args.b_stride[i];
        }
        const int64_t columns = smaller<int64_t>(kColumns, args.columns - first);
        pack(args, b + first * args.b_column, columns, panel);
        double* y = context.at<double>(args.y) + product * args.rows * args.columns + first;
        for (int64_t row = 0; row < args.rows;) {
            const bool whole = args.rows - row >= kRows;
            double* to = columns == kColumns ? y + row * args.columns : rest;
            const int64_t to_row = columns == kColumns ? args.columns : kColumns;
            const double* from = a + row * args.a_row;
            const int64_t count = whole ? kRows : 1;
            if (whole)
                multiply<kRows>(from, args.a_row, panel, args.depth, to, to_row);
            else
                multiply<1>(from, args.a_row, panel, args.depth, to, to_row);
            if (to == rest)
                for (int64_t r = 0; r < count; ++r)
                    for (int64_t j = 0; j < columns; ++j)
                        y[(row + r) * args.columns + j] = rest[r * kColumns + j];
            row += count;
        }
    }
}

int64_t matmul_double_tasks(const MatmulArgs& args) {
    int64_t products = 1;
    for (int i = 0; i < args.dims; ++i) products *= args.shape[i];
    return products * panels(args);
}

int64_t matmul_double_scratch(const MatmulArgs& args) {
    return (args.depth + kRows) * kColumns * static_cast<int64_t>(sizeof(double));
}

}  // namespace cnnrt::CNNRT_ISA
