// The first layer of many networks, seven columns of taps at stride 2, by Winograd's algorithm
// along rows: F(4, 7). Four outputs of a row take 13 products for each of the kernel's rows,
// not 28.
//
// A row of the image is transformed once, 16 tiles at a time, and kept while windows reach it. A
// matrix product over channels and kernel rows follows at each of the 13 positions. Its register
// tile has the tiles of a row. The outputs are transformed back while they are in L1.

#pragma once

#include "tile.h"
#include "winograd_tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// Columns [begin, end) of a row with its padding: `pad` zeros, in_w values and zeros.
CNNRT_INLINE void copy_row(const float* from, int64_t in_w, int64_t pad, float* to, int64_t begin,
                           int64_t end) {
    const int64_t left = larger(begin, smaller(end, pad));
    const int64_t right = larger(left, smaller(end, pad + in_w));
    int64_t i = begin;
    for (; i < left; ++i) to[i] = 0;
    if (right > left) {
        __builtin_memcpy(to + left, from + left - pad, static_cast<size_t>(right - left) * 4);
        i = right;
    }
    for (; i < end; ++i) to[i] = 0;
}

alignas(64) constexpr float kZeros[16 * kTileBlocks] = {};

constexpr int kOutputs = 4, kTaps = 7, kStride = 2, kPositions = reads_of(kOutputs, kTaps, kStride);
constexpr int kTileStep = kOutputs * kStride;  // pixels between the beginnings of two tiles

struct Sizes {
    int64_t lines;  // kernel rows of all channels
    int64_t tiles, plane;
    explicit Sizes(const ConvPlanarArgs& g)
        : lines(int64_t{g.c} * g.kernel_d * g.kernel_h),
          tiles(ceil_div(g.out_w, kOutputs)),
          plane(ceil_div(tiles, 16) * 16) {}
    // Floats of V, of a row's pixels that are a tile step apart, of the row, and of M.
    int64_t transformed() const { return kPositions * lines * plane; }
    int64_t column() const { return plane + 16; }
    int64_t row() const { return kTileStep * column(); }
    static int64_t products() { return int64_t{kPositions} * kTileBlocks * kTileRows * 16; }
    int64_t floats() const { return transformed() + 2 * row() + products(); }
};

// Which row of which plane lies in each place of V. They differ from image to image.
struct SourceRow {
    int64_t n, d, h;
    bool operator==(const SourceRow& o) const { return n == o.n && d == o.d && h == o.h; }
};

struct RowsOfTiles {
    const ConvPlanarArgs& g;
    const TileFunction<FloatTile>*whole, *single;  // of adjacent floats
    const Sizes s;
    const float *x, *bias, *residual, *transformed;
    float* y;
    float *v, *row, *columns, *m;
    SourceRow* kept;  // [kernel_d][kernel_h]
    int32_t* offsets;

    RowsOfTiles(const ConvPlanarArgs& args, const Context& c,
                const TileFunction<FloatTile>* whole_tiles,
                const TileFunction<FloatTile>* single_tiles)
        : g(args),
          whole(whole_tiles),
          single(single_tiles),
          s(args),
          x(c.at(args.x)),
          bias(c.at(args.bias)),
          residual(c.at(args.residual.at)),
          transformed(c.at(args.transformed)),
          y(c.at(args.y.at)),
          v(reinterpret_cast<float*>(c.scratch)),
          row(v + s.transformed()),
          columns(row + s.row()),
          m(columns + s.row()),
          kept(reinterpret_cast<SourceRow*>(m + Sizes::products())),
          offsets(reinterpret_cast<int32_t*>(kept + g.kernel_d * g.kernel_h)) {
        for (int64_t i = 0; i < g.kernel_d * g.kernel_h; ++i) kept[i] = {-1, 0, 0};
    }

    // The place of row h among the kernel_h rows that are kept.
    int64_t place(int64_t h) const { return (h % g.kernel_h + g.kernel_h) % g.kernel_h; }

    // Transforms the rows that the windows at output (n, d, h) meet, and finds their places.
    void input(int64_t n, int64_t d, int64_t h) const {
        for (int64_t kd = 0; kd < g.kernel_d; ++kd)
            for (int64_t kh = 0; kh < g.kernel_h; ++kh) {
                const SourceRow r = {n, d * g.stride_d - g.pad_d + kd * g.dilation_d,
                                     h * g.stride_h - g.pad_h + kh};
                const int64_t at = kd * g.kernel_h + place(r.h);
                for (int64_t c = 0; c < g.c; ++c)
                    offsets[(c * g.kernel_d + kd) * g.kernel_h + kh] =
                        static_cast<int32_t>((c * g.kernel_d * g.kernel_h + at) * s.plane);
                if (kept[at] == r) continue;
                kept[at] = r;
                for (int64_t c = 0; c < g.c; ++c)
                    transform(r, c, v + (c * g.kernel_d * g.kernel_h + at) * s.plane);
            }
    }

    void transform(const SourceRow& r, int64_t c, float* to) const {
        const bool real = r.d >= 0 && r.d < g.in_d && r.h >= 0 && r.h < g.in_h;
        const int64_t line = ((r.n * g.c + c) * g.in_d + r.d) * g.in_h + r.h;
        copy_row(real ? x + line * g.in_w : x, real ? g.in_w : 0, g.pad_w, row, 0, s.row());
        for (int64_t t = 0; t < s.column(); ++t)
            for (int64_t i = 0; i < kTileStep; ++i)
                columns[i * s.column() + t] = row[t * kTileStep + i];
        for (int64_t t = 0; t < s.plane; t += 16) {
            f32x16 pixels[kPositions], sums[kPositions];
#pragma GCC unroll 13
            for (int i = 0; i < kPositions; ++i)
                pixels[i] = load(columns + i % kTileStep * s.column() + t + i / kTileStep);
            Transform<kOutputs, kTaps, kStride>::input(pixels, sums);
#pragma GCC unroll 13
            for (int i = 0; i < kPositions; ++i) store(to + i * s.lines * s.plane + t, sums[i]);
        }
    }

    // A row of outputs. Returns false if some are not finite. With `finite_only`, tiles with such
    // outputs are left as they are.
    bool output(int64_t n, int64_t d, int64_t h, bool finite_only) const {
        const float* added =
            residual ? residual + n * g.residual.image + d * g.residual.plane + h * g.residual.row
                     : nullptr;
        float* const out = y + n * g.y.image + d * g.y.plane + h * g.y.row;
        FloatTile t{};
        t.offsets = offsets;
        t.last_taps = static_cast<int>(s.lines);
        t.last_steps = 1;
        t.b_block = s.lines * 16;
        t.bias = kZeros;
        t.y_row = 16;
        t.lanes = 16;
        f32x16 seen = zero();
        for_each_tile(s.tiles, kTileRows, [&](int64_t first, int count) {
            t.y_block = count * 16;
            const int64_t plane = kTileBlocks * t.y_block;
            for (int64_t block = 0, wide; block < g.blocks; block += wide) {
                wide = g.blocks - block >= kTileBlocks ? kTileBlocks : 1;
                const auto* table = wide == kTileBlocks ? whole : single;
                for (int64_t e = 0; e < kPositions; ++e) {
                    t.a = v + e * s.lines * s.plane + first;
                    t.b = transformed + (e * g.blocks + block) * t.b_block;
                    t.y = m + e * plane;
                    table[count](t);
                }
                for (int64_t k = 0; k < wide; ++k)
                    for (int64_t i = 0; i < count; ++i) {
                        const int64_t w = (first + i) * kOutputs, at = block + k;
                        Target to{
                            .bias = load(bias + at * 16),
                            .residual = added ? added + at * g.residual.block + w * 16 : nullptr,
                            .residual_row = 0,
                            .y = out + at * g.y.block + w * 16,
                            .y_row = 0,
                            .pixel = 16,
                            .height = 1,
                            .width = 0,
                            .pooled = nullptr,
                            .pooled_row = 0,
                            .e = g.epilogue};
                        const float* const products = m + k * t.y_block + i * 16;
                        const auto transform = [&] {
                            return transform_output<1, kOutputs, kTaps, kStride>(products, plane,
                                                                                 to);
                        };
                        if (finite_only && !finite(transform())) continue;
                        to.width = static_cast<int>(smaller<int64_t>(kOutputs, g.out_w - w));
                        const f32x16 sum = transform();
                        seen = fma(zero(), sum, seen);
                    }
            }
        });
        return finite(seen);
    }
};

CNNRT_INLINE int64_t own_scratch(const ConvPlanarArgs& g) {
    const Sizes s(g);
    const int64_t rows = int64_t{g.kernel_d} * g.kernel_h;
    return ceil_div(s.floats() * 4 + rows * int64_t{sizeof(SourceRow)} + s.lines * 4, 64) * 64;
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
