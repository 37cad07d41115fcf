// y[i] = x[i] over up to 8 axes with any strides, elements of 1, 2, 4 or 8 bytes. Serves transpose,
// slice, concatenation, padding and expansion of plain tensors.
//
// Two axes are hot: `run`, along which y is contiguous, and `cross`, along which x is, if that is
// another axis. If it is the same, runs are copied whole. If not, squares of 16 x 16 elements are
// transposed, so that both sides are read and written by whole lines.
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
        if (transposes()) {
            // Strips: 16 elements of x, a whole line of 4-byte ones, for as long a run as fits.
            piece_cross = smaller(cross.size, kSide);
            piece_run = smaller(run.size, chunk / kSide);
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

// y[j * y_row + i] = x[i * x_row + j] for a square of 16.
CNNRT_INLINE void transpose_square(const uint32_t* x, int64_t x_row, uint32_t* y, int64_t y_row) {
    // Loads, shuffles and stores of floats keep all bits, whatever they stand for.
    const float* from = reinterpret_cast<const float*>(x);
    float* to = reinterpret_cast<float*>(y);
    f32x16 r[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) r[i] = load(from + i * x_row);
    transpose(r);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) store(to + i * y_row, r[i]);
}

template <class T>
CNNRT_INLINE void transpose_part(const T* x, int64_t x_row, T* y, int64_t y_row, int64_t rows,
                                 int64_t columns) {
    for (int64_t j = 0; j < columns; ++j)
        for (int64_t i = 0; i < rows; ++i) y[j * y_row + i] = x[i * x_row + j];
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
        if (!cut.transposes()) {
            for (int64_t c = 0; c < crosses; ++c)
                copy_elements(x + c * cross.x, y + c * cross.y, runs, run.x, run.y);
            continue;
        }
        for (int64_t r = 0; r < runs; r += kSide) {
            const T* from = x + r * run.x;
            T* to = y + r;
            const int64_t rows = smaller(kSide, runs - r);
            if constexpr (sizeof(T) == 4) {
                if (rows == kSide && crosses == kSide) {
                    transpose_square(from, run.x, to, cross.y);
                    continue;
                }
            }
            transpose_part(from, run.x, to, cross.y, rows, crosses);
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
