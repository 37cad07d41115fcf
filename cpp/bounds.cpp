#include "bounds.h"

#include <algorithm>

#include "bounds_parts.h"

namespace cnnrt {
namespace {

constexpr int64_t kMaxWinogradBatch = 64;  // kMaxBatch of winograd.cpp
constexpr int64_t kRowPositions = 13;      // kPositions of conv_planar_winograd.h

int64_t itemsize(DType type) {
    switch (type) {
#define DTYPE(id, name, type, kind, code) \
    case DType::id:                       \
        return sizeof(type);
#include "kernels/dtypes.def"
    }
    throw OutOfBounds("an unknown element type");
}

void winograd_like(const WinogradArgs& f, const Bounds& bounds) {
    bool known = false;
#define WINOGRAD(h, w, r, s) \
    known = known || (f.tile_h == (h) && f.tile_w == (w) && f.taps == (r) && f.stride == (s));
#include "kernels/winograd.def"
#undef WINOGRAD
    need(known && f.batch >= 1 && f.batch <= kMaxWinogradBatch, "another tile or batch");
    need(f.c >= 1 && f.kernel_d >= 1, "no channels or no kernel");
    const int64_t blocks = ceil_div(f.c, kBlock);
    const auto along = [&](int64_t tile) { return tile == 1 ? 1 : (tile - 1) * f.stride + f.taps; };
    const int64_t positions = along(f.tile_h) * along(f.tile_w);
    const Checked plane = Checked(blocks) * f.in_d * f.batch * kBlock + kBlock;
    need(plane <= kMaxSize, "planes beyond 32 bits");
    need(f.kernel_d == 1 || f.c % kBlock == 0, "a part of a block");
    need(f.dilation_h >= 1 && f.dilation_w >= 1, "no dilation");
    need(f.stride == 1 || (f.dilation_h == 1 && f.dilation_w == 1), "a stride and a dilation");
    need(f.stride_d >= 1, "no step between windows");
    const auto tiles_along = [](int64_t out, int64_t dilation, int64_t tile) {
        return Checked(std::min(out, dilation)) * ceil_div(ceil_div(out, dilation), tile);
    };
    const Checked tiles = Checked(f.n) * tiles_along(f.out_h, f.dilation_h, f.tile_h) *
                          tiles_along(f.out_w, f.dilation_w, f.tile_w);
    bounds.pixels(f.x, f.n, blocks, f.in_d, f.in_h, f.in_w);
    bounds.first(f.weight, Checked(positions) * f.blocks * f.kernel_d * f.c * kBlock);
    bounds.first(f.bias, Checked(f.blocks) * kBlock);
    const int64_t batches = ceil_div(tiles.value(), f.batch);
    bounds.first(f.transformed, Checked(batches) * positions * plane);
    outputs(f, f.residual, bounds);
    need(!f.pooled || (f.tile_h == f.tile_w && f.dilation_h == 1 && f.dilation_w == 1),
         "windows larger than a tile");
    const int shrink = f.pooled ? 2 : 1;
    bounds.pixels(f.y, f.n, f.blocks, f.out_d, f.out_h / shrink, f.out_w / shrink);
}

// The indices of gather and scatter; that they lie on the axis is checked as they are read.
void indices(const IndexedArgs& f, const Bounds& bounds) {
    need(f.index_bytes == 4 || f.index_bytes == 8, "indices of other than 4 or 8 bytes");
    need(f.depth >= 1 && f.depth <= kMaxDims, "indices of other than 1 to 8 axes");
    if (f.depth > 1) {
        Checked merged = 1;
        for (int i = 0; i < f.depth; ++i) {
            need(f.sizes[i] >= 1, "an axis of no elements");
            merged = merged * f.sizes[i];
        }
        need(merged <= f.axis, "axes of more elements than they merge into");
    }
    bounds.strided(
        f.indices,
        {{f.outer, f.index_outer}, {f.count, f.index_row}, {f.inner, f.index_inner}, {f.depth, 1}},
        f.index_bytes);
}

void peak_like(const PeakArgs& f, const Bounds& bounds) {
    bounds.first(f.y, Checked(kBlock) + Checked(kBlock) * f.tasks);  // peak_u8's 64 factors too
}

}  // namespace

void Checked::overflow() { throw OutOfBounds("a place beyond 64 bits"); }

const Bounds::Place* Bounds::find(const Ref& field) const {
    for (const Place& place : places_)
        if (place.field == &field) return &place;
    return nullptr;
}

void Bounds::use(const Ref& field, Checked low, Checked high, int64_t size) const {
    const Place* const place = find(field);
    if (!place || low >= high) return;
    const Checked first = low * size + place->offset, last = high * size + place->offset;
    if (first >= 0 && last <= place->bytes) return;
    throw OutOfBounds("bytes " + std::to_string(first.value()) + " to " +
                      std::to_string(last.value()) + " of '" + std::string(place->name) +
                      "', which has " + std::to_string(place->bytes));
}

void Bounds::strided(const Ref& field, const Axes& axes, int64_t size) const {
    const auto [low, high] = span(axes);
    use(field, low, high, size);
}

void Bounds::pixels(const View& v, Checked n, Checked blocks, Checked d, Checked h,
                    Checked w) const {
    if (!v) return;
    const auto [low, high] =
        span({{n, v.image}, {blocks, v.block}, {d, v.plane}, {h, v.row}, {w, kBlock}}, kBlock);
    use(v.at, low, high, itemsize(v));
}

const int32_t* Bounds::table(const Ref& field, Checked count) const {
    const Place* const place = find(field);
    need(place && field.space == kConstant && count > 0, "a table that is not there");
    first(field, count, sizeof(int32_t));
    return reinterpret_cast<const int32_t*>(field.offset);
}

int64_t Bounds::itemsize(const View& field) const {
    const Place* const place = find(field.at);
    return place ? place->itemsize : static_cast<int64_t>(sizeof(float));
}

bool Bounds::holds(const View& field, int64_t itemsize) const {
    const Place* const place = find(field.at);
    return !place || place->itemsize == itemsize;
}

// Each kernel, in the order of kernels.def -------------------------------------------------------

void conv_bounds(const ConvArgs& f, const Bounds& bounds) {
    const Checked taps = Checked(f.taps) + f.last_taps;
    need(f.taps >= 0 && f.last_taps >= 0, "fewer than no taps");
    Extremes reach = extremes(bounds.table(f.offsets, taps), taps.value());
    if (f.windows) {
        const int32_t* const windows = bounds.table(f.windows, Checked(f.blocks) * 2);
        const Extremes start = extremes(windows, f.blocks, 2);
        const Extremes depth = extremes(windows + 1, f.blocks, 2);
        reach.low += start.low;
        reach.high += start.high;
        need(depth.low >= 1 && depth.high <= kBlock, "a depth beyond a block");
    }
    need(f.last_depth >= 0 && f.last_depth <= kBlock, "a depth beyond a block");
    windows_of_taps(f);
    need(!f.share, "the padding's share in a sum of floats");
    need(f.group == 0 || f.group == 2 || f.group == 4 || f.group == 8, "other groups");
    need(!f.group || !f.taps, "taps of whole blocks in groups");
    need(!f.half || (!f.group && !f.windows), "half a block in groups");
    const Checked depth =
        Checked(f.taps) * kBlock + Checked(f.last_taps) * (f.group ? f.group : f.last_depth);
    need(depth * kBlock <= f.panel, "weights beyond a panel");
    const auto [first, last] =
        span({{f.n, f.x.image}, {f.out_d, f.step_d}, {f.out_h, f.step_h}, {f.out_w, f.step_w}});
    bounds.use(f.x.at, first + reach.low, last - 1 + reach.high + kBlock, bounds.itemsize(f.x));
    bounds.first(f.weight, Checked(f.blocks) * f.panel);
    bounds.first(f.bias, Checked(f.blocks) * kBlock);
    outputs(f, f.y, bounds);
    outputs(f, f.residual, bounds);
    if (f.scale) {
        need(depth * kBlock == f.panel, "scaled weights of other than 1x1");
        bounds.strided(f.scale, {{f.n, f.scale_image}, {depth, 1}});
    }
}

void conv_planar_bounds(const ConvPlanarArgs& f, const Bounds& bounds) {
    need(std::min({f.c, f.kernel_d, f.kernel_h, f.kernel_w}) >= 1, "no channels or no kernel");
    need(std::min({f.in_d, f.in_h, f.in_w}) >= 1, "no pixels");
    const Checked rows = Checked(f.c) * f.kernel_d * f.kernel_h, taps = rows * f.kernel_w;
    const Checked reach =
        (Checked(f.out_w) - 1) * f.stride_w + (Checked(f.kernel_w) - 1) * f.dilation_w + 1;
    need(rows * (reach + kBlock) <= kMaxSize, "rows beyond 32 bits");
    need(taps * kBlock <= f.panel, "weights beyond a panel");
    bounds.first(f.x, Checked(f.n) * f.c * f.in_d * f.in_h * f.in_w);
    bounds.first(f.weight, Checked(f.blocks) * f.panel);
    bounds.first(f.bias, Checked(f.blocks) * kBlock);
    outputs(f, f.y, bounds);
    outputs(f, f.residual, bounds);
}

void conv_planar_winograd_bounds(const ConvPlanarArgs& f, const Bounds& bounds) {
    conv_planar_bounds(f, bounds);
    need(f.kernel_w == 7 && f.stride_w == 2, "another kernel or stride");
    need(f.dilation_h == 1 && f.dilation_w == 1, "a dilation");
    const Checked lines = Checked(f.c) * f.kernel_d * f.kernel_h;
    const Checked columns = (Checked(f.out_w) + 64) * 2;  // of V, with room for whole vectors
    need(lines * columns <= kMaxSize, "rows beyond 32 bits");
    bounds.first(f.transformed, lines * kRowPositions * f.blocks * kBlock);
}

void winograd_bounds(const WinogradArgs& f, const Bounds& bounds) { winograd_like(f, bounds); }
void winograd_input_bounds(const WinogradArgs& f, const Bounds& bounds) {
    winograd_like(f, bounds);
}
void winograd_output_bounds(const WinogradArgs& f, const Bounds& bounds) {
    winograd_like(f, bounds);
}

void depthwise_bounds(const DepthwiseArgs& f, const Bounds& bounds) {
    // Taps beyond the image are left out: the padding may be any.
    need(std::min({f.stride_d, f.stride_h, f.stride_w}) >= 1, "no step between windows");
    need(std::min({f.dilation_d, f.dilation_h, f.dilation_w}) >= 1, "no step between taps");
    const Checked taps = Checked(f.kernel_d) * f.kernel_h * f.kernel_w;
    bounds.pixels(f.x, f.n, f.blocks, f.in_d, f.in_h, f.in_w);
    bounds.first(f.weight, Checked(f.blocks) * taps * kBlock);
    bounds.first(f.bias, Checked(f.blocks) * kBlock);
    outputs(f, f.y, bounds);
}

void pool_bounds(const PoolArgs& f, const Bounds& bounds) {
    Checked first = 0, last = 0;
    const auto axis = [&](const Ref& windows, int64_t out, int64_t dilation, int64_t step) {
        const int32_t* const table = bounds.table(windows, Checked(out) * 3);
        const Extremes begin = extremes(table, out, 3), end = extremes(table + 1, out, 3);
        const Extremes count = extremes(table + 2, out, 3);
        need(std::min({begin.low, end.low, count.low}) >= 0, "a window before the image");
        need(dilation >= 1, "no step between taps");
        first = first + Checked(begin.low) * step;
        last = last + Checked(std::max<int64_t>(0, end.high - 1)) * step;
    };
    axis(f.windows_d, f.out_d, f.dilation_d, f.x.plane);
    axis(f.windows_h, f.out_h, f.dilation_h, f.x.row);
    axis(f.windows_w, f.out_w, f.dilation_w, kBlock);
    window_pixels(f.x, f.n, f.blocks, first, last, bounds);
    outputs(f, f.y, bounds);
}

void pool_planar_bounds(const PoolPlanarArgs& f, const Bounds& bounds) {
    const auto axis = [&](const Ref& windows, int64_t size, int64_t out, int64_t dilation) {
        const int32_t* const table = bounds.table(windows, Checked(out) * 3);
        need(dilation >= 1, "no step between taps");
        for (int64_t i = 0; i < out; ++i) {
            const int32_t begin = table[3 * i], end = table[3 * i + 1], count = table[3 * i + 2];
            if (begin < end)
                need(begin >= 0 && count >= 0 && end <= size, "a window beyond the image");
        }
    };
    axis(f.windows_d, f.in_d, f.out_d, f.dilation_d);
    axis(f.windows_h, f.in_h, f.out_h, f.dilation_h);
    axis(f.windows_w, f.in_w, f.out_w, f.dilation_w);
    bounds.first(f.x, Checked(f.planes) * f.in_d * f.in_h * f.in_w);
    bounds.first(f.y, Checked(f.planes) * f.out_d * f.out_h * f.out_w);
}

void elementwise_bounds(const ElementwiseArgs& f, const Bounds& bounds) {
    const auto operand = [&](const Ref& field, const Dims& strides) {
        if (!field) return;
        bounds.strided(field, axes_of(f.dims, f.shape, strides));
        const int64_t inner = strides[f.dims - 1];
        need(inner == 1 || (inner == 0 && (&field != &f.y || f.shape[f.dims - 1] == 1)),
             "rows that are not contiguous");
    };
    operand(f.a, f.a_stride);
    operand(f.b, f.b_stride);
    operand(f.y, f.y_stride);
}

void copy_bounds(const CopyArgs& f, const Bounds& bounds) {
    need(is_element(f.element), "elements of other than 1, 2, 4 or 8 bytes");
    bounds.strided(f.x, axes_of(f.dims, f.shape, f.x_stride), f.element);
    bounds.strided(f.y, axes_of(f.dims, f.shape, f.y_stride), f.element);
}

void gather_bounds(const IndexedArgs& f, const Bounds& bounds) {
    // Rows that one index serves are copied as bytes.
    need(f.element >= 1 && (is_element(f.element) || !f.index_inner), "elements of other sizes");
    indices(f, bounds);
    bounds.first(f.x, Checked(f.outer) * f.axis * f.inner, f.element);
    bounds.first(f.y, Checked(f.outer) * f.count * f.inner, f.element);
}

void scatter_bounds(const IndexedArgs& f, const Bounds& bounds) {
    need(f.op == Binary::none || f.op == Binary::add || f.op == Binary::mul ||
             f.op == Binary::min || f.op == Binary::max,
         "another operation");
    need(is_element(f.element), "elements of other than 1, 2, 4 or 8 bytes");
    need(f.op == Binary::none || itemsize(f.type) == f.element, "elements of another size");
    indices(f, bounds);
    bounds.first(f.x, Checked(f.outer) * f.count * f.inner, f.element);
    bounds.first(f.y, Checked(f.outer) * f.axis * f.inner, f.element);
}

void reverse_sequence_bounds(const ReverseArgs& f, const Bounds& bounds) {
    need(is_element(f.element), "elements of other than 1, 2, 4 or 8 bytes");
    need(f.length_bytes == 4 || f.length_bytes == 8, "lengths of other than 4 or 8 bytes");
    need(std::min({f.outer, f.time, f.middle, f.batch, f.inner}) >= 1, "an axis of no elements");
    const Checked elements = Checked(f.outer) * f.time * f.middle * f.batch * f.inner;
    bounds.first(f.x, elements, f.element);
    bounds.first(f.y, elements, f.element);
    bounds.first(f.lengths, f.batch, f.length_bytes);
}

void where_bounds(const WhereArgs& f, const Bounds& bounds) {
    need(is_element(f.element), "elements of other than 1, 2, 4 or 8 bytes");
    bounds.strided(f.condition, axes_of(f.dims, f.shape, f.condition_stride), 1);
    bounds.strided(f.a, axes_of(f.dims, f.shape, f.a_stride), f.element);
    bounds.strided(f.b, axes_of(f.dims, f.shape, f.b_stride), f.element);
    bounds.first(f.y, product(f.dims, f.shape), f.element);
}

void pointwise_bounds(const PointwiseArgs& f, const Bounds& bounds) {
    need(f.instructions >= 1 && f.instructions <= kMaxInstructions && f.once >= 0 &&
             f.once <= f.instructions,
         "no instructions, or too many");
    need(f.registers >= 1 && f.registers <= kMaxRegisters, "other registers");
    const Ref* const inputs[] = {&f.x0, &f.x1, &f.x2, &f.x3, &f.x4, &f.x5, &f.x6, &f.x7};
    const Ref* const outputs[] = {&f.y0, &f.y1, &f.y2, &f.y3};
    constexpr int64_t kWords = sizeof(Instruction) / sizeof(int32_t);
    const auto* program =
        reinterpret_cast<const Instruction*>(bounds.table(f.program, kWords * f.instructions));
    int loaded = 0;
    const auto operand = [&](const Ref& field, int number, int64_t size) {
        need(static_cast<bool>(field), "an absent operand");
        Dims strides;
        std::copy_n(f.strides + number * kMaxDims, kMaxDims, strides);
        bounds.strided(field, axes_of(f.dims, f.shape, strides), size);
    };
    for (int i = 0; i < f.instructions; ++i) {
        const Instruction& p = program[i];
        const bool load = p.operation == static_cast<uint8_t>(Operation::load);
        const bool activation = p.operation == static_cast<uint8_t>(Operation::activation);
        const int last =
            std::max({int{p.y}, load ? 0 : int{p.a}, int{p.b}, activation ? 0 : int{p.c}});
        need(last < f.registers, "a register beyond the last");
        const int64_t size = itemsize(static_cast<DType>(p.type));
        need(std::max(size, itemsize(static_cast<DType>(p.result))) <= f.width, "a larger element");
        if (!load) continue;
        need(p.a < kMaxInputs, "an input beyond the last");
        operand(*inputs[p.a], p.a, size);
        loaded = std::max(loaded, p.a + 1);
    }
    for (int i = 0; i < f.instructions; ++i) {
        const Instruction& p = program[i];
        if (p.output == kNoOutput) continue;
        need(p.output < kMaxOutputs, "an output beyond the last");
        operand(*outputs[p.output], loaded + p.output, itemsize(static_cast<DType>(p.result)));
    }
}

void convert_bounds(const ConvertArgs& f, const Bounds& bounds) {
    need(!f.scale || f.from == DType::float32 || f.to == DType::float32, "neither side of float32");
    need(static_cast<bool>(f.scale) == static_cast<bool>(f.zero), "a scale or a zero point alone");
    need(f.scales >= (f.by_column ? f.columns : 1), "too few scales");
    const Checked elements = Checked(f.rows) * f.columns;
    bounds.first(f.x, elements, itemsize(f.from));
    bounds.first(f.y, elements, itemsize(f.to));
    bounds.first(f.scale, f.scales);
    bounds.first(f.zero, f.scales);
}

void reorder_bounds(const ReorderArgs& f, const Bounds& bounds) {
    need(is_element(f.element) && bounds.holds(f.blocked, f.element), "other elements");
    need(f.c >= 1, "no channels");
    const Checked pixels = Checked(f.d) * f.h * f.w;
    bounds.strided(f.plain, {{f.n, f.image}, {f.c, f.channel}, {pixels, 1}}, f.element);
    bounds.pixels(f.blocked, f.n, ceil_div(f.c, kBlock), f.d, f.h, f.w);
}

void border_bounds(const BorderArgs& f, const Bounds& bounds) {
    need(is_element(f.element) && bounds.holds(f.y, f.element), "other elements");
    const View& v = f.y;
    const Checked before =
        Checked(f.border_d) * v.plane + Checked(f.border_h) * v.row + Checked(f.border_w) * kBlock;
    const auto [low, high] = span(
        {{f.n, v.image}, {f.blocks, v.block}, {f.d, v.plane}, {f.h, v.row}, {f.w, kBlock}}, kBlock);
    bounds.use(v.at, low - before, std::max(high, Checked(f.n) * v.image), f.element);
}

void softmax_bounds(const SoftmaxArgs& f, const Bounds& bounds) {
    const Checked elements = Checked(f.outer) * f.axis * f.inner;
    bounds.first(f.x, elements);
    bounds.first(f.y, elements);
}

void resize_bounds(const ResizeArgs& f, const Bounds& bounds) {
    Checked last = 0;
    const auto axis = [&](const Ref& index, const Ref& weight, int64_t taps, int64_t out) {
        const Checked count = Checked(taps) * out;
        const Extremes found = extremes(bounds.table(index, count), count.value());
        need(found.low >= 0, "an index before the image");
        bounds.first(weight, count);
        return found.high;
    };
    last = last + Checked(axis(f.index_d, f.weight_d, f.taps_d, f.out_d)) * f.x.plane;
    last = last + Checked(axis(f.index_h, f.weight_h, f.taps_h, f.out_h)) * f.x.row;
    need(axis(f.index_w, f.weight_w, f.taps_w, f.out_w) < f.in_w, "an index beyond a row");
    last = last + (Checked(f.in_w) - 1) * kBlock;
    window_pixels(f.x, f.n, f.blocks, 0, last, bounds);
    outputs(f, f.y, bounds);
}

void resize_planar_bounds(const ResizePlanarArgs& f, const Bounds& bounds) {
    const auto axis = [&](const Ref& index, const Ref& weight, int64_t taps, int64_t in,
                          int64_t out) {
        const Checked count = Checked(taps) * out;
        const Extremes found = extremes(bounds.table(index, count), count.value());
        need(found.low >= 0 && found.high < in, "an index beyond the image");
        bounds.first(weight, count);
    };
    axis(f.index_d, f.weight_d, f.taps_d, f.in_d, f.out_d);
    axis(f.index_h, f.weight_h, f.taps_h, f.in_h, f.out_h);
    axis(f.index_w, f.weight_w, f.taps_w, f.in_w, f.out_w);
    bounds.first(f.x, Checked(f.planes) * f.in_d * f.in_h * f.in_w);
    bounds.first(f.y, Checked(f.planes) * f.out_d * f.out_h * f.out_w);
}

void layer_norm_bounds(const LayerNormArgs& f, const Bounds& bounds) {
    need(f.axis >= 1 && f.span >= 0 && (!f.span || f.axis % f.span == 0), "rows of other spans");
    const int64_t blocks = f.axis / kBlock, rest = f.axis % kBlock;
    const auto side = [&](const Ref& field, int64_t step, const Dims& strides) {
        const auto [low, high] = span(axes_of(f.dims, f.shape, strides));
        const Checked row =
            rest ? Checked(blocks) * step + rest : (Checked(blocks) - 1) * step + kBlock;
        need(!f.span || step == kBlock, "rows in pieces");
        bounds.use(field, low, high - 1 + row);
    };
    side(f.x, f.x_block, f.x_stride);
    side(f.y, f.y_block, f.y_stride);
    const Checked count = f.span ? Checked(f.groups) * (f.axis / f.span) : Checked(f.axis);
    bounds.first(f.scale, count);
    bounds.first(f.bias, count);
}

void reduce_bounds(const ReduceArgs& f, const Bounds& bounds) {
    need(f.outer >= 0 && f.axis >= 0 && f.inner >= 1, "an axis of less than nothing");
    const bool real = f.type == DType::float32 || f.type == DType::float64;
    need(f.type != DType::float16 && f.type != DType::bfloat16, "elements that are only stored");
    need(f.op != Reduction::l2 || real, "a norm of integers");
    bounds.first(f.x, Checked(f.outer) * f.axis * f.inner, itemsize(f.type));
    bounds.first(f.y, Checked(f.outer) * f.inner, itemsize(f.type));
}

void topk_bounds(const TopkArgs& f, const Bounds& bounds) {
    need(f.k >= 1 && f.k <= f.axis && f.axis < int64_t{1} << 32, "more than there are");
    const Checked found = Checked(f.outer) * f.k * f.inner;
    bounds.first(f.x, Checked(f.outer) * f.axis * f.inner, itemsize(f.type));
    bounds.first(f.values, found, itemsize(f.type));
    bounds.first(f.indices, found, sizeof(int64_t));
}

void arg_extremum_bounds(const ArgExtremumArgs& f, const Bounds& bounds) {
    need(f.axis >= 1 && f.axis < 1 << 24 && f.inner >= 1, "an axis of too many elements");
    bounds.first(f.x, Checked(f.outer) * f.axis * f.inner, itemsize(f.type));
    bounds.first(f.y, Checked(f.outer) * f.inner, sizeof(int64_t));
}

void cumulative_bounds(const CumulativeArgs& f, const Bounds& bounds) {
    need(f.op == Binary::add || f.op == Binary::mul, "another operation");
    const Checked elements = Checked(f.outer) * f.axis * f.inner;
    need(f.axis >= 1, "an axis of no elements");
    bounds.first(f.x, elements, itemsize(f.type));
    bounds.first(f.y, elements, itemsize(f.type));
}

void grid_sample_bounds(const GridSampleArgs& f, const Bounds& bounds) {
    need(f.rank >= 1 && f.rank <= 3, "other than 1 to 3 axes");
    bounds.pixels(f.x, f.n, f.blocks, f.in_d, f.in_h, f.in_w);
    bounds.first(f.grid, Checked(f.n) * f.out_d * f.out_h * f.out_w * f.rank);
    outputs(f, f.y, bounds);
}

void grid_sample_planar_bounds(const GridSamplePlanarArgs& f, const Bounds& bounds) {
    need(f.rank >= 1 && f.rank <= 3, "other than 1 to 3 axes");
    need(std::min({f.n, f.channels, f.in_d, f.in_h, f.in_w, f.out_d, f.out_h, f.out_w}) >= 1,
         "an axis of no elements");
    const Checked points = Checked(f.out_d) * f.out_h * f.out_w;
    need(f.image >= 0, "images before the first");
    bounds.first(f.x,
                 Checked(f.image) * (f.n - 1) + Checked(f.channels) * f.in_d * f.in_h * f.in_w);
    bounds.first(f.grid, points * f.n * f.rank);
    bounds.first(f.y, points * f.n * f.channels);
}

void roi_align_bounds(const RoiAlignArgs& f, const Bounds& bounds) {
    need(f.ratio >= 0, "fewer than no points along a side");
    bounds.pixels(f.x, f.n, f.blocks, 1, f.in_h, f.in_w);
    bounds.pixels(f.y, f.count, f.blocks, 1, f.out_h, f.out_w);
    bounds.first(f.regions, Checked(f.count) * 4);
    bounds.first(f.images, f.count, sizeof(int64_t));
}

void peak_bounds(const PeakArgs& f, const Bounds& bounds) { peak_like(f, bounds); }
void peak_u8_bounds(const PeakArgs& f, const Bounds& bounds) { peak_like(f, bounds); }

}  // namespace cnnrt
