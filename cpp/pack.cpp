#include "pack.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace cnnrt {
namespace {

// Calls f(i) for i in [0, n), on several threads.
template <class F>
void for_all(int64_t n, Threads threads, F f) {
    struct Body final : Region {
        int64_t n;
        F* f;
        void run(int thread, int size, Barrier&) override {
            for (int64_t i = n * thread / size; i < n * (thread + 1) / size; ++i) (*f)(i);
        }
    } body;
    body.n = n;
    body.f = &f;
    threads.count = static_cast<int>(std::min<int64_t>(threads.count, n));
    run_region(body, threads);
}

}  // namespace

namespace {

// An element of BYTES bytes, of any type and at any address. Packing moves elements and never reads
// their values.
template <int BYTES>
struct Element {
    char bytes[BYTES];
};

// The panel of one block of up to 16 outputs, written step by step: [steps][16][DEPTH].
template <int BYTES, int DEPTH>
class Panel {
public:
    using E = Element<BYTES>;

    explicit Panel(void* to) : to_(static_cast<E*>(to)) {}

    // Appends `count` elements of depth: value(o, i) points at element i of output o, or is null
    // for zero. The next call begins a new step; the rest of the last step is zero.
    template <class F>
    void add(int64_t count, F value) {
        for (int64_t i = 0; i < count; i += DEPTH)
            for (int64_t o = 0; o < 16; ++o)
                for (int64_t k = 0; k < DEPTH; ++k) {
                    const E* from = i + k < count ? value(o, i + k) : nullptr;
                    *to_++ = from ? *from : E{};
                }
    }
    void fill(const void* stop) {
        std::memset(
            to_, 0,
            static_cast<size_t>(static_cast<const char*>(stop) - reinterpret_cast<char*>(to_)));
    }

private:
    E* to_;
};

// Calls f<BYTES, DEPTH>() for the format.
template <class F>
void with_format(PackedFormat format, F f) {
    if (format == kFloat32Panels) return f.template operator()<4, 1>();
    if (format == kHalfPanels) return f.template operator()<2, 1>();
    if (format == kBytePanels) return f.template operator()<1, 1>();
    if (format == kInt8Panels) return f.template operator()<1, 4>();
    throw std::invalid_argument("no kernel reads panels of this format");
}

}  // namespace

void pack_conv(PackedFormat format, const void* weight, int64_t m, int64_t c, int64_t taps,
               void* to, Threads threads) {
    with_format(format, [=]<int BYTES, int DEPTH>() {
        using E = Element<BYTES>;
        const int64_t panel = format.conv_panel(c, taps) * BYTES;
        for_all((m + 15) / 16, threads, [=](int64_t block) {
            Panel<BYTES, DEPTH> p(static_cast<char*>(to) + block * panel);
            const E* w = static_cast<const E*>(weight) + block * 16 * c * taps;
            const int64_t outputs = std::min<int64_t>(16, m - block * 16);
            for (int64_t c0 = 0; c0 < c; c0 += 16)
                for (int64_t t = 0; t < taps; ++t)
                    p.add(std::min<int64_t>(16, c - c0), [=](int64_t o, int64_t k) {
                        return o < outputs ? w + (o * c + c0 + k) * taps + t : nullptr;
                    });
        });
    });
}

void pack_conv_grouped(PackedFormat format, const void* weight, int64_t m, int64_t c, int64_t group,
                       int64_t taps, const int32_t* window, int64_t span, int64_t panel, void* to,
                       Threads threads) {
    const int64_t group_c = c / group, group_m = m / group;
    with_format(format, [=]<int BYTES, int DEPTH>() {
        using E = Element<BYTES>;
        for_all((m + 15) / 16, threads, [=](int64_t block) {
            char* const start = static_cast<char*>(to) + block * panel * BYTES;
            Panel<BYTES, DEPTH> p(start);
            for (int64_t b = window[block]; b < window[block] + span; ++b)
                for (int64_t t = 0; t < taps; ++t)
                    p.add(std::clamp<int64_t>(c - b * 16, 0, 16), [=](int64_t o, int64_t k) {
                        const int64_t out = block * 16 + o, channel = b * 16 + k;
                        const bool seen = out < m && channel / group_c == out / group_m;
                        const int64_t at = (out * group_c + channel % group_c) * taps + t;
                        return seen ? static_cast<const E*>(weight) + at : nullptr;
                    });
            p.fill(start + panel * BYTES);
        });
    });
}

void pack_linear(PackedFormat format, const void* weight, int64_t m, int64_t k, int64_t m_stride,
                 int64_t k_stride, void* to, int64_t depth, int64_t first, Threads threads) {
    with_format(format, [=]<int BYTES, int DEPTH>() {
        using E = Element<BYTES>;
        const E* const from = static_cast<const E*>(weight);
        E* const panels = static_cast<E*>(to);
        const int64_t panel = format.steps(depth) * DEPTH * 16;
        if (m_stride == 1 && DEPTH == 1) {
            // Transposed weights, by 32 rows: the TLB holds so few pages.
            for_all((k + 31) / 32, threads, [=](int64_t part) {
                for (int64_t block = 0; block < (m + 15) / 16; ++block) {
                    const int64_t outputs = std::min<int64_t>(16, m - block * 16);
                    for (int64_t i = part * 32; i < std::min(k, part * 32 + 32); ++i) {
                        E* p = panels + block * panel + (first + i) * 16;
                        std::memcpy(p, from + i * k_stride + block * 16,
                                    static_cast<size_t>(outputs) * BYTES);
                        std::fill(p + outputs, p + 16, E{});
                    }
                }
            });
            return;
        }
        for_all((m + 15) / 16, threads, [=](int64_t block) {
            Panel<BYTES, DEPTH> p(panels + block * panel + first * 16);
            const E* w = from + block * 16 * m_stride;
            const int64_t outputs = std::min<int64_t>(16, m - block * 16);
            p.add(k, [=](int64_t o, int64_t i) {
                return o < outputs ? w + o * m_stride + i * k_stride : nullptr;
            });
        });
    });
}

namespace {

// The blocks of 16 outputs of pack_winograd, kernels of KH x KW.
template <int KH, int KW>
void pack_winograd_taps(const Unaligned* weight, int64_t m, int64_t c, int64_t d, FilterTransform h,
                        FilterTransform w, float* to, Threads threads) {
    constexpr int kTaps = KH * KW;
    const int64_t blocks = (m + 15) / 16;
    for_all(blocks, threads, [=](int64_t block) {
        const int64_t outputs = std::min<int64_t>(16, m - block * 16);
        // Sixteen outputs at a time, innermost, so that the compiler makes vectors of them.
        float taps[kTaps][16] = {};
        double half[kMaxPositions][KW][16];
        for (int64_t depth = 0; depth < d; ++depth)
            for (int64_t k = 0; k < c; ++k) {
                for (int64_t o = 0; o < outputs; ++o) {
                    const Unaligned* from =
                        weight + (((block * 16 + o) * c + k) * d + depth) * kTaps;
                    for (int64_t t = 0; t < kTaps; ++t) taps[t][o] = from[t];
                }
                for (int64_t i = 0; i < h.size; ++i)
                    for (int64_t j = 0; j < KW; ++j)
                        for (int64_t o = 0; o < 16; ++o) {
                            double sum = h.g[i * KH] * taps[j][o];
                            for (int64_t a = 1; a < KH; ++a)
                                sum += h.g[i * KH + a] * taps[a * KW + j][o];
                            half[i][j][o] = sum;
                        }
                for (int64_t i = 0; i < h.size; ++i)
                    for (int64_t j = 0; j < w.size; ++j) {
                        const int64_t plane = (i * w.size + j) * blocks + block;
                        float* p = to + ((plane * d + depth) * c + k) * 16;
                        for (int64_t o = 0; o < 16; ++o) {
                            double sum = half[i][0][o] * w.g[j * KW];
                            for (int64_t b = 1; b < KW; ++b) sum += half[i][b][o] * w.g[j * KW + b];
                            p[o] = static_cast<float>(sum);
                        }
                    }
            }
    });
}

}  // namespace

void pack_winograd(const Unaligned* weight, int64_t m, int64_t c, int64_t d,
                   const FilterTransform& h, const FilterTransform& w, float* to, Threads threads) {
    // Variants with the same kernel share a function: the first that fits is taken.
#define WINOGRAD(tile_h, tile_w, taps_, stride)                                   \
    if (constexpr int kH = tile_h == 1 ? 1 : taps_, kW = tile_w == 1 ? 1 : taps_; \
        h.taps == kH && w.taps == kW)                                             \
        return pack_winograd_taps<kH, kW>(weight, m, c, d, h, w, to, threads);
#include "kernels/winograd.def"
#undef WINOGRAD
}

}  // namespace cnnrt
