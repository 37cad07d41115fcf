// y[i] = x[i] over up to 8 axes with any strides, elements of 1, 2, 4 or 8 bytes. Serves transpose,
// slice, concatenation, padding and expansion of plain tensors.
//
// Two axes are hot: `run`, along which y is contiguous, and `cross`, along which x is, if that is
// another axis. If it is the same, runs are copied whole. If not, squares of 16 x 16 elements are
// transposed, so that both sides are read and written by whole lines. If one of both axes is
// shorter than that, such as the channels of a picture, the other one is walked from end to end.
#include "../simd/transpose.h"
#include "element.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 32768;  // approximate bytes in one task
constexpr int64_t kSide = 16;      // side of a transposed square

struct Axis {
    int64_t size = 1, x = 0, y = 0;  // extent and strides, in elements
};

// How the index space is cut: pieces of the plane cross x run, for each index of the other axes. A
// task is as many pieces as make a chunk.
struct Cut {
    Axis run, cross, outer[kMaxDims];
    int outers = 0;
    int64_t piece_run = 1, piece_cross = 1;  // extents of a piece
    int64_t run_pieces = 1, cross_pieces = 1;
    int64_t pieces = 0, per_task = 1;

    explicit Cut(const CopyArgs& a) {
        // Axes of one element do not count, whatever their strides.
        Axis axes[kMaxDims];
        int dims = 0;
        int64_t total = 1;
        for (int i = 0; i < a.dims; ++i) {
            total *= a.shape[i];
            if (a.shape[i] != 1) axes[dims++] = {a.shape[i], a.x_stride[i], a.y_stride[i]};
        }
        if (total == 0) return;
        const auto innermost = [&](auto is_it) {
            int i = dims - 1;
            while (i >= 0 && !is_it(axes[i])) --i;
            return i;
        };
        const int last = dims - 1;
        int at_run = innermost([](const Axis& c) { return c.y == 1; });
        if (at_run < 0) at_run = last;
        int at_cross = innermost([](const Axis& c) { return c.x == 1; });
        if (at_cross < 0 || at_cross == at_run) {
            // Runs are copied whole; the longest other axis leaves the fewest pieces.
            at_cross = at_run == last ? last - 1 : last;
            for (int i = 0; i < dims; ++i)
                if (i != at_run && axes[i].size > axes[at_cross].size) at_cross = i;
        }
        if (at_run >= 0) run = axes[at_run];
        if (at_cross >= 0) cross = axes[at_cross];
        for (int i = 0; i < dims; ++i)
            if (i != at_run && i != at_cross) outer[outers++] = axes[i];

        const int64_t chunk = kChunk / a.element;
        if (transposes() && run.size >= kSide) {
            // Strips: a whole line of x, and at least 16 elements, for as long a run as fits.
            piece_cross = smaller(cross.size, larger<int64_t>(kSide, 64 / a.element));
            piece_run = smaller(run.size, chunk / piece_cross / kSide * kSide);
        } else {
            piece_run = smaller(run.size, chunk);
            piece_cross = smaller(cross.size, larger<int64_t>(1, chunk / run.size));
        }
        run_pieces = ceil_div(run.size, piece_run);
        cross_pieces = ceil_div(cross.size, piece_cross);
        pieces = total / (run.size * cross.size) * run_pieces * cross_pieces;
        per_task = larger<int64_t>(1, chunk / (piece_run * piece_cross));
    }
    bool transposes() const { return run.y == 1 && cross.x == 1 && run.x != 1; }
};

template <class T>
CNNRT_INLINE void copy_elements(const T* x, T* y, int64_t n, int64_t x_step, int64_t y_step) {
    if (y_step == 1 && x_step == 1) {
        __builtin_memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
    } else if (y_step == 1 && x_step == 0) {
        const T value = *x;
        for (int64_t i = 0; i < n; ++i) y[i] = value;
    } else if (y_step == 1 && x_step == 2) {  // a constant step makes vectors
        for (int64_t i = 0; i < n; ++i) y[i] = x[i * 2];
    } else {
        for (int64_t i = 0; i < n; ++i) y[i * y_step] = x[i * x_step];
    }
}

// y[i * N + j] = x[j * x_row + i] for j < N, and the reverse. The compiler shuffles the N streams
// into whole vectors.
template <int N, class T>
void interleave(const T* x, int64_t x_row, T* y, int64_t n) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < N; ++j) y[i * N + j] = x[j * x_row + i];
    }
}
template <int N, class T>
void deinterleave(const T* x, T* y, int64_t y_row, int64_t n) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < N; ++j) y[j * y_row + i] = x[i * N + j];
    }
}

// y[j * y_row + i] = x[i * x_row + j] for few rows or few columns.
template <class T>
void transpose_thin(const T* x, int64_t x_row, T* y, int64_t y_row, int64_t rows, int64_t columns) {
    if (rows == y_row) {  // y has no gaps
        if (rows == 2) return interleave<2>(x, x_row, y, columns);
        if (rows == 3) return interleave<3>(x, x_row, y, columns);
        if (rows == 4) return interleave<4>(x, x_row, y, columns);
    }
    if (columns == x_row) {
        if (columns == 2) return deinterleave<2>(x, y, y_row, rows);
        if (columns == 3) return deinterleave<3>(x, y, y_row, rows);
        if (columns == 4) return deinterleave<4>(x, y, y_row, rows);
    }
    if (rows < columns) {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j) y[j * y_row + i] = x[i * x_row + j];
    } else {
        for (int64_t j = 0; j < columns; ++j)
            for (int64_t i = 0; i < rows; ++i) y[j * y_row + i] = x[i * x_row + j];
    }
}

// The same for any numbers of rows and columns.
template <class T>
void transpose_all(const T* x, int64_t x_row, T* y, int64_t y_row, int64_t rows, int64_t columns) {
    if (smaller(rows, columns) < kSide) return transpose_thin(x, x_row, y, y_row, rows, columns);
    const int64_t whole_rows = rows / kSide * kSide, whole_columns = columns / kSide * kSide;
    for (int64_t i = 0; i < whole_rows; i += kSide)
        for (int64_t j = 0; j < whole_columns; j += kSide)
            transpose_square(x + i * x_row + j, x_row, y + j * y_row + i, y_row);
    if (whole_columns < columns)
        transpose_thin(x + whole_columns, x_row, y + whole_columns * y_row, y_row, whole_rows,
                       columns - whole_columns);
    if (whole_rows < rows)
        transpose_thin(x + whole_rows * x_row, x_row, y + whole_rows, y_row, rows - whole_rows,
                       columns);
}

template <class T>
void copy_pieces(const Cut& cut, const T* x0, T* y0, int64_t begin, int64_t end) {
    const Axis &run = cut.run, &cross = cut.cross;
    for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t r0 = piece % cut.run_pieces * cut.piece_run;
        const int64_t c0 = piece / cut.run_pieces % cut.cross_pieces * cut.piece_cross;
        const int64_t runs = smaller(cut.piece_run, run.size - r0);
        const int64_t crosses = smaller(cut.piece_cross, cross.size - c0);
        const T* x = x0 + r0 * run.x + c0 * cross.x;
        T* y = y0 + r0 * run.y + c0 * cross.y;
        int64_t rest = piece / (cut.run_pieces * cut.cross_pieces);
        for (int i = cut.outers - 1; i >= 0; --i) {
            const int64_t k = rest % cut.outer[i].size;
            rest /= cut.outer[i].size;
            x += k * cut.outer[i].x;
            y += k * cut.outer[i].y;
        }
        if (cut.transposes()) {
            transpose_all(x, run.x, y, cross.y, runs, crosses);
        } else {
            for (int64_t c = 0; c < crosses; ++c)
                copy_elements(x + c * cross.x, y + c * cross.y, runs, run.x, run.y);
        }
    }
}

}  // namespace

void copy(const CopyArgs& args, const Context& context, int64_t begin, int64_t end) {
    const Cut cut(args);
    const void* x = context.at<const void>(args.x);
    void* y = context.at<void>(args.y);
    begin *= cut.per_task;
    end = smaller(cut.pieces, end * cut.per_task);
    with_element(args.element, [&]<class T>(T) {
        copy_pieces(cut, static_cast<const T*>(x), static_cast<T*>(y), begin, end);
    });
}

int64_t copy_tasks(const CopyArgs& args) {
    const Cut cut(args);
    return ceil_div(cut.pieces, cut.per_task);
}

}  // namespace cnnrt::CNNRT_ISA
