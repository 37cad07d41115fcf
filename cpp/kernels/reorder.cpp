// plain[n, c, pixel] <-> blocked[n, c / 16, pixel, 16]: squares of 16 channels x 16 pixels are
// transposed in registers.
//
// Pixels come in runs that are contiguous on both sides: the whole image if the blocked tensor has
// no border, else its planes or rows. To blocked, the lanes past the last channel become zero; to
// plain, only the real channels are written.
#include "../simd/pixel.h"
#include "element.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 512;  // approximate pixels in one task

// How the pixels of one block are cut into tasks. `runs` of `length` pixels are each cut into
// `pieces` of at most `piece`. If they are short, `group` runs are one task.
struct Cut {
    int64_t runs, length, group, pieces, piece, per_block;

    explicit Cut(const ReorderArgs& a) {
        const View& v = a.blocked;
        const int64_t row = a.w * 16, plane = a.h * row;
        runs = 1;
        length = a.w;
        const bool rows_follow = a.h == 1 || v.row == row;
        const bool planes_follow = a.d == 1 || v.plane == plane;
        (rows_follow ? length : runs) *= a.h;
        (rows_follow && planes_follow ? length : runs) *= a.d;
        piece = smaller(larger<int64_t>(length, 1), kChunk);
        pieces = ceil_div(length, piece);
        group = kChunk / piece;
        per_block = pieces > 1 ? runs * pieces : ceil_div(runs, group);
    }
};

CNNRT_INLINE int lanes_of(int64_t n) { return static_cast<int>(smaller<int64_t>(n, 16)); }

// Reorders `channels` channels, `stride` elements apart, of `pixels` neighbouring pixels each.
template <class T>
void to_blocked(const T* plain, int64_t stride, T* blocked, int channels, int64_t pixels) {
    for (int64_t p = 0; p < pixels; ++p)
        for (int c = 0; c < 16; ++c)
            blocked[p * 16 + c] = c < channels ? plain[c * stride + p] : T{0};
}

template <class T>
void to_plain(const T* blocked, T* plain, int64_t stride, int channels, int64_t pixels) {
    for (int c = 0; c < channels; ++c)
        for (int64_t p = 0; p < pixels; ++p) plain[c * stride + p] = blocked[p * 16 + c];
}

// Pixel I of four, [pixel][channel], of up to four channels, with zeros for the channels beyond.
template <int I>
CNNRT_INLINE void store_one_of(u8x16 quads, uint8_t* p) {
    store_pixel(p + I * 16,
                __builtin_shufflevector(quads, u8x16{}, I * 4, I * 4 + 1, I * 4 + 2, I * 4 + 3, 16,
                                        16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16));
}

CNNRT_INLINE void store_quads(u8x16 quads, uint8_t* p) {
    store_one_of<0>(quads, p);
    store_one_of<1>(quads, p);
    store_one_of<2>(quads, p);
    store_one_of<3>(quads, p);
}

// The same for bytes. Pictures have few channels: their pixels are put together in registers.
void to_blocked(const uint8_t* plain, int64_t stride, uint8_t* blocked, int channels,
                int64_t pixels) {
    int64_t p = 0;
    for (; channels <= 4 && p + 16 <= pixels; p += 16) {
        u8x16 c[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
            c[i] = i < channels ? load_pixel(plain + i * stride + p) : u8x16{};
        const auto low = [](u8x16 a, u8x16 b) __attribute__((always_inline)) {
            return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7,
                                           23);
        };
        const auto high = [](u8x16 a, u8x16 b) __attribute__((always_inline)) {
            return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14,
                                           30, 15, 31);
        };
        // Even channels with each other first: then pairs of bytes lie as they do in a pixel.
        const u8x16 even = low(c[0], c[2]), odd = low(c[1], c[3]);
        const u8x16 even_high = high(c[0], c[2]), odd_high = high(c[1], c[3]);
        store_quads(low(even, odd), blocked + p * 16);
        store_quads(high(even, odd), blocked + p * 16 + 64);
        store_quads(low(even_high, odd_high), blocked + p * 16 + 128);
        store_quads(high(even_high, odd_high), blocked + p * 16 + 192);
    }
    to_blocked<uint8_t>(plain + p, stride, blocked + p * 16, channels, pixels - p);
}

// The same for elements of four bytes. Loads, shuffles and stores of floats keep all bits.
void to_blocked(const float* plain, int64_t stride, float* blocked, int channels, int64_t pixels) {
    for (; pixels >= 16; pixels -= 16, plain += 16, blocked += 256) {
        f32x16 r[16];
#pragma GCC unroll 16
        for (int c = 0; c < 16; ++c) r[c] = c < channels ? load(plain + c * stride) : zero();
        transpose(r);
#pragma GCC unroll 16
        for (int p = 0; p < 16; ++p) store(blocked + p * 16, r[p]);
    }
    if (pixels == 0) return;
    if (pixels == 1 && stride == 1) return store(blocked, load_partial(plain, channels));
    const int n = lanes_of(pixels);
    f32x16 r[16];
#pragma GCC unroll 16
    for (int c = 0; c < 16; ++c) r[c] = c < channels ? load_partial(plain + c * stride, n) : zero();
    transpose(r);
#pragma GCC unroll 16
    for (int p = 0; p < 16; ++p)
        if (p < n) store(blocked + p * 16, r[p]);
}

void to_plain(const float* blocked, float* plain, int64_t stride, int channels, int64_t pixels) {
    for (; pixels >= 16; pixels -= 16, plain += 16, blocked += 256) {
        f32x16 r[16];
#pragma GCC unroll 16
        for (int p = 0; p < 16; ++p) r[p] = load(blocked + p * 16);
        transpose(r);
#pragma GCC unroll 16
        for (int c = 0; c < 16; ++c)
            if (c < channels) store(plain + c * stride, r[c]);
    }
    if (pixels == 0) return;
    if (pixels == 1 && stride == 1) return store_partial(plain, channels, load(blocked));
    const int n = lanes_of(pixels);
    f32x16 r[16];
#pragma GCC unroll 16
    for (int p = 0; p < 16; ++p) r[p] = p < n ? load(blocked + p * 16) : zero();
    transpose(r);
#pragma GCC unroll 16
    for (int c = 0; c < 16; ++c)
        if (c < channels) store_partial(plain + c * stride, n, r[c]);
}

template <class T>
void reorder_runs(const ReorderArgs& args, const Context& context, int64_t begin, int64_t end) {
    const Cut cut(args);
    const View& v = args.blocked;
    const int64_t blocks = ceil_div(args.c, 16);
    for (int64_t task = begin; task < end; ++task) {
        const int64_t part = task % cut.per_block, block = task / cut.per_block % blocks;
        const int64_t n = task / cut.per_block / blocks;
        T* plain = context.at<T>(args.plain) + n * args.image + block * 16 * args.channel;
        T* blocked = context.at<T>(v.at) + n * v.image + block * v.block;
        const int channels = lanes_of(args.c - block * 16);
        const int64_t first = cut.pieces > 1 ? part / cut.pieces : part * cut.group;
        const int64_t last = cut.pieces > 1 ? first + 1 : smaller(cut.runs, first + cut.group);
        const int64_t start = cut.pieces > 1 ? part % cut.pieces * cut.piece : 0;
        const int64_t pixels = smaller(cut.piece, cut.length - start);
        for (int64_t run = first; run < last; ++run) {
            const int64_t pixel = run * cut.length + start;
            const int64_t row = pixel / args.w, d = row / args.h;
            T* p = plain + pixel;
            T* b = blocked + d * v.plane + row % args.h * v.row + pixel % args.w * 16;
            if (args.to_blocked)
                to_blocked(p, args.channel, b, channels, pixels);
            else
                to_plain(b, p, args.channel, channels, pixels);
        }
    }
}

}  // namespace

void reorder(const ReorderArgs& args, const Context& context, int64_t begin, int64_t end) {
    if (args.element == 4) return reorder_runs<float>(args, context, begin, end);
    with_element(args.element, [&]<class T>(T) { reorder_runs<T>(args, context, begin, end); });
}

int64_t reorder_tasks(const ReorderArgs& args) {
    return int64_t{args.n} * ceil_div(args.c, 16) * Cut(args).per_block;
}

}  // namespace cnnrt::CNNRT_ISA
