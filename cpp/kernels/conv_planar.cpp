// The first layer: convolution of a plain NC(D)HW array of few channels.
//
// The register tile broadcasts straight from the array, one channel per tap: no lane is spent on
// channels that do not exist. The result is blocked. Tiles that meet padding read copies of their
// rows, in L1. Copying all rows would cost 10 % of a 3x3 stride 2 layer; padding and blocking the
// whole image first, another 10 %.

#include "conv_planar_winograd.h"
#include "tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int kAnyRows = kTileRows < 6 ? kTileRows : 6;
constexpr TileTable<FloatTile, kTileRows, kTileBlocks, 1, false> kStride1;
constexpr TileTable<FloatTile, kTileRows, kTileBlocks, 2, false> kStride2;
constexpr TileTable<FloatTile, kTileRows, kTileBlocks, 4, false> kStride4;
constexpr TileTable<FloatTile, kAnyRows, kTileBlocks, 0, false> kStrideAny;
// The same for a last group of one block.
constexpr TileTable<FloatTile, kTileRows, 1, 1, false> kStride1Single;
constexpr TileTable<FloatTile, kTileRows, 1, 2, false> kStride2Single;
constexpr TileTable<FloatTile, kTileRows, 1, 4, false> kStride4Single;
constexpr TileTable<FloatTile, kAnyRows, 1, 0, false> kStrideAnySingle;

CNNRT_INLINE int64_t taps_of(const ConvPlanarArgs& g) {
    return static_cast<int64_t>(g.c) * g.kernel_d * g.kernel_h * g.kernel_w;
}
// A copied row: everything that one row of the output reads, with padding; its pitch is rounded up.
CNNRT_INLINE int64_t row_length(const ConvPlanarArgs& g) {
    const int64_t reach = static_cast<int64_t>(g.out_w - 1) * g.stride_w +
                          static_cast<int64_t>(g.kernel_w - 1) * g.dilation_w + 1;
    return ceil_div(reach, 16) * 16;
}
CNNRT_INLINE int64_t rows_of(const ConvPlanarArgs& g) {
    return static_cast<int64_t>(g.c) * g.kernel_d * g.kernel_h;
}

// A row of the output cut into tiles of nearly equal width, and the columns that they read.
struct Row {
    const ConvPlanarArgs& g;
    int64_t tiles;
    int64_t inside, outside;  // tiles [inside, outside) read nothing but the image

    Row(const ConvPlanarArgs& args, int max_columns)
        : g(args), tiles(ceil_div(args.out_w, max_columns)), inside(0), outside(tiles) {
        while (inside < tiles && begin(inside) < g.pad_w) ++inside;
        while (outside > inside && end(outside) > g.pad_w + g.in_w) --outside;
        if (inside >= outside) inside = outside = tiles;  // one copy of the row for all
    }
    int64_t first(int64_t tile) const { return g.out_w * tile / tiles; }
    // The first column that a tile reads, and the end of the columns that earlier tiles read.
    int64_t begin(int64_t tile) const { return first(tile) * g.stride_w; }
    int64_t end(int64_t tile) const {
        if (tile == 0) return 0;
        return begin(tile) - g.stride_w + static_cast<int64_t>(g.kernel_w - 1) * g.dilation_w + 1;
    }
};

}  // namespace

void conv_planar(const ConvPlanarArgs& g, const Context& context, int64_t begin, int64_t end) {
    const float *x = context.at(g.x), *weight = context.at(g.weight), *bias = context.at(g.bias);
    const float* residual = context.at(g.residual.at);
    float* y = context.at(g.y.at);
    const int64_t length = row_length(g), taps = taps_of(g), rows = rows_of(g);
    const int64_t in_plane = static_cast<int64_t>(g.in_h) * g.in_w, in_image = g.in_d * in_plane;
    float* copied = reinterpret_cast<float*>(context.scratch);
    // The taps' offsets in the copied rows, and in the array itself.
    int32_t* const in_copy = reinterpret_cast<int32_t*>(copied + rows * length);
    int32_t* const in_place = in_copy + taps;
    for (int64_t c = 0, r = 0, i = 0; c < g.c; ++c)
        for (int64_t d = 0; d < g.kernel_d; ++d)
            for (int64_t h = 0; h < g.kernel_h; ++h, ++r)
                for (int64_t k = 0; k < g.kernel_w; ++k, ++i) {
                    const int64_t w = k * g.dilation_w;
                    in_copy[i] = static_cast<int32_t>(r * length + w);
                    in_place[i] = static_cast<int32_t>(c * in_image + d * g.dilation_d * in_plane +
                                                       h * g.dilation_h * g.in_w + w);
                }

    const TileFunction<FloatTile>*whole, *single;
    int max_columns = kTileRows;
    switch (g.stride_w) {
        case 1:
            whole = kStride1.of_rows, single = kStride1Single.of_rows;
            break;
        case 2:
            whole = kStride2.of_rows, single = kStride2Single.of_rows;
            break;
        case 4:
            whole = kStride4.of_rows, single = kStride4Single.of_rows;
            break;
        default:
            whole = kStrideAny.of_rows, single = kStrideAnySingle.of_rows, max_columns = kAnyRows;
    }
    FloatTile t{};
    t.a_step = g.stride_w;
    t.last_taps = static_cast<int>(taps);
    t.last_steps = 1;
    t.b_block = g.panel;
    t.residual_row = t.y_row = 16;
    t.residual_block = g.residual.block;
    t.y_block = g.y.block;
    t.lanes = 16;
    t.epilogue = g.epilogue;

    const Row cut(g, max_columns);
    for (int64_t task = begin; task < end; ++task) {
        const int64_t h = task % g.out_h, d = task / g.out_h % g.out_d;
        const int64_t n = task / g.out_h / g.out_d;
        const int64_t id = d * g.stride_d - g.pad_d, ih = h * g.stride_h - g.pad_h;
        const float* image = x + n * g.c * in_image;
        const int64_t corner = id * in_plane + ih * g.in_w - g.pad_w;  // of the first tap
        const bool inside = id >= 0 && id + (g.kernel_d - 1) * g.dilation_d < g.in_d && ih >= 0 &&
                            ih + (g.kernel_h - 1) * g.dilation_h < g.in_h;
        // Tiles [first, last) read in place, those on either side read copies.
        const int64_t first = inside ? cut.inside : cut.tiles;
        const int64_t last = inside ? cut.outside : cut.tiles;
        float* row = copied;
        for (int64_t c = 0; c < g.c; ++c)
            for (int64_t kd = 0; kd < g.kernel_d; ++kd)
                for (int64_t kh = 0; kh < g.kernel_h; ++kh, row += length) {
                    const int64_t at_d = id + kd * g.dilation_d, at_h = ih + kh * g.dilation_h;
                    const bool real = at_d >= 0 && at_d < g.in_d && at_h >= 0 && at_h < g.in_h;
                    const float* from =
                        real ? image + c * in_image + at_d * in_plane + at_h * g.in_w : image;
                    const int64_t in_w = real ? g.in_w : 0;
                    copy_row(from, in_w, g.pad_w, row, 0, cut.end(first));
                    if (last < cut.tiles)
                        copy_row(from, in_w, g.pad_w, row, cut.begin(last), cut.end(cut.tiles));
                }
        const int64_t at = n * g.y.image + d * g.y.plane + h * g.y.row;
        const int64_t at_residual =
            n * g.residual.image + d * g.residual.plane + h * g.residual.row;
        for (int64_t block = 0; block < g.blocks; block += kTileBlocks) {
            const TileFunction<FloatTile>* table = g.blocks - block >= kTileBlocks ? whole : single;
            t.b = weight + block * g.panel;
            t.bias = bias + block * 16;
            for (int64_t tile = 0; tile < cut.tiles; ++tile) {
                const bool in_array = tile >= first && tile < last;
                const int64_t w = cut.first(tile);
                t.offsets = in_array ? in_place : in_copy;
                t.a = in_array ? image + corner + cut.begin(tile) : copied + cut.begin(tile);
                t.y = y + at + block * g.y.block + w * 16;
                if (residual)
                    t.residual = residual + at_residual + block * g.residual.block + w * 16;
                table[cut.first(tile + 1) - w](t);
            }
        }
    }
}

int64_t conv_planar_tasks(const ConvPlanarArgs& g) {
    return static_cast<int64_t>(g.n) * g.out_d * g.out_h;
}

int64_t conv_planar_scratch(const ConvPlanarArgs& g) {
    return rows_of(g) * row_length(g) * 4 + taps_of(g) * 2 * 4;
}

void conv_planar_winograd(const ConvPlanarArgs& g, const Context& context, int64_t begin,
                          int64_t end) {
    const RowsOfTiles p(g, context, kStride1.of_rows, kStride1Single.of_rows);
    for (int64_t task = begin; task < end; ++task) {
        const int64_t h = task % g.out_h, d = task / g.out_h % g.out_d;
        const int64_t n = task / g.out_h / g.out_d;
        p.input(n, d, h);
        if (p.output(n, d, h, false)) continue;
        // An infinite or NaN pixel reaches all outputs of its tiles. The row is computed directly,
        // and then the other tiles once more, so that their bits do not change.
        Context direct = context;
        direct.scratch += own_scratch(g);
        conv_planar(g, direct, task, task + 1);
        p.output(n, d, h, true);
    }
}

int64_t conv_planar_winograd_tasks(const ConvPlanarArgs& g) { return conv_planar_tasks(g); }

int64_t conv_planar_winograd_scratch(const ConvPlanarArgs& g) {
    return own_scratch(g) + conv_planar_scratch(g);
}

}  // namespace cnnrt::CNNRT_ISA
