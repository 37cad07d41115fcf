// Convolution by Winograd's minimal filtering (Lavin & Gray, "Fast Algorithms for Convolutional
// Neural Networks", 2015). winograd.def lists the variants. 3x3 kernels have F(m x m, 3 x 3) with
// m = 2, 4 or 6, and with 2 or 4 at stride 2. 1x3 and 3x1 have F(m, 3) along one axis, and 5x5 has
// F(2 x 2, 5 x 5).
//
// V = B^T d B transforms tiles of ((m-1)s+r)^2 input pixels at stride s, a vector of 16 channels at
// a time. At each of these positions a matrix product over the channels follows: the register tile
// of tile.h, over `batch` tiles at once. y = A^T M A gives m x m outputs. pack.cpp has transformed
// the weights, U = G g G^T, in double precision. If the kernel has one tap on an axis, the tile is
// 1 and the transform the identity.
//
// An infinite or NaN input would reach all outputs of its tile, and infinities would meet as
// infinity - infinity. Tiles whose outputs are not finite are therefore computed again, directly,
// with the filter g = L U L^T, L being a left inverse of G.

#include "kernel.h"
#include "tile.h"
#include "winograd_tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr TileTable<FloatTile, kTileRows, kTileBlocks, 16, false> kTiles;
constexpr TileTable<FloatTile, kTileRows, 1, 16, false> kTilesSingle;

alignas(64) constexpr float kZeros[16 * (kTileBlocks + 4)] = {};

// Tiles between a prefetch and its use: transforms wait for memory if the image does not fit L2.
// 64 channels of 224 x 224 take 4.9 ms instead of 5.7.
constexpr int64_t kAhead = 2;

template <int PIXELS, int ROWS>
CNNRT_INLINE void prefetch_tile(const float* p, int64_t row, int64_t pixel) {
    for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < PIXELS; ++j) __builtin_prefetch(p + i * row + j * pixel, 0, 3);
}

constexpr int64_t kMaxBatch = 64;  // tiles; winograd_batch in cost.py stays below

// Blocks of outputs for which each V is multiplied at once. M is at most half of an L2: of 512 KB
// with AVX2, of 1 MB with AVX-512. From 256 channels on, V does not fit an L2, and would come from
// L3 for each register tile's blocks. If batches are few, 256 channels of 14 x 14 take 4 % less
// time with AVX-512. If they are many, its tiles are wide enough. 128 channels of 112 x 112 would
// take 4 % more with more blocks at once.
constexpr int64_t kMaxTogether = 8, kFewBatches = 4;
constexpr int64_t kProductBytes = (kTileBlocks > 1 ? 512 : 256) * 1024;

// Below so many tasks of a whole register tile's blocks they have one block each. 16 threads then
// have a share each of 256 channels. A tile of one block is slower, and with more tasks the shares
// are even enough as they are.
constexpr int64_t kFewTasks = 64;

struct Geometry {
    int64_t phases_h, phases_w;  // outputs with the same remainder by the dilation are one phase
    int64_t positions, across, down, per_image, tiles, batches, c_blocks, together;
    int64_t of_task;  // blocks in a task of winograd_output
};
CNNRT_INLINE Geometry geometry_of(const WinogradArgs& g) {
    Geometry s;
    s.positions =
        int64_t{reads_of(g.tile_h, g.taps, g.stride)} * reads_of(g.tile_w, g.taps, g.stride);
    s.phases_h = smaller(g.dilation_h, g.out_h);
    s.phases_w = smaller(g.dilation_w, g.out_w);
    s.across = ceil_div(ceil_div(g.out_w, g.dilation_w), g.tile_w);
    s.down = ceil_div(ceil_div(g.out_h, g.dilation_h), g.tile_h);
    s.per_image = s.phases_h * s.phases_w * s.across * s.down;
    s.tiles = g.n * s.per_image;
    s.batches = ceil_div(s.tiles, g.batch);
    s.c_blocks = ceil_div(g.c, 16);
    s.of_task = ceil_div(g.blocks, kTileBlocks) * s.batches < kFewTasks ? 1 : kTileBlocks;
    const int64_t fitting = kProductBytes / (s.positions * g.out_d * g.batch * 64);
    const int64_t most = kTileBlocks > 1 && s.batches > kFewBatches ? kTileBlocks : kMaxTogether;
    const int64_t together = smaller(fitting, most) / kTileBlocks * kTileBlocks;
    s.together = larger<int64_t>(kTileBlocks, together);
    return s;
}

// Planes of V and M are padded by one line. At strides of a multiple of 2 KB, the (m+2)^2 stores of
// a transform fall into the same L1 sets. The transform then takes twice as long.
CNNRT_INLINE int64_t v_plane(const WinogradArgs& g, const Geometry& s) {
    return s.c_blocks * g.in_d * g.batch * 16 + 16;
}
CNNRT_INLINE int64_t m_plane(const WinogradArgs& g, const Geometry& s) {
    return static_cast<int64_t>(g.out_d) * g.batch * 16 * s.together + 16;
}

// The place of a tile: image, and first pixel of the output.
struct Place {
    int64_t n, h, w;
};

// The parts of a convolution that do not depend on the size of a tile.
struct Convolution {
    const WinogradArgs& g;
    const Geometry s;
    const float *x, *weight, *bias, *residual;
    float* y;
    alignas(64) mutable float window_tile[6 * 6 * 16];  // a tile that is pooled

    Convolution(const WinogradArgs& args, const Context& context)
        : g(args),
          s(geometry_of(args)),
          x(context.at(args.x.at)),
          weight(context.at(args.weight)),
          bias(context.at(args.bias)),
          residual(context.at(args.residual.at)),
          y(context.at(args.y.at)) {}

    // The places of tiles [t0, t0 + count). Tiles of the phases of a row follow each other, as they
    // read neighbouring pixels.
    void find_places(int64_t t0, int64_t count, Place* places) const {
        const int64_t per_row = s.across * s.phases_w;
        int64_t n = t0 / s.per_image, r = t0 % s.per_image;
        int64_t row = r / per_row, across = r % per_row / s.phases_w, phase = r % s.phases_w;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t down = row / s.phases_h, phase_h = row % s.phases_h;
            places[i] = {n, down * g.tile_h * g.dilation_h + phase_h,
                         across * g.tile_w * g.dilation_w + phase};
            if (++phase < s.phases_w) continue;
            phase = 0;
            if (++across < s.across) continue;
            across = 0;
            if (++row < s.down * s.phases_h) continue;
            row = 0;
            ++n;
        }
    }

    // The offsets of the taps inside the V of `count` tiles.
    void find_offsets(int64_t count, int32_t* offsets) const {
        for (int64_t k = 0; k < g.kernel_d; ++k)
            for (int64_t c = 0; c < s.c_blocks; ++c)
                offsets[k * s.c_blocks + c] = static_cast<int32_t>((c * g.in_d + k) * count * 16);
    }

    // Computes M of `count` tiles from their V, for `blocks` blocks from `block` on.
    void multiply(int64_t count, int64_t block, int blocks, const float* v, float* m,
                  const int32_t* offsets) const {
        const int64_t panel = static_cast<int64_t>(g.kernel_d) * g.c * 16;
        const bool prefetch = s.positions * panel * g.blocks * 4 > 400 * 1024;
        FloatTile t{};
        t.last_taps = g.c % 16 ? 1 : 0;
        t.last_steps = g.c % 16;
        t.b_block = panel;
        t.bias = kZeros;
        t.y_row = 16;
        t.y_block = m_block(count);
        t.lanes = 16;
        const int64_t tiles_of_rows = ceil_div(g.out_d * count, kTileRows);
        const int64_t lines_per_tap = ceil_div(panel / 16, s.c_blocks * g.kernel_d * tiles_of_rows);
        for (int64_t e = 0; e < s.positions; ++e)
            for (int k = 0, wide; k < blocks; k += wide) {
                wide = blocks - k >= kTileBlocks ? kTileBlocks : 1;
                const float* b = weight + (e * g.blocks + block + k) * panel;
                // The panels that follow, prefetched by all the tiles that use the current ones.
                const bool last = k + wide == blocks;
                t.next = b + (last ? g.blocks - k : wide) * panel;
                t.next_lines = prefetch && !(last && e + 1 == s.positions)
                                   ? static_cast<int>(lines_per_tap)
                                   : 0;
                multiply(count, e, wide, b, v, m + k * m_block(count), offsets, t);
            }
    }

    // The same at one position, for the blocks of one register tile, with their weights.
    void multiply(int64_t count, int64_t e, int wide, const float* b, const float* v, float* m,
                  const int32_t* offsets, FloatTile& t) const {
        const TileFunction<FloatTile>* table =
            wide == kTileBlocks ? kTiles.of_rows : kTilesSingle.of_rows;
        // Depths whose windows lie inside the image go together if they follow each other in V.
        // Those cut off at its ends go one by one.
        for (int64_t d0 = 0, d1; d0 < g.out_d; d0 = d1) {
            const int64_t k0 = first_tap(d0), k1 = last_tap(d0);
            d1 = d0 + 1;
            if (g.stride_d == 1)
                while (d1 < g.out_d && first_tap(d1) == k0 && last_tap(d1) == k1) ++d1;
            t.offsets = offsets + k0 * s.c_blocks;
            t.taps = static_cast<int>((k1 - k0) * s.c_blocks - t.last_taps);
            t.b = b + k0 * g.c * 16;
            const float* a = v + e * v_plane(g, s) + (d0 * g.stride_d - g.pad_d) * count * 16;
            float* to = m + e * m_plane(g, s) + d0 * count * 16;
            for_each_tile((d1 - d0) * count, kTileRows, [&](int64_t first, int rows) {
                t.a = a + first * 16;
                t.y = to + first * 16;
                table[rows](t);
                t.next += static_cast<int64_t>(t.next_lines) * (t.taps + t.last_taps) * 16;
            });
        }
    }

    // Floats between two blocks of M.
    int64_t m_block(int64_t count) const { return g.out_d * count * 16; }

    Target target(int64_t block, int64_t d, const Place& p) const {
        const float* added = residual
                                 ? residual + p.n * g.residual.image + block * g.residual.block +
                                       d * g.residual.plane + p.h * g.residual.row + p.w * 16
                                 : nullptr;
        // Tiles begin at even pixels. (A shift: two divisions for every tile would show.)
        const int half = g.pooled ? 1 : 0;
        float* const out = y + p.n * g.y.image + block * g.y.block + d * g.y.plane +
                           (p.h >> half) * g.y.row + (p.w >> half) * 16;
        return {.bias = load(bias + block * 16),
                .residual = added,
                .residual_row = g.residual.row * g.dilation_h,
                .y = g.pooled ? window_tile : out,
                .y_row = g.pooled ? g.tile_w * 16 : g.y.row * g.dilation_h,
                .pixel = int64_t{g.dilation_w} * 16,
                .height = outputs(g.out_h - p.h, g.dilation_h, g.tile_h),
                .width = outputs(g.out_w - p.w, g.dilation_w, g.tile_w),
                .pooled = g.pooled ? out : nullptr,
                .pooled_row = g.y.row,
                .e = g.epilogue};
    }

    // The outputs of a tile on an axis of which `rest` pixels are left.
    static int outputs(int64_t rest, int64_t dilation, int64_t tile) {
        // No division for the usual dilation of 1, nor for a tile that lies inside.
        if (rest >= (tile - 1) * dilation + 1) return static_cast<int>(tile);
        return static_cast<int>(dilation == 1 ? rest
                                              : ceil_div(larger<int64_t>(rest, 0), dilation));
    }

    // The taps of the depth axis that lie inside the image at output depth d.
    int64_t first_tap(int64_t d) const { return larger<int64_t>(0, g.pad_d - d * g.stride_d); }
    int64_t last_tap(int64_t d) const {
        return larger(first_tap(d),
                      smaller<int64_t>(g.kernel_d, g.in_d + g.pad_d - d * g.stride_d));
    }
};

template <int MH, int MW, int R, int STRIDE>
struct Winograd : Convolution {
    static constexpr int AH = reads_of(MH, R, STRIDE), AW = reads_of(MW, R, STRIDE),
                         KH = taps_of(MH, R), KW = taps_of(MW, R);
    static constexpr int kNew = MW * STRIDE;  // columns of a tile that the one before has not read
    using Convolution::Convolution;

    // Computes V of tiles [t0, t0 + count), at all depths, for channel blocks [c0, c1).
    void input(int64_t t0, int64_t count, int64_t c0, int64_t c1, float* v) const {
        const int64_t plane = v_plane(g, s);
        alignas(64) static constexpr float zeros[AW * 16] = {};
        alignas(64) float gathered[AH * AW * 16];
        const bool dilated = g.dilation_h > 1 || g.dilation_w > 1;
        const int64_t row = g.x.row * g.dilation_h, pixel = int64_t{g.dilation_w} * 16;
        Place places[kMaxBatch];
        find_places(t0, count, places);
        for (int64_t c = c0; c < c1; ++c)
            for (int64_t d = 0; d < g.in_d; ++d)
                for (int64_t i = 0; i < count; ++i) {
                    // The first columns of a tile were the last ones of the previous tile.
                    const bool same = i + kAhead < count;
                    const int64_t over = smaller(i + kAhead - count, count - 1);
                    const Place& later = places[same ? i + kAhead : over];
                    if (same || c + 1 < c1)
                        prefetch_tile<kNew, AH>(
                            x + later.n * g.x.image + (same ? c : c + 1) * g.x.block +
                                d * g.x.plane + (later.h * STRIDE - g.pad_h) * g.x.row +
                                (later.w * STRIDE - g.pad_w) * 16 + (AW - kNew) * pixel,
                            row, pixel);
                    const int64_t h = places[i].h * STRIDE - g.pad_h;
                    const int64_t w = places[i].w * STRIDE - g.pad_w;
                    const float* base =
                        x + places[i].n * g.x.image + c * g.x.block + d * g.x.plane + w * 16;
                    float* to = v + ((c * g.in_d + d) * count + i) * 16;
                    const float* rows[AH];
                    if (dilated) {
                        gather(base, h, w, gathered);
                        for (int k = 0; k < AH; ++k) rows[k] = gathered + k * AW * 16;
                        transform_input<MH, MW, R, STRIDE>(rows, 0, AW, to, plane);
                        continue;
                    }
                    for (int k = 0; k < AH; ++k)
                        rows[k] = h + k >= 0 && h + k < g.in_h ? base + (h + k) * g.x.row : zeros;
                    const int first = static_cast<int>(larger<int64_t>(0, -w));
                    const int last = static_cast<int>(smaller<int64_t>(AW, g.in_w - w));
                    transform_input<MH, MW, R, STRIDE>(rows, first, last, to, plane);
                }
    }

    // Copies the pixels that a tile reads at a dilation from row h and column w on, with zeros for
    // those outside. `base` is at column w of row 0.
    void gather(const float* base, int64_t h, int64_t w, float* to) const {
        for (int i = 0; i < AH; ++i, h += g.dilation_h) {
            const float* from = base + h * g.x.row;
            int64_t column = w;
            for (int j = 0; j < AW; ++j, to += 16, column += g.dilation_w) {
                const bool inside = h >= 0 && h < g.in_h && column >= 0 && column < g.in_w;
                store(to, inside ? load(from + (column - w) * 16) : zero());
            }
        }
    }

    // Computes the outputs of tiles [t0, t0 + count) for blocks [first, end), from their V.
    // `offsets` has room for kernel_d * c_blocks.
    void output(int64_t t0, int64_t count, int64_t first, int64_t end, const float* v, float* m,
                int32_t* offsets) const {
        const int64_t plane = m_plane(g, s);
        find_offsets(count, offsets);
        Place places[kMaxBatch];
        find_places(t0, count, places);
        for (int64_t block = first; block < end; block += s.together) {
            const int blocks = static_cast<int>(smaller(s.together, end - block));
            multiply(count, block, blocks, v, m, offsets);
            for (int k = 0; k < blocks; ++k) {
                const float* products = m + k * m_block(count);
                f32x16 seen = zero();
                for (int64_t d = 0; d < g.out_d; ++d)
                    for (int64_t i = 0; i < count; ++i) {
                        const Place& at = places[i];
                        const Target to = target(block + k, d, at);
                        if (i + kAhead < count && places[i + kAhead].n == at.n)
                            prefetch_outputs(to, places[i + kAhead].h - at.h,
                                             places[i + kAhead].w - at.w);
                        const f32x16 corners = transform_output<MH, MW, R, STRIDE>(
                            products + (d * count + i) * 16, plane, to);
                        seen = fma(zero(), corners, seen);
                    }
                if (!finite(seen)) repair(products, block + k, places, count);
            }
        }
    }

    // Prefetches the outputs of the tile this many rows and columns beyond that of `to`.
    CNNRT_INLINE void prefetch_outputs(const Target& to, int64_t h, int64_t w) const {
        if (g.pooled)
            prefetch_tile<(MW + 1) / 2, (MH + 1) / 2>(to.pooled + h / 2 * g.y.row + w / 2 * 16,
                                                      g.y.row, 16);
        else
            prefetch_tile<MW, MH>(to.y + h * g.y.row + w * 16, to.y_row, to.pixel);
    }

    // Computes again, directly, the outputs of those of `count` tiles in which not all are finite.
    __attribute__((noinline, cold)) void repair(const float* products, int64_t block,
                                                const Place* places, int64_t count) const {
        for (int64_t d = 0; d < g.out_d; ++d)
            for (int64_t i = 0; i < count; ++i) {
                const Target to = target(block, d, places[i]);
                const float* m = products + (d * count + i) * 16;
                if (!finite(transform_output<MH, MW, R, STRIDE>(m, m_plane(g, s), to)))
                    convolve(block, d, places[i], to);
            }
    }

    __attribute__((noinline, cold)) void convolve(int64_t block, int64_t d, const Place& p,
                                                  const Target& to) const {
        const int64_t panel = static_cast<int64_t>(g.kernel_d) * g.c * 16;
        f32x16 sums[MH][MW];
        for (auto& row : sums)
            for (f32x16& s : row) s = zero();
        for (int64_t k = first_tap(d); k < last_tap(d); ++k)
            for (int64_t c = 0; c < g.c; ++c) {
                f32x16 half[KH][AW], taps[KH][KW];
                for (int j = 0; j < AW; ++j) {
                    f32x16 u[AH], r[KH];
                    for (int i = 0; i < AH; ++i)
                        u[i] = load(weight + ((i * AW + j) * g.blocks + block) * panel +
                                    (k * g.c + c) * 16);
                    Transform<MH, R, STRIDE>::filter(u, r);
                    for (int i = 0; i < KH; ++i) half[i][j] = r[i];
                }
                for (int i = 0; i < KH; ++i) Transform<MW, R, STRIDE>::filter(half[i], taps[i]);
                const float* plane = x + p.n * g.x.image + c / 16 * g.x.block +
                                     (d * g.stride_d + k - g.pad_d) * g.x.plane + c % 16;
                for (int i = 0; i < to.height; ++i)
                    for (int j = 0; j < to.width; ++j)
                        for (int a = 0; a < KH; ++a)
                            for (int b = 0; b < KW; ++b) {
                                const int64_t h =
                                    (p.h + i * g.dilation_h) * STRIDE - g.pad_h + a * g.dilation_h;
                                const int64_t w =
                                    (p.w + j * g.dilation_w) * STRIDE - g.pad_w + b * g.dilation_w;
                                if (h < 0 || h >= g.in_h || w < 0 || w >= g.in_w) continue;
                                const f32x16 v = broadcast(plane[h * g.x.row + w * 16]);
                                sums[i][j] = fma(v, taps[a][b], sums[i][j]);
                            }
            }
        for (int i = 0; i < to.height; ++i) to.template store_row<MW>(i, sums[i]);
        if constexpr (MH == MW) to.pool();
    }
};

// Scratch: the offsets of the taps inside V, then M, then (whole kernel only) V.
CNNRT_INLINE int64_t offsets_bytes(const WinogradArgs& g, const Geometry& s) {
    return ceil_div(g.kernel_d * s.c_blocks * 4, 64) * 64;
}

// Calls f with the variant that has the step's tile.
template <class F>
CNNRT_INLINE void with_tile(const WinogradArgs& g, const Context& context, F f) {
#define WINOGRAD(tile_h_, tile_w_, taps_, stride_)                                            \
    if (g.tile_h == tile_h_ && g.tile_w == tile_w_ && g.taps == taps_ && g.stride == stride_) \
        return f(Winograd<tile_h_, tile_w_, taps_, stride_>(g, context));
#include "winograd.def"
#undef WINOGRAD
}

}  // namespace

void winograd(const WinogradArgs& g, const Context& context, int64_t begin, int64_t end) {
    const Geometry s = geometry_of(g);
    int32_t* offsets = reinterpret_cast<int32_t*>(context.scratch);
    float* m = reinterpret_cast<float*>(context.scratch + offsets_bytes(g, s));
    float* v = m + s.positions * m_plane(g, s);
    with_tile(g, context, [&](const auto& w) {
        // A task is a tile, not a batch: the threads' shares come out even, and each is cut into
        // batches of its own.
        for_each_tile(end - begin, g.batch, [&](int64_t first, int count) {
            w.input(begin + first, count, 0, s.c_blocks, v);
            w.output(begin + first, count, 0, g.blocks, v, m, offsets);
        });
    });
}

int64_t winograd_tasks(const WinogradArgs& g) { return geometry_of(g).tiles; }

int64_t winograd_scratch(const WinogradArgs& g) {
    const Geometry s = geometry_of(g);
    return offsets_bytes(g, s) + s.positions * (m_plane(g, s) + v_plane(g, s)) * 4;
}

void winograd_input(const WinogradArgs& g, const Context& context, int64_t begin, int64_t end) {
    const Geometry s = geometry_of(g);
    float* transformed = context.at(g.transformed);
    with_tile(g, context, [&](const auto& w) {
        for_each_rectangle(begin, end, s.c_blocks,
                           [&](int64_t b0, int64_t b1, int64_t c0, int64_t c1) {
                               for (int64_t b = b0; b < b1; ++b) {
                                   const int64_t t0 = b * g.batch;
                                   w.input(t0, smaller<int64_t>(g.batch, s.tiles - t0), c0, c1,
                                           transformed + b * s.positions * v_plane(g, s));
                               }
                           });
    });
}

int64_t winograd_input_tasks(const WinogradArgs& g) {
    const Geometry s = geometry_of(g);
    return s.batches * s.c_blocks;
}

void winograd_output(const WinogradArgs& g, const Context& context, int64_t begin, int64_t end) {
    const Geometry s = geometry_of(g);
    const float* transformed = context.at(g.transformed);
    int32_t* offsets = reinterpret_cast<int32_t*>(context.scratch);
    float* m = reinterpret_cast<float*>(context.scratch + offsets_bytes(g, s));
    with_tile(g, context, [&](const auto& w) {
        // Groups are the outer axis: a thread reads only its own weights.
        for_each_rectangle(
            begin, end, s.batches, [&](int64_t o0, int64_t o1, int64_t b0, int64_t b1) {
                for (int64_t b = b0; b < b1; ++b) {
                    const int64_t t0 = b * g.batch;
                    w.output(t0, smaller<int64_t>(g.batch, s.tiles - t0), o0 * s.of_task,
                             smaller(o1 * s.of_task, int64_t{g.blocks}),
                             transformed + b * s.positions * v_plane(g, s), m, offsets);
                }
            });
    });
}

int64_t winograd_output_tasks(const WinogradArgs& g) {
    const Geometry s = geometry_of(g);
    return ceil_div(g.blocks, s.of_task) * s.batches;
}

int64_t winograd_output_scratch(const WinogradArgs& g) {
    const Geometry s = geometry_of(g);
    return offsets_bytes(g, s) + s.positions * m_plane(g, s) * 4;
}

}  // namespace cnnrt::CNNRT_ISA
