// The taps of a convolution that read more than the border.
//
// Next to an edge some taps read nothing but padding, and add nothing to the sums. They are left
// out for the outputs of a tile. Those are a third of the products of 3x3x3 over two planes, and
// more if a dilation is as large as the image. Where padding is not zero, the sums start from a
// bias that holds its share.
#pragma once

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

struct TapRange {
    int first, stop;
    bool operator==(const TapRange& r) const { return first == r.first && stop == r.stop; }
};

// The taps along one axis of which some are read inside the image.
struct TapAxis {
    int kernel, stride, pad, dilation, in;

    // Those of outputs [first, last], or more: the ends of windows move with the outputs.
    CNNRT_INLINE TapRange of(int64_t first, int64_t last) const {
        const int64_t begin = first * stride - pad, end = last * stride - pad;
        TapRange r{0, kernel};
        while (r.first < r.stop && end + int64_t{r.first} * dilation < 0) ++r.first;
        while (r.stop > r.first && begin + int64_t{r.stop - 1} * dilation >= in) --r.stop;
        return r;
    }
    TapRange of(int64_t output) const { return of(output, output); }

    // How many outputs before the middle one, and from it on, do not have its taps.
    int64_t before(int64_t outputs) const {
        int64_t n = outputs / 2;
        const TapRange middle = of(n);
        while (n > 0 && of(n - 1) == middle) --n;
        return n;
    }
    int64_t after(int64_t outputs) const {
        int64_t stop = outputs / 2 + 1;
        const TapRange middle = of(outputs / 2);
        while (stop < outputs && of(stop) == middle) ++stop;
        return outputs - stop;
    }
};

// The axes of a convolution. None of its taps is left out if kernel_d is 0.
struct TapAxes {
    TapAxis d, h, w;
    int taps;  // of the kernel

    explicit TapAxes(const ConvArgs& g)
        : d{g.kernel_d, g.stride_d, g.pad_d, g.dilation_d, g.in_d},
          h{g.kernel_h, g.stride_h, g.pad_h, g.dilation_h, g.in_h},
          w{g.kernel_w, g.stride_w, g.pad_w, g.dilation_w, g.in_w},
          taps(g.kernel_d * g.kernel_h * g.kernel_w) {}
};

// Taps as a tile takes them: offsets into x, and their places among the weights.
template <class Bias>
struct Taps {
    const int32_t* offsets;
    const int32_t* places;  // of whole blocks from the first on, then of the last; null: all
    int whole, last;
    const Bias* bias;
};

// Lists of taps, made when first asked for. The few that a convolution has stay in scratch memory.
template <class Products>
struct TapLists {
    using Bias = typename Products::Bias;
    static constexpr int kLists = 12;  // 9 for an edge on each side of two axes

    const ConvArgs& g;
    const TapAxes axes;
    const Taps<Bias> all;
    const Bias* const share;  // of the padding: [tap of the kernel][blocks * 16], or null
    char* const scratch;
    Taps<Bias> lists[kLists];
    TapRange ranges[kLists][3];
    int made = 0, next = 0;

    TapLists(const ConvArgs& args, const Context& context)
        : g(args),
          axes(args),
          all{context.at<const int32_t>(args.offsets), nullptr, args.taps, args.last_taps,
              context.at<const Bias>(args.bias)},
          share(context.at<const Bias>(args.share)),
          scratch(context.scratch) {}

    static int64_t list_bytes(const ConvArgs& g) {
        const int64_t taps = int64_t{g.taps} + g.last_taps;
        return taps * 8 + (g.share ? int64_t{g.blocks} * 64 : 0);
    }
    static int64_t scratch_bytes(const ConvArgs& g) {
        return g.kernel_d ? kLists * list_bytes(g) : 0;
    }

    // The taps for outputs of plane d, rows [h0, h1] and columns [w0, w1].
    CNNRT_INLINE const Taps<Bias>& of(int64_t d, int64_t h0, int64_t h1, int64_t w0, int64_t w1) {
        const TapRange along[] = {axes.d.of(d, d), axes.h.of(h0, h1), axes.w.of(w0, w1)};
        const int taps = (along[0].stop - along[0].first) * (along[1].stop - along[1].first) *
                         (along[2].stop - along[2].first);
        return taps == axes.taps ? all : find(along);
    }

private:
    __attribute__((noinline)) const Taps<Bias>& find(const TapRange (&along)[3]) {
        for (int i = 0; i < made; ++i)
            if (ranges[i][0] == along[0] && ranges[i][1] == along[1] && ranges[i][2] == along[2])
                return lists[i];
        const int i = next;
        next = (i + 1) % kLists;
        made = made < kLists ? made + 1 : made;
        for (int k = 0; k < 3; ++k) ranges[i][k] = along[k];
        return lists[i] = make(along, scratch + i * list_bytes(g));
    }

    Taps<Bias> make(const TapRange (&along)[3], char* memory) const {
        const int count = g.taps + g.last_taps;
        int32_t* const offsets = reinterpret_cast<int32_t*>(memory);
        int32_t* const places = offsets + count;
        int n = 0;
        const auto take = [&](int first, int stop) {
            const int begin = n;
            for (int base = first; base < stop; base += axes.taps)
                for_each(along, [&](int tap) {
                    offsets[n] = all.offsets[base + tap];
                    places[n++] = base - first + tap;
                });
            return n - begin;
        };
        Taps<Bias> taps{offsets, places, take(0, g.taps), 0, all.bias};
        taps.last = take(g.taps, count);
        if constexpr (Products::kExact)
            if (share) taps.bias = with_share(along, places + count);
        return taps;
    }

    // The bias and the share of all taps, less that of the taps in the list. Sums wrap.
    const int32_t* with_share(const TapRange (&along)[3], int32_t* to) const {
        const int64_t channels = int64_t{g.blocks} * 16;
        const auto add = [&](int tap, uint32_t sign) {
            for (int64_t c = 0; c < channels; ++c) {
                const uint32_t more = sign * static_cast<uint32_t>(share[tap * channels + c]);
                to[c] = static_cast<int32_t>(static_cast<uint32_t>(to[c]) + more);
            }
        };
        for (int64_t c = 0; c < channels; ++c) to[c] = all.bias[c];
        for (int tap = 0; tap < axes.taps; ++tap) add(tap, 1);
        for_each(along, [&](int tap) { add(tap, ~0u); });
        return to;
    }

    template <class F>
    CNNRT_INLINE void for_each(const TapRange (&along)[3], F f) const {
        for (int d = along[0].first; d < along[0].stop; ++d)
            for (int h = along[1].first; h < along[1].stop; ++h)
                for (int w = along[2].first; w < along[2].stop; ++w)
                    f((d * axes.h.kernel + h) * axes.w.kernel + w);
    }
};

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
