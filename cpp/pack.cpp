#include "pack.h"

#include <algorithm>
#include <cstring>

#include "thread_pool.h"

namespace cnnrt {
namespace {

// f(i) for i in [0, n), on the thread pool.
template <class F>
void for_all(int64_t n, int threads, F f) {
    struct Body final : Region {
        int64_t n;
        F* f;
        void run(int thread, int size, Barrier&) override {
            for (int64_t i = n * thread / size; i < n * (thread + 1) / size; ++i) (*f)(i);
        }
    } body;
    body.n = n;
    body.f = &f;
    run_region(body, static_cast<int>(std::min<int64_t>(threads, n)));
}

}  // namespace

void pack_conv(const Unaligned* weight, int64_t m, int64_t c, int64_t taps, float* to,
               int threads) {
    for_all((m + 15) / 16, threads, [=](int64_t block) {
        float* p = to + block * c * taps * 16;
        const int64_t outputs = std::min<int64_t>(16, m - block * 16);
        for (int64_t c0 = 0; c0 < c; c0 += 16)
            for (int64_t t = 0; t < taps; ++t)
                for (int64_t k = c0; k < std::min(c, c0 + 16); ++k, p += 16) {
                    const Unaligned* w = weight + (block * 16 * c + k) * taps + t;
                    for (int64_t o = 0; o < 16; ++o) p[o] = o < outputs ? w[o * c * taps] : 0.0f;
                }
    });
}

void pack_conv_grouped(const Unaligned* weight, int64_t m, int64_t c, int64_t group, int64_t taps,
                       const int32_t* window, int64_t span, int64_t panel, float* to, int threads) {
    const int64_t group_c = c / group, group_m = m / group;
    for_all((m + 15) / 16, threads, [=](int64_t block) {
        float* p = to + block * panel;
        float* const stop = p + panel;
        for (int64_t b = window[block]; b < window[block] + span; ++b)
            for (int64_t t = 0; t < taps; ++t)
                for (int64_t k = b * 16; k < std::min(c, b * 16 + 16); ++k, p += 16)
                    for (int64_t o = 0; o < 16; ++o) {
                        const int64_t out = block * 16 + o;
                        const bool seen = out < m && k / group_c == out / group_m;
                        p[o] = seen ? weight[(out * group_c + k % group_c) * taps + t] : 0.0f;
                    }
        std::fill(p, stop, 0.0f);
    });
}

void pack_planar(const Unaligned* weight, int64_t m, int64_t k, int64_t m_stride, int64_t k_stride,
                 float* to, int64_t depth, int64_t first, int threads) {
    if (m_stride == 1) {
        // Transposed: by 32 rows, whose pages are few enough to be found at once.
        for_all((k + 31) / 32, threads, [=](int64_t part) {
            for (int64_t block = 0; block < (m + 15) / 16; ++block) {
                const int64_t outputs = std::min<int64_t>(16, m - block * 16);
                for (int64_t i = part * 32; i < std::min(k, part * 32 + 32); ++i) {
                    float* p = to + (block * depth + first + i) * 16;
                    std::memcpy(p, weight + i * k_stride + block * 16, outputs * 4);
                    std::fill(p + outputs, p + 16, 0.0f);
                }
            }
        });
        return;
    }
    for_all((m + 15) / 16, threads, [=](int64_t block) {
        const Unaligned* w = weight + block * 16 * m_stride;
        float* p = to + (block * depth + first) * 16;
        const int64_t outputs = std::min<int64_t>(16, m - block * 16);
        for (int64_t i = 0; i < k; ++i, p += 16, w += k_stride)
            for (int64_t o = 0; o < 16; ++o) p[o] = o < outputs ? w[o * m_stride] : 0.0f;
    });
}

void pack_depthwise(const Unaligned* weight, int64_t c, int64_t taps, float* to) {
    for (int64_t block = 0; block < (c + 15) / 16; ++block)
        for (int64_t t = 0; t < taps; ++t, to += 16)
            for (int64_t o = 0; o < 16; ++o)
                to[o] = block * 16 + o < c ? weight[(block * 16 + o) * taps + t] : 0.0f;
}

namespace {

// The blocks of 16 outputs of pack_winograd, kernels of KH x KW.
template <int KH, int KW>
void pack_winograd_taps(const Unaligned* weight, int64_t m, int64_t c, int64_t d, FilterTransform h,
                        FilterTransform w, float* to, int threads) {
    constexpr int kTaps = KH * KW;
    const int64_t blocks = (m + 15) / 16;
    for_all(blocks, threads, [=](int64_t block) {
        const int64_t outputs = std::min<int64_t>(16, m - block * 16);
        // Sixteen outputs at a time, innermost, so that the compiler makes vectors of them.
        float taps[kTaps][16] = {};
        double half[8][KW][16];
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
                   const FilterTransform& h, const FilterTransform& w, float* to, int threads) {
    // Variants with the same kernel share a function: the first that fits is taken.
#define WINOGRAD(tile_h, tile_w, taps_)                                           \
    if (constexpr int kH = tile_h == 1 ? 1 : taps_, kW = tile_w == 1 ? 1 : taps_; \
        h.taps == kH && w.taps == kW)                                             \
        return pack_winograd_taps<kH, kW>(weight, m, c, d, h, w, to, threads);
#include "kernels/winograd.def"
#undef WINOGRAD
}

}  // namespace cnnrt
