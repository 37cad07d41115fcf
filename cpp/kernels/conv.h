// Convolution by implicit im2col: no patch matrix is built; a table of tap offsets takes its place.
//
// The task grid is units x groups. A unit is the output pixels of one register tile: a piece of a
// row, or two rows of 7 pixels. A group is the blocks of one tile. Any kernel, stride, dilation and
// group count in 1 to 3 dimensions; x carries its padding as a physical border. Taps that read only
// border are left out (conv_taps.h).
//
// Conv<Output> is the whole kernel for one output policy and its element types (output.h).
#pragma once

#include "conv_taps.h"
#include "kernel.h"
#include "tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// How the outputs are cut into units and groups, with tiles of TILE's shape.
struct ConvShape {
    int64_t depth, height, width;  // of the output; a flat image is one row
    bool paired;                   // tiles of two 7-pixel rows
    int64_t above, below;          // rows that are not in pairs, as they leave out other taps
    int64_t tile_rows;             // rows of units in a plane
    int64_t pieces;                // of a row
    int64_t units, groups;
    int group_blocks;
    int max_rows;

    ConvShape(const ConvArgs& g, const TileShape& tile, int group_rows, int any_rows) {
        const bool fast = g.step_w == 16 || g.step_w == 32;
        max_rows = !fast ? any_rows : g.group ? group_rows : tile.rows;
        depth = g.flat ? 1 : g.out_d;
        height = g.flat ? 1 : g.out_h;
        width = g.flat ? static_cast<int64_t>(g.out_d) * g.out_h * g.out_w : g.out_w;
        paired = tile.rows == 14 && fast && width == 7 && depth == 1 && height > 1 && !g.windows;
        above = below = 0;
        if (paired && g.kernel_d) {
            const TapAxis axis = TapAxes(g).h;
            above = axis.before(height);
            below = axis.after(height);
        }
        tile_rows = paired ? above + ceil_div(height - above - below, 2) + below : height;
        pieces = paired ? 1 : ceil_div(width, max_rows);
        units = g.n * depth * tile_rows * pieces;
        // Neighbouring blocks of a grouped convolution read different channels.
        group_blocks = g.windows ? 1 : tile.blocks;
        groups = ceil_div(g.blocks, group_blocks);
    }
};

// Goes from unit to unit. Divisions only at the start: one costs as much as ten steps of a tile.
struct ConvWalk {
    const ConvShape& s;
    int64_t image, d, h, piece, first, remainder;

    ConvWalk(const ConvShape& shape, int64_t unit) : s(shape) {
        piece = unit % s.pieces;
        h = unit / s.pieces % s.tile_rows;
        if (s.paired && h >= s.tile_rows - s.below)
            h += s.height - s.tile_rows;
        else if (s.paired && h > s.above)
            h += h - s.above;
        d = unit / s.pieces / s.tile_rows % s.depth;
        image = unit / s.pieces / s.tile_rows / s.depth;
        first = s.width * piece / s.pieces;
        remainder = s.width * piece % s.pieces;
    }
    bool both_rows() const { return s.paired && h >= s.above && h + 2 <= s.height - s.below; }
    // Pixels of the current unit: pieces end at width * (piece + 1) / pieces.
    int64_t pixels() const {
        return s.width / s.pieces + (remainder + s.width % s.pieces >= s.pieces);
    }
    void next() {
        first += pixels();
        remainder += s.width % s.pieces;
        if (remainder >= s.pieces) remainder -= s.pieces;
        if (++piece < s.pieces) return;
        piece = first = remainder = 0;
        h += both_rows() ? 2 : 1;
        if (h < s.height) return;
        h = 0;
        if (++d < s.depth) return;
        d = 0;
        ++image;
    }
};

// The tiles of a convolution, by the elements between neighbouring output pixels in x: 16 at stride
// 1, 32 at stride 2. Any other step is known at run time only: each row needs an address register,
// so there are fewer rows.
template <class T>
struct ConvTiles {
    static constexpr int kRows = T::kShape.rows, kBlocks = T::kShape.blocks;
    static constexpr int kAnyRows = kRows < 6 ? kRows : 6;
    static constexpr int kGroupRows = kRows < 8 ? kRows : 8;

    // The functions for this many blocks: those of a full tile, or a last group of one.
    template <int BLOCKS>
    static const TileFunction<T>* of(int step_w) {
        static constexpr TileTable<T, kRows, BLOCKS, 16, false> kStride1;
        static constexpr TileTable<T, kRows, BLOCKS, 32, false> kStride2;
        static constexpr TileTable<T, kAnyRows, BLOCKS, 0, false> kStrideAny;
        return step_w == 16   ? kStride1.of_rows
               : step_w == 32 ? kStride2.of_rows
                              : kStrideAny.of_rows;
    }

    // The same if the last block has eight outputs or fewer. At other strides a whole block is
    // computed.
    template <int BLOCKS>
    static const TileFunction<T>* of_half(int step_w) {
        static constexpr TileTable<T, kRows, BLOCKS, 16, false, 0, true> kStride1;
        return step_w == 16 ? kStride1.of_rows : of<BLOCKS>(step_w);
    }

    // Groups of 2, 4 and 8 channels: a block holds several, and each lane sees the channels of its
    // own group.
    template <int GROUP>
    static const TileFunction<T>* of_group(int step_w) {
        static constexpr TileTable<T, kGroupRows, 1, 16, false, GROUP> kStride1;
        static constexpr TileTable<T, kGroupRows, 1, 32, false, GROUP> kStride2;
        static constexpr TileTable<T, kAnyRows, 1, 0, false, GROUP> kStrideAny;
        return step_w == 16   ? kStride1.of_rows
               : step_w == 32 ? kStride2.of_rows
                              : kStrideAny.of_rows;
    }

    // Two rows of 7 output pixels as one tile of 14. The second seven lie one row away.
    static TileFunction<T> paired(int step_w, int blocks) {
        if constexpr (kRows == 14) {
            static constexpr TileFunction<T> kPaired[2][2] = {
                {tile<T, 14, 1, 16, 7, false>, tile<T, 14, 2, 16, 7, false>},
                {tile<T, 14, 1, 32, 7, false>, tile<T, 14, 2, 32, 7, false>},
            };
            return kPaired[step_w == 32][blocks - 1];
        }
        return nullptr;
    }
};

// Larger weights do not stay in L2 beside the image (400 of 1024 KB). Each of their panels is
// applied to all pixels, and the next one is prefetched. Smaller weights are applied to bands of
// the image that fit.
constexpr int64_t kSmallWeights = 400 * 1024;

// A larger image would come from L3 or memory again for every panel. If a panel is smaller than a
// band, the image is cut into bands too, and the panels pass by each. 960 > 256 channels of
// 68 x 120 pixels took 62 ms without that, and take 39.
constexpr int64_t kLargeImage = 4 << 20;

template <class Output>
struct Conv {
    using T = Tile<Output>;
    using In = typename T::In;
    using Weight = typename T::Weight;
    using Out = typename T::Out;
    using Products = typename T::Products;
    using Tiles = ConvTiles<T>;

    const ConvArgs& g;
    const ConvShape s;
    const In* const x;
    const Weight* const weight;
    const Out* const residual;
    Out* const y;
    const int32_t* const windows;
    const float* const scale;
    Weight* const scratch;
    const bool shared;
    const int64_t unit;  // elements of Out in a stored result
    TapLists<Products> lists;
    T t{};

    static ConvShape shape_of(const ConvArgs& g) {
        return ConvShape(g, T::kShape, Tiles::kGroupRows, Tiles::kAnyRows);
    }

    // `output` brings the policy's own fields; all others are set here.
    Conv(const ConvArgs& args, const Context& context, const Output& output)
        : g(args),
          s(shape_of(args)),
          x(context.at<const In>(args.x.at)),
          weight(context.at<const Weight>(args.weight)),
          residual(context.at<const Out>(args.residual.at)),
          y(context.at<Out>(args.y.at)),
          windows(context.at<const int32_t>(args.windows)),
          scale(context.at<const float>(args.scale)),
          scratch(reinterpret_cast<Weight*>(context.scratch)),
          shared(context.shared),
          unit(output.unit()),
          lists(args, context) {
        static_cast<Output&>(t) = output;
        t.a_step = g.step_w;
        t.last_steps = steps_of(g.last_depth);
        t.last_weights = int64_t{g.taps} * 16 * 16;
        t.b_block = g.panel;
        t.residual_row = 16;
        t.y_row = 16 * unit;
        t.residual_block = g.residual.block;
        t.y_block = g.y.block * unit;
        t.lanes = 16;
        t.a_split = g.step_h;
        t.y_split = g.y.row * unit;
        t.residual_split = g.residual.row;
    }

    static int steps_of(int channels) {
        return (channels + Products::kDepth - 1) / Products::kDepth;
    }

    // Units [u0, u1) of groups [o0, o1).
    void run(int64_t u0, int64_t u1, int64_t o0, int64_t o1) {
        constexpr int64_t kIn = sizeof(In), kWeight = sizeof(Weight);
        const bool small = g.blocks * g.panel * kWeight <= kSmallWeights;
        // Groups that read other channels, and panels scaled for an image, go one by one.
        const int64_t together =
            windows || scale ? 1 : panels_together<T>(g.panel * s.group_blocks * kWeight);
        int64_t band = u1 - u0;
        const int64_t unit_bytes = larger<int64_t>(1, g.x.image * kIn * g.n / s.units);
        const bool bands = small ? together == 1
                                 : band * unit_bytes > kLargeImage &&
                                       g.panel * s.group_blocks * kWeight <= kSmallWeights / 2;
        if (bands) band = larger<int64_t>(1, smaller(band, kSmallWeights / unit_bytes));
        const int64_t in_image = s.units / g.n;
        for (int64_t b0 = u0, b1; b0 < u1; b0 = b1) {
            b1 = smaller(u1, b0 + band);
            // Scaled panels belong to one image.
            if (scale) b1 = smaller(b1, (b0 / in_image + 1) * in_image);
            for (int64_t o = o0, next; o < o1; o = next) {
                next = smaller(o1, o + together);
                run_groups(o, next, b0, b1, !small && next < o1);
            }
        }
    }

private:
    // A copy of the panels in which each channel's weights are multiplied by its factor in this
    // image: x (s w) replaces (x s) w.
    const float* scaled(const float* panels, int blocks, int64_t image) const {
        const float* factors = scale + image * g.scale_image;
        for (int k = 0; k < blocks; ++k)
            for (int64_t i = k * g.panel, c = 0; c < g.panel / 16; ++c, i += 16)
                store(scratch + i, mul(load(panels + i), broadcast(factors[c])));
        return scratch;
    }

    // Panels of several groups hold zeros, and infinity or NaN times zero is NaN: such an input
    // would reach the outputs of other groups. Pixels whose outputs are not all finite are computed
    // again, each output from the channels of its own group. Integers need none of this.
    void repair(int64_t block, int pixels) const {
        f32x16 seen = zero();
        for (int m = 0; m < pixels; ++m) seen = fma(zero(), load(t.y + m * 16), seen);
        if (finite(seen)) return;
        for (int m = 0; m < pixels; ++m)
            if (!finite(load(t.y + m * 16))) convolve_by_group(block, m);
    }

    __attribute__((noinline, cold)) void convolve_by_group(int64_t block, int m) const {
        float group_of_lane[16];
        for (int l = 0; l < 16; ++l)
            group_of_lane[l] = static_cast<float>((block * 16 + l) / g.group_m);
        const f32x16 groups = load(group_of_lane);
        const int64_t first = windows[2 * block] / g.x.block * 16;
        f32x16 sum = load(t.bias);
        const float* weights = t.b;
        for (int i = 0; i < t.taps + t.last_taps; ++i) {
            const int depth = i < t.taps ? 16 : t.last_steps;
            for (int k = 0; k < depth; ++k, weights += 16) {
                const int64_t channel = first + i / t.last_taps * 16 + k;
                const f32x16 v = broadcast(t.a[t.offsets[i] + m * t.a_step + k]);
                const f32x16 more = fma(v, load(weights), sum);
                const f32x16 group = broadcast(static_cast<float>(channel / g.group_c));
                sum = select(equal(group, groups), more, sum);
            }
        }
        if (t.residual) sum = add(sum, load(t.residual + m * 16));
        store(t.y + m * 16, sum);
        if (g.epilogue.activation != Activation::none) activate(g.epilogue, t.y + m * 16, 16);
    }

    const In* input_of(const In* from, const ConvWalk& at) const {
        return from + at.image * g.x.image + at.d * g.step_d + at.h * g.step_h +
               at.first * g.step_w;
    }

    // Runs groups [o0, o1) unit by unit. With `prefetch`, the groups after them come next.
    void run_groups(int64_t o0, int64_t o1, int64_t u0, int64_t u1, bool prefetch) {
        const int64_t block0 = o0 * s.group_blocks,
                      block1 = smaller<int64_t>(o1 * s.group_blocks, g.blocks);
        const In* from = x;
        if (windows) {
            from += windows[2 * block0];
            t.last_steps = steps_of(windows[2 * block0 + 1]);
        }
        ConvWalk at(s, u0);
        const Weight* panels = weight + block0 * g.panel;
        if constexpr (!Products::kExact)
            if (scale) panels = scaled(panels, static_cast<int>(block1 - block0), at.image);
        // The next panels, spread over the taps of all the tiles that use the current ones.
        constexpr int64_t kLineWeights = T::kLineWeights;
        const int64_t groups = o1 - o0;
        t.next_lines = 0;
        int64_t lines_left = 0;
        if (prefetch && block1 + s.group_blocks <= g.blocks) {
            t.next = panels + (block1 - block0) * g.panel;
            lines_left = smaller<int64_t>(groups, (g.blocks - block1) / s.group_blocks) *
                         (g.panel / kLineWeights);
            const int64_t taps = int64_t{g.taps} + g.last_taps;
            t.next_lines = static_cast<int>(ceil_div(lines_left, taps * (u1 - u0) * groups));
        }
        for (int64_t u = u0; u < u1; ++u) {
            t.a = input_of(from, at);
            Out* const to = y + unit * (at.image * g.y.image + at.d * g.y.plane + at.h * g.y.row +
                                        at.first * 16);
            const Out* const added = residual ? residual + at.image * g.residual.image +
                                                    at.d * g.residual.plane +
                                                    at.h * g.residual.row + at.first * 16
                                              : nullptr;
            const int pixels = static_cast<int>(at.pixels());
            const bool both = at.both_rows();
            const auto& taps =
                g.kernel_d ? lists.of(at.d, at.h, at.h + both, at.first, at.first + pixels - 1)
                           : lists.all;
            t.offsets = taps.offsets;
            t.places = taps.places;
            t.taps = taps.whole;
            t.last_taps = taps.last;
            const int64_t lines = t.next_lines * (taps.whole + taps.last);
            at.next();
            if (groups > 1)
                t.next_a = t.a;  // from L2 or beyond for the first group, from L1 for the others
            else if (shared)
                t.next_a = u + 1 < u1 ? input_of(from, at) : t.a;
            for (int64_t block = block0; block < block1; block += s.group_blocks) {
                const int blocks = block + s.group_blocks <= g.blocks ? s.group_blocks : 1;
                t.b = panels + (block - block0) * g.panel;
                t.bias = taps.bias + block * 16;
                t.y = to + block * t.y_block;
                t.begin_block(block);
                if (added) t.residual = added + block * g.residual.block;
                TileFunction<T> f = tiles(blocks, block + blocks == g.blocks)[pixels];
                if (both) f = Tiles::paired(g.step_w, blocks);
                f(t);
                if constexpr (!Products::kExact)
                    if (g.group_c) repair(block, pixels);
                if (groups > 1) t.next_a = nullptr;
                t.next += lines * kLineWeights;
                lines_left -= lines;
                if (lines_left < lines) t.next_lines = 0;
            }
        }
    }

    // The tile functions for this many blocks, by rows.
    const TileFunction<T>* tiles(int blocks, bool last) const {
        if constexpr (!Products::kExact) {
            if (last && g.half)
                return blocks == Tiles::kBlocks ? Tiles::template of_half<Tiles::kBlocks>(g.step_w)
                                                : Tiles::template of_half<1>(g.step_w);
            if (g.group == 2) return Tiles::template of_group<2>(g.step_w);
            if (g.group == 4) return Tiles::template of_group<4>(g.step_w);
            if (g.group == 8) return Tiles::template of_group<8>(g.step_w);
        }
        return blocks == Tiles::kBlocks ? Tiles::template of<Tiles::kBlocks>(g.step_w)
                                        : Tiles::template of<1>(g.step_w);
    }
};

// The three functions of a kernel of kernels.def.
template <class Output>
CNNRT_INLINE void run_conv(const ConvArgs& g, const Context& context, int64_t begin, int64_t end,
                           const Output& output) {
    Conv<Output> c(g, context, output);
    for_each_rectangle(
        g.order, begin, end, c.s.units, c.s.groups,
        [&](int64_t u0, int64_t u1, int64_t o0, int64_t o1) { c.run(u0, u1, o0, o1); });
}

template <class Output>
int64_t conv_tasks_of(const ConvArgs& g) {
    const ConvShape s = Conv<Output>::shape_of(g);
    return s.units * s.groups;
}

template <class Output>
int64_t conv_scratch_of(const ConvArgs& g) {
    const int64_t bytes = sizeof(typename Output::Weight);
    // Factors are of 1x1 kernels, which have no taps to leave out.
    if (g.scale) return Conv<Output>::shape_of(g).group_blocks * g.panel * bytes;
    return TapLists<typename Conv<Output>::Products>::scratch_bytes(g);
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
