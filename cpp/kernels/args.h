// The contract between the planner and the kernels: plain structs, filled by name from Python (the
// fields of each are listed at the end for that), owned by a Plan, never changed afterwards.
//
// Layouts. `plain` is the user's row-major array. `blocked` is [N][C/16][D][H][W][16]: channels in
// blocks of 16, the pixel stride always 16 floats; a View may carry a border around D, H and W and
// may be a slice of the blocks of a larger tensor. Lanes past the last channel are unspecified, and
// no kernel lets them reach a real channel.
//
// Letters: n image, c channel, o output block, d/h/w output position, k tap, t Winograd tile.
// Strides and offsets count floats; a Ref's offset counts bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cnnrt {

constexpr int kBlock = 16;   // channels in a block, on every instruction set
constexpr int kMaxDims = 8;  // of the strided kernels

// A place in one of the run's memory spaces: constants (absolute addresses), the arena, and from
// kExternal on the caller's inputs and outputs.
enum Space : int32_t { kConstant = 0, kArena = 1, kExternal = 2 };
struct Ref {
    int32_t space = -1;  // -1: absent
    int64_t offset = 0;
    explicit operator bool() const { return space >= 0; }
};

// A blocked tensor: the first pixel of its interior, and the strides.
struct View {
    Ref at;
    int64_t image = 0, block = 0, plane = 0, row = 0;
    explicit operator bool() const { return static_cast<bool>(at); }
};

// An index among the run's data that is beyond its axis; size < 0: there was none.
struct Fault {
    int64_t index = 0, size = -1;
};

// What a kernel sees of a run: where the spaces begin, scratch memory of its own thread, where it
// notes an index that is beyond its axis, and whether other threads have parts of the same step.
struct Context {
    const uintptr_t* spaces;
    char* scratch;
    Fault* fault;
    bool shared;
    template <class T = float>
    T* at(Ref r) const {
        return r ? reinterpret_cast<T*>(spaces[r.space] + static_cast<uintptr_t>(r.offset))
                 : nullptr;
    }
};

enum class Activation : int32_t {
#define ACTIVATION(name, value) name,
#include "activations.def"
#undef ACTIVATION
};

struct Epilogue {
    Activation activation = Activation::none;
    float alpha = 0, beta = 0;
};

// Which of the two axes of a kernel's task grid is cut first between the threads: rows keep the
// same pixels on the same core from step to step; channels let each core read only its own weights.
enum Order : int32_t { kRowsFirst = 0, kChannelsFirst = 1 };

// Dense and grouped convolution, 1 to 3 dimensions, by implicit im2col: the taps are a table of
// offsets from the pixel of tap 0, weights are panels [block][taps in table order][16].
struct ConvArgs {
    View x;  // at tap 0 of output pixel 0: inside the border, or planar for `planar`
    View y, residual;
    Ref weight, bias;   // bias: blocks * 16 floats
    Ref offsets;        // int32 per tap
    Ref windows;        // grouped only: per block, int32 pairs (offset into x, depth of last taps)
    int32_t group = 0;  // 2, 4, 8: groups of so many channels and outputs, all taps are last_taps
    // Grouped otherwise: channels and outputs of a group where a block's outputs are of several
    // groups, so that its panels hold zeros for the channels of the others.
    int32_t group_c = 0, group_m = 0;
    int64_t panel = 0;      // floats from one block's weights to the next
    int32_t taps = 0;       // taps that read 16 channels
    int32_t last_taps = 0;  // then taps that read only last_depth channels
    int32_t last_depth = 0;
    int32_t n = 0, out_d = 0, out_h = 0, out_w = 0, blocks = 0;
    int64_t step_d = 0, step_h = 0;  // floats of x per output plane and row
    int32_t step_w = 0;              // and per output pixel
    int32_t flat = 0;                // rows are contiguous in x, y and residual: treated as one row
    Ref scale;  // 1x1 in one group only: a factor of each channel of x, by image; or absent
    int64_t scale_image = 0;
    Order order = kRowsFirst;
    Epilogue epilogue;
};

// The first layer: convolution that reads a plain NC(D)HW array of few channels and pads by itself.
struct ConvPlanarArgs {
    Ref x, weight, bias;
    View y, residual;
    int64_t panel = 0;
    int32_t n = 0, c = 0, in_d = 0, in_h = 0, in_w = 0;
    int32_t out_d = 0, out_h = 0, out_w = 0, blocks = 0;
    int32_t kernel_d = 0, kernel_h = 0, kernel_w = 0;
    int32_t stride_d = 0, stride_h = 0, stride_w = 0;
    int32_t pad_d = 0, pad_h = 0, pad_w = 0;
    int32_t dilation_d = 0, dilation_h = 0, dilation_w = 0;
    Epilogue epilogue;
};

// 3x3 or k x 3x3, stride 1: Winograd F(tile_h x tile_w, 3 x 3) on the last two axes, both 2 or 4; a
// third axis goes as it is. One of the two is 1 where the kernel has one tap on its axis. The same
// for 5x5, both of them 2. Reads no border: pads by itself. Where kernel_d > 1, c is a multiple of
// 16. `winograd` does it all per batch of tiles; `winograd_input` and `winograd_output` are its
// halves with the transformed input in the arena, so that the threads can share it and split the
// weights. With `pooled`, y has the maxima of whole windows of 2 x 2 outputs: a tile holds them.
struct WinogradArgs {
    View x, y, residual;
    Ref weight, bias;  // weight: [tile position][block][kernel_d][c][16]
    Ref transformed;   // the halves only: [batch][position][c block][in_d][tile][16]
    int32_t taps = 0;  // of the kernel, on an axis of which tiles have several outputs: 3 or 5
    int32_t tile_h = 0, tile_w = 0;
    int32_t batch = 0;  // tiles that are transformed and multiplied together
    int32_t n = 0, c = 0, in_d = 0, in_h = 0, in_w = 0;
    int32_t out_d = 0, out_h = 0, out_w = 0, blocks = 0;
    int32_t kernel_d = 0, pad_d = 0, pad_h = 0, pad_w = 0;
    int32_t pooled = 0;
    Epilogue epilogue;
};

// One filter per channel. x is at tap 0 of output pixel 0, inside a border.
struct DepthwiseArgs {
    View x, y;
    Ref weight, bias;  // weight: [block][taps][16]
    int32_t n = 0, blocks = 0, in_d = 0, in_h = 0, in_w = 0, out_d = 0, out_h = 0, out_w = 0;
    int32_t kernel_d = 0, kernel_h = 0, kernel_w = 0;
    int32_t stride_d = 0, stride_h = 0, stride_w = 0;
    int32_t pad_d = 0, pad_h = 0, pad_w = 0;
    int32_t dilation_d = 0, dilation_h = 0, dilation_w = 0;
    Epilogue epilogue;
};

// y[rows, columns] = x[rows, depth] w + bias, plain row-major; weight in panels [block][depth][16].
struct LinearArgs {
    Ref x, y, residual, weight, bias;
    int64_t rows = 0, depth = 0, columns = 0;
    int64_t x_row = 0, y_row = 0, residual_row = 0;
    Order order = kRowsFirst;
    Epilogue epilogue;
};

enum class Pool : int32_t { max, average };

// Pooling over windows given per axis as int32 triples (begin, end, count) for every output
// position: begin and end clipped to the image, count what an average divides by.
struct PoolArgs {
    View x, y;
    Ref windows_d, windows_h, windows_w;
    int32_t dilation_d = 1, dilation_h = 1, dilation_w = 1;
    int32_t n = 0, blocks = 0, out_d = 0, out_h = 0, out_w = 0;
    Pool mode = Pool::max;
    Epilogue epilogue;
};

// The same of plain [planes, d, h, w], where the channels are too few to block.
struct PoolPlanarArgs {
    Ref x, y;
    Ref windows_d, windows_h, windows_w;
    int32_t dilation_d = 1, dilation_h = 1, dilation_w = 1;
    int32_t planes = 0, in_d = 0, in_h = 0, in_w = 0, out_d = 0, out_h = 0, out_w = 0;
    Pool mode = Pool::max;
};

enum class Binary : int32_t { first, add, sub, mul, div, min, max, pow, prelu };

// y = activation(a op b) over up to kMaxDims axes, innermost last, with broadcasting as stride 0.
// The innermost axis of y is contiguous; that of a and b contiguous (1) or broadcast (0).
struct ElementwiseArgs {
    Ref a, b, y;
    Binary op = Binary::first;
    int32_t dims = 0;
    int64_t shape[kMaxDims] = {}, a_stride[kMaxDims] = {}, b_stride[kMaxDims] = {},
            y_stride[kMaxDims] = {};
    Epilogue epilogue;
};

// y[i] = x[i] for any strides, elements of 1, 2, 4 or 8 bytes; strides count elements. Transpose,
// slice, concatenation, padding and expansion of plain tensors.
struct CopyArgs {
    Ref x, y;
    int32_t dims = 0, element = 4;
    int64_t shape[kMaxDims] = {}, x_stride[kMaxDims] = {}, y_stride[kMaxDims] = {};
};

// gather: y[o, j, i] = x[o, index[o, j, i], i], x[outer, axis, inner] and y[outer, count, inner].
// scatter: y[o, index[o, j, i], i] op= x[o, j, i], x and y the other way round.
// Plain tensors; indices of 4 or 8 bytes, their strides in elements (inner 0: whole rows), an index
// below zero counts from the end. gather: elements of 1, 2, 4 or 8 bytes. scatter: floats, in the
// order of j; op is first (replaces), add, mul, min or max.
struct IndexedArgs {
    Ref x, indices, y;
    int64_t outer = 0, count = 0, inner = 0, axis = 0;
    int64_t index_outer = 0, index_row = 0, index_inner = 0;
    int32_t index_bytes = 8, element = 4;
    Binary op = Binary::first;
};

// y = condition ? a : b over up to kMaxDims axes, y contiguous; conditions of one byte, elements of
// 1, 2, 4 or 8; strides count elements, 0: broadcast.
struct WhereArgs {
    Ref condition, a, b, y;
    int32_t dims = 0, element = 4;
    int64_t shape[kMaxDims] = {}, condition_stride[kMaxDims] = {}, a_stride[kMaxDims] = {},
            b_stride[kMaxDims] = {};
};

enum class Dtype : int32_t {
    boolean,
    uint8,
    int8,
    uint16,
    int16,
    int32,
    int64,
    float16,
    float32,
    float64
};

// From float32, or to it. With `scale` and `zero` (both or neither; float): quantises, or
// dequantises. There are `scales` of them, for the rows in turn or, by_column, for the columns.
struct ConvertArgs {
    Ref x, y, scale, zero;
    Dtype from = Dtype::float32, to = Dtype::float32;
    int64_t rows = 0, columns = 0, scales = 1;
    int32_t by_column = 0;
};

// plain[n, c, d, h, w] <-> blocked.
struct ReorderArgs {
    Ref plain;
    View blocked;
    int64_t image = 0, channel = 0;  // strides of plain; pixels are contiguous
    int32_t n = 0, c = 0, d = 0, h = 0, w = 0;
    int32_t to_blocked = 0;
};

// Zeroes the border of a blocked tensor; y is the interior. Widths per axis: the zeros after a row
// (plane, block) are also those before the next.
struct BorderArgs {
    View y;
    int32_t n = 0, blocks = 0, d = 0, h = 0, w = 0;
    int32_t border_d = 0, border_h = 0, border_w = 0;
};

// Softmax over the middle axis of plain [outer, axis, inner].
struct SoftmaxArgs {
    Ref x, y;
    int64_t outer = 0, axis = 0, inner = 0;
    int32_t log = 0;
};

// Rows of `axis` floats standardised, then scaled and shifted elementwise; not centred: divided by
// their root mean square. A row is read and written in sixteens `block` floats apart: 16 of a plain
// row, the stride of a block of a blocked pixel. Rows lie along up to kMaxDims strided axes.
struct LayerNormArgs {
    Ref x, y, scale, bias;  // scale, bias: `axis` floats, or absent
    int64_t axis = 0, x_block = 16, y_block = 16;
    int64_t span = 0, groups = 1;  // span: elements of a plain row that share a scale and a bias,
                                   // which then are those of `groups` rows
    int32_t dims = 0, centred = 1;
    int64_t shape[kMaxDims] = {}, x_stride[kMaxDims] = {}, y_stride[kMaxDims] = {};
    float epsilon = 0;
};

enum class Reduction : int32_t { sum, mean, max, min, l1, l2, sum_square };

// Over the middle axis of plain [outer, axis, inner].
struct ReduceArgs {
    Ref x, y;
    Reduction op = Reduction::sum;
    int64_t outer = 0, axis = 0, inner = 0;
};

// The k largest or smallest along the middle axis of plain [outer, axis, inner], and where they are
// (int64). Either result may be absent; axis is below 2^32.
struct TopkArgs {
    Ref x, values, indices;
    int64_t outer = 0, axis = 0, inner = 0, k = 0;
    int32_t largest = 1;
};

// The place (int64) of the largest or smallest along the middle axis of plain [outer, axis, inner],
// the first of equals or the last; axis is below 2^24.
struct ArgExtremumArgs {
    Ref x, y;
    int64_t outer = 0, axis = 0, inner = 0;
    int32_t largest = 1, last = 0;
};

// y = a b for plain y[batch, rows, columns], the batch being up to kMaxDims axes of given shape.
// The rows of a[rows, depth] are contiguous; b[depth, columns] is so along one of its axes.
struct MatmulArgs {
    Ref a, b, y;
    int64_t rows = 0, depth = 0, columns = 0;
    int64_t a_row = 0, b_row = 0, b_column = 1;
    int32_t dims = 0;
    int64_t shape[kMaxDims] = {}, a_stride[kMaxDims] = {}, b_stride[kMaxDims] = {};
};

// y = softmax(scale q k^T + mask) v for q[n, heads, rows, depth], k[n, heads / group, tokens,
// depth], v[n, heads / group, tokens, columns]. The four strides of each are free, but the last of
// q and y is 1, and so is one of the last two of k and v; the last of mask is 1 or 0.
struct AttentionArgs {
    Ref q, k, v, mask, y;
    int32_t n = 0, heads = 0, group = 1;
    int64_t rows = 0, tokens = 0, depth = 0, columns = 0;
    int64_t q_stride[kMaxDims] = {}, k_stride[kMaxDims] = {}, v_stride[kMaxDims] = {},
            mask_stride[kMaxDims] = {}, y_stride[kMaxDims] = {};
    float scale = 1;
};

enum class Cell : int32_t { rnn, gru, lstm };

// The steps of a recurrent layer (ONNX's RNN, GRU, LSTM). The columns of a gate are padded to whole
// blocks. x: what the inputs and biases have in the gates, [direction][gate][columns] by time and
// row of the batch; weight: panels [direction][gate][column block][hidden][16]; bias: of the last
// gate of gru, [direction][columns], with reset_after; peephole: [direction][3][columns].
// lengths: int32 per row of the batch. States lie by direction and row, y by time also.
struct RecurrentArgs {
    Ref x, weight, bias, peephole, lengths, h0, c0, y, h_last, c_last;
    Cell cell = Cell::rnn;
    int32_t reverse = 0;  // the first direction runs backward
    int32_t reset_after = 0, input_forget = 0;
    int64_t directions = 1, length = 0, batch = 0, hidden = 0;
    int64_t x_time = 0, x_row = 0, y_time = 0, y_row = 0, y_direction = 0;
    int64_t state_row = 0, state_direction = 0;
    float clip = 0;           // of what the activations are given; 0: none
    Epilogue activations[6];  // per direction: of the gates, the candidate, the lstm's output
};

// y = weighted sums of x along the axes d, h, w: per output position `taps` indices and weights.
struct ResizeArgs {
    View x, y;
    Ref index_d, index_h, index_w;     // int32
    Ref weight_d, weight_h, weight_w;  // float
    int32_t taps_d = 0, taps_h = 0, taps_w = 0;
    int32_t n = 0, blocks = 0, in_w = 0, out_d = 0, out_h = 0, out_w = 0;
};

enum class Sampling : int32_t { nearest, linear, cubic };
enum class Padding : int32_t { zeros, border, reflection };

// y[n, ., point] = x between its pixels at grid[n, point, rank], whose -1 and 1 are the ends of an
// axis; the innermost axis comes first.
struct GridSampleArgs {
    View x, y;
    Ref grid;
    Sampling mode = Sampling::linear;
    Padding padding = Padding::zeros;
    int32_t align_corners = 0, rank = 2, n = 0, blocks = 0;
    int32_t in_d = 0, in_h = 0, in_w = 0, out_d = 0, out_h = 0, out_w = 0;
};

// y[region] = bins of the regions x1, y1, x2, y2 (times scale) of x; `images` (int64) has the image
// of each. ratio: points along a side of a bin; 0: about one per pixel.
struct RoiAlignArgs {
    View x, y;
    Ref regions, images;
    Pool mode = Pool::average;
    int64_t count = 0, n = 0, blocks = 0;
    int32_t in_h = 0, in_w = 0, out_h = 0, out_w = 0;
    int32_t ratio = 0, half_pixel = 1;
    float scale = 1;
};

// `steps` multiply-adds of each register of a tile, by each task; y holds 16 factors, and after
// them the 16 sums of each task.
struct PeakArgs {
    Ref y;
    int64_t steps = 0, tasks = 0;
};

// The fields by name, for the binding.
#define CNNRT_ALL_ARGS(X)                                                                         \
    X(ConvArgs, x, y, residual, weight, bias, offsets, windows, group, group_c, group_m, panel,   \
      taps, last_taps, last_depth, n, out_d, out_h, out_w, blocks, step_d, step_h, step_w, flat,  \
      scale, scale_image, order, epilogue)                                                        \
    X(ConvPlanarArgs, x, weight, bias, y, residual, panel, n, c, in_d, in_h, in_w, out_d, out_h,  \
      out_w, blocks, kernel_d, kernel_h, kernel_w, stride_d, stride_h, stride_w, pad_d, pad_h,    \
      pad_w, dilation_d, dilation_h, dilation_w, epilogue)                                        \
    X(WinogradArgs, x, y, residual, weight, bias, transformed, taps, tile_h, tile_w, batch, n, c, \
      in_d, in_h, in_w, out_d, out_h, out_w, blocks, kernel_d, pad_d, pad_h, pad_w, pooled,       \
      epilogue)                                                                                   \
    X(DepthwiseArgs, x, y, weight, bias, n, blocks, in_d, in_h, in_w, pad_d, pad_h, pad_w, out_d, \
      out_h, out_w, kernel_d, kernel_h, kernel_w, stride_d, stride_h, stride_w, dilation_d,       \
      dilation_h, dilation_w, epilogue)                                                           \
    X(LinearArgs, x, y, residual, weight, bias, rows, depth, columns, x_row, y_row, residual_row, \
      order, epilogue)                                                                            \
    X(PoolArgs, x, y, windows_d, windows_h, windows_w, dilation_d, dilation_h, dilation_w, n,     \
      blocks, out_d, out_h, out_w, mode, epilogue)                                                \
    X(PoolPlanarArgs, x, y, windows_d, windows_h, windows_w, dilation_d, dilation_h, dilation_w,  \
      planes, in_d, in_h, in_w, out_d, out_h, out_w, mode)                                        \
    X(ElementwiseArgs, a, b, y, op, dims, shape, a_stride, b_stride, y_stride, epilogue)          \
    X(CopyArgs, x, y, dims, element, shape, x_stride, y_stride)                                   \
    X(IndexedArgs, x, indices, y, outer, count, inner, axis, index_outer, index_row, index_inner, \
      index_bytes, element, op)                                                                   \
    X(WhereArgs, condition, a, b, y, dims, element, shape, condition_stride, a_stride, b_stride)  \
    X(ConvertArgs, x, y, scale, zero, from, to, rows, columns, scales, by_column)                 \
    X(ReorderArgs, plain, blocked, image, channel, n, c, d, h, w, to_blocked)                     \
    X(BorderArgs, y, n, blocks, d, h, w, border_d, border_h, border_w)                            \
    X(ResizeArgs, x, y, index_d, index_h, index_w, weight_d, weight_h, weight_w, taps_d, taps_h,  \
      taps_w, n, blocks, in_w, out_d, out_h, out_w)                                               \
    X(SoftmaxArgs, x, y, outer, axis, inner, log)                                                 \
    X(LayerNormArgs, x, y, scale, bias, axis, x_block, y_block, span, groups, dims, centred,      \
      shape, x_stride, y_stride, epsilon)                                                         \
    X(ReduceArgs, x, y, op, outer, axis, inner)                                                   \
    X(TopkArgs, x, values, indices, outer, axis, inner, k, largest)                               \
    X(ArgExtremumArgs, x, y, outer, axis, inner, largest, last)                                   \
    X(MatmulArgs, a, b, y, rows, depth, columns, a_row, b_row, b_column, dims, shape, a_stride,   \
      b_stride)                                                                                   \
    X(RecurrentArgs, x, weight, bias, peephole, lengths, h0, c0, y, h_last, c_last, directions,   \
      cell, reverse, reset_after, input_forget, length, batch, hidden, x_time, x_row, y_time,     \
      y_row, y_direction, state_row, state_direction, clip, activations)                          \
    X(AttentionArgs, q, k, v, mask, y, n, heads, group, rows, tokens, depth, columns, q_stride,   \
      k_stride, v_stride, mask_stride, y_stride, scale)                                           \
    X(GridSampleArgs, x, y, grid, mode, padding, rank, n, blocks, in_d, in_h, in_w, out_d, out_h, \
      out_w, align_corners)                                                                       \
    X(RoiAlignArgs, x, y, regions, images, mode, count, n, blocks, in_h, in_w, out_h, out_w,      \
      ratio, half_pixel, scale)                                                                   \
    X(PeakArgs, y, steps, tasks)

}  // namespace cnnrt
