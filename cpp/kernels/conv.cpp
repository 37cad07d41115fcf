// Convolution by implicit im2col: no patch matrix is built; a table of tap offsets takes its place.
//
// The task grid is units x groups: a unit is the output pixels of one register tile (a piece of a
// row, or for 7-pixel rows two rows), a group the blocks of one tile. Any kernel, stride, dilation
// and group count in 1 to 3 dimensions; x carries its padding as a physical border.

#include "kernel.h"
#include "tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// Tables by the floats between neighbouring output pixels in x: 16 at stride 1, 32 at stride 2,
// any other at run time (with fewer rows, as each needs an address register of its own).
constexpr int kAnyRows = kTileRows < 6 ? kTileRows : 6;
constexpr TileTable<kTileRows, kTileBlocks, 16, false> kStride1;
constexpr TileTable<kTileRows, kTileBlocks, 32, false> kStride2;
constexpr TileTable<kAnyRows, kTileBlocks, 0, false> kStrideAny;
// The same for a last group of one block.
constexpr TileTable<kTileRows, 1, 16, false> kStride1Single;
constexpr TileTable<kTileRows, 1, 32, false> kStride2Single;
constexpr TileTable<kAnyRows, 1, 0, false> kStrideAnySingle;

struct Shape {
    int64_t rows, width;  // of the output; a flat image is one row
    bool paired;          // tiles of two 7-pixel rows
    int64_t units_per_row, units, groups;
    const TileFunction *whole, *single;
    int most_rows;
};

CNNRT_INLINE Shape shape_of(const ConvArgs& g) {
    Shape s;
    const bool flat = g.flat;
    const int64_t height = static_cast<int64_t>(g.out_d) * g.out_h;
    s.rows = flat ? 1 : height;
    s.width = flat ? height * g.out_w : g.out_w;
    const bool fast = g.step_w == 16 || g.step_w == 32;
    s.most_rows = fast ? kTileRows : kAnyRows;
    s.whole = g.step_w == 16   ? kStride1.of_rows
              : g.step_w == 32 ? kStride2.of_rows
                               : kStrideAny.of_rows;
    s.single = g.step_w == 16   ? kStride1Single.of_rows
               : g.step_w == 32 ? kStride2Single.of_rows
                                : kStrideAnySingle.of_rows;
    s.paired = kTileRows == 14 && fast && !flat && s.width == 7 && g.out_d == 1 && !g.windows;
    s.units_per_row = s.paired ? 1 : ceil_div(s.width, s.most_rows);
    s.units = g.n * (s.paired ? ceil_div(s.rows, 2) : s.rows * s.units_per_row);
    s.groups = g.windows ? g.blocks : ceil_div(g.blocks, kTileBlocks);
    return s;
}

// Weights beyond this do not stay in L2 beside the image (400 of 1024 KB): then all pixels pass by
// one panel before the next, and the next is prefetched. Below it the image goes in bands that fit.
constexpr int64_t kSmallWeights = 400 * 1024;

#if defined(CNNRT_ISA_AVX512)
constexpr TileFunction kPaired1 = tile<14, 2, 16, 7, false>, kPaired2 = tile<14, 2, 32, 7, false>;
constexpr TileFunction kPaired1Single = tile<14, 1, 16, 7, false>;
constexpr TileFunction kPaired2Single = tile<14, 1, 32, 7, false>;
#endif

struct Runner {
    const ConvArgs& g;
    const Shape s;
    const float *x, *weight, *bias, *residual;
    float* y;
    const int32_t* windows;
    Tile t;

    // Sets the tile on unit u of group o; returns the function that computes it.
    CNNRT_INLINE TileFunction place(int64_t u, int blocks) {
        const TileFunction* table = blocks == kTileBlocks ? s.whole : s.single;
        int64_t image, row, first = 0;
        TileFunction f = nullptr;
        if (s.paired) {
            const int64_t pairs = ceil_div(s.rows, 2);
            image = u / pairs;
            row = 2 * (u % pairs);
#if defined(CNNRT_ISA_AVX512)
            if (row + 2 <= s.rows)
                f = g.step_w == 16 ? (blocks == 2 ? kPaired1 : kPaired1Single)
                                   : (blocks == 2 ? kPaired2 : kPaired2Single);
            else
#endif
                f = table[7];
        } else {
            const int64_t line = u / s.units_per_row, piece = u % s.units_per_row;
            image = line / s.rows;
            row = line % s.rows;
            first = s.width * piece / s.units_per_row;
            f = table[s.width * (piece + 1) / s.units_per_row - first];
        }
        const int64_t d = g.out_d == 1 ? 0 : row / g.out_h, h = g.out_d == 1 ? row : row % g.out_h;
        t.a = x + image * g.x.image + d * g.step_d + h * g.step_h + first * g.step_w;
        t.y = y + image * g.y.image + d * g.y.plane + h * g.y.row + first * 16;
        if (residual)
            t.residual = residual + image * g.residual.image + d * g.residual.plane +
                         h * g.residual.row + first * 16;
        return f;
    }

    void run(int64_t u0, int64_t u1, int64_t o0, int64_t o1) {
        const int64_t weights = static_cast<int64_t>(g.blocks) * g.panel * 4;
        const int64_t image_bytes = (g.x.image ? g.x.image : g.x.block) * 4;
        const bool small = weights <= kSmallWeights;
        int64_t band = u1 - u0;
        if (small && s.units > 0) {
            const int64_t bytes_per_unit = larger<int64_t>(1, image_bytes * g.n / s.units);
            band = larger<int64_t>(1, smaller(band, kSmallWeights / bytes_per_unit));
        }
        const int per_group = g.windows ? 1 : kTileBlocks;
        const int taps = g.taps + g.last_taps;
        for (int64_t b0 = u0; b0 < u1; b0 += band) {
            const int64_t b1 = smaller(u1, b0 + band);
            for (int64_t o = o0; o < o1; ++o) {
                const int64_t block = o * per_group;
                const int blocks = static_cast<int>(smaller<int64_t>(per_group, g.blocks - block));
                t.b = weight + block * g.panel;
                t.bias = bias + block * 16;
                if (windows) {
                    x = context_x + windows[2 * block];
                    t.last_depth = windows[2 * block + 1];
                }
                // The next panel, spread over the taps of all the tiles that use this one.
                t.next_lines = 0;
                if (!small && o + 1 < o1 && (o + 2) * per_group <= g.blocks && taps > 0) {
                    t.next = t.b + per_group * g.panel;
                    t.next_lines = static_cast<int>(ceil_div(g.panel / 16, taps * (b1 - b0)));
                }
                const float* next_end = t.b + per_group * g.panel + g.panel;
                const int64_t y_offset = block * g.y.block, r_offset = block * g.residual.block;
                for (int64_t u = b0; u < b1; ++u) {
                    const TileFunction f = place(u, blocks);
                    t.y += y_offset;
                    if (residual) t.residual += r_offset;
                    f(t);
                    if (t.next_lines) {
                        t.next += static_cast<int64_t>(t.next_lines) * taps * 16;
                        if (t.next + static_cast<int64_t>(t.next_lines) * taps * 16 > next_end)
                            t.next_lines = 0;
                    }
                }
            }
        }
    }
    const float* context_x;
};

}  // namespace

void conv(const ConvArgs& g, const Context& context, int64_t begin, int64_t end) {
    const Shape s = shape_of(g);
    Runner r{g,
             s,
             context.at(g.x.at),
             context.at(g.weight),
             context.at(g.bias),
             context.at(g.residual.at),
             context.at(g.y.at),
             context.at<const int32_t>(g.windows),
             {},
             context.at(g.x.at)};
    Tile& t = r.t;
    t.a_step = g.step_w;
    t.offsets = context.at<const int32_t>(g.offsets);
    t.taps = g.taps;
    t.last_taps = g.last_taps;
    t.last_depth = g.last_depth;
    t.b_block = g.panel;
    t.residual = nullptr;
    t.residual_row = 16;
    t.residual_block = g.residual.block;
    t.y_row = 16;
    t.y_block = g.y.block;
    t.lanes = 16;
    t.a_split = g.step_h;
    t.y_split = g.y.row;
    t.residual_split = g.residual.row;
    t.next_lines = 0;
    t.epilogue = g.epilogue;
    for_each_rectangle(
        g.order, begin, end, s.units, s.groups,
        [&](int64_t u0, int64_t u1, int64_t o0, int64_t o1) { r.run(u0, u1, o0, o1); });
}

int64_t conv_tasks(const ConvArgs& g) {
    const Shape s = shape_of(g);
    return s.units * s.groups;
}

int64_t conv_scratch(const ConvArgs&) { return 0; }

}  // namespace cnnrt::CNNRT_ISA
