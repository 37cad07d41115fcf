// Winograd's minimal filtering on one axis: the matrices of each F(M, R) as sequences of vector
// operations.
//
// F(4, 3) uses the points 0, +-sqrt(1/2), +-sqrt(2): its error is half that of the usual 0, +-1,
// +-2 (measured in docs/performance.md). F(2, 5) has the same points and so the same B. F(6, 3) has
// 0, +-1, +-2, +-1/2. Of the other points that were tried none is nearer by its root mean square.
//
// At stride 2, outputs are sums of two convolutions at stride 1. Even pixels meet the even taps,
// and odd ones the odd taps. Three taps have F(M, 2) for the former, and for the latter one product
// per output. So M outputs take 2 M + 1 products instead of 3 M. F(4, 2) has the points +-1/2,
// +-3/2; the usual 0, +-1, 2 have 1.6 times their error. Seven taps have F(4, 4) with the points
// +-3/8, +-7/8,
// +-3/2, and F(4, 3).
#pragma once

#include "../simd/math.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr float kRoot2 = 1.41421356237309504880f;

// F(M, R) on one axis: `input` is B^T, `output` is A^T. `filter` is a left inverse of G, the one
// with the fewest terms.
template <int M, int R, int STRIDE = 1>
struct Transform;

template <int R, int STRIDE>
struct Transform<1, R, STRIDE> {
    static CNNRT_INLINE void input(const f32x16* d, f32x16* r) { r[0] = d[0]; }
    static CNNRT_INLINE void output(const f32x16* m, f32x16* y) { y[0] = m[0]; }
    static CNNRT_INLINE void filter(const f32x16* u, f32x16* g) { g[0] = u[0]; }
};

template <>
struct Transform<2, 3> {
    static CNNRT_INLINE void input(const f32x16* d, f32x16* r) {
        r[0] = sub(d[0], d[2]);
        r[1] = add(d[1], d[2]);
        r[2] = sub(d[2], d[1]);
        r[3] = sub(d[1], d[3]);
    }
    static CNNRT_INLINE void output(const f32x16* m, f32x16* y) {
        y[0] = add(add(m[0], m[1]), m[2]);
        y[1] = sub(sub(m[1], m[2]), m[3]);
    }
    static CNNRT_INLINE void filter(const f32x16* u, f32x16* g) {
        g[0] = u[0];
        g[1] = sub(u[1], u[2]);
        g[2] = u[3];
    }
};

template <>
struct Transform<4, 3> {
    static CNNRT_INLINE void input(const f32x16* d, f32x16* r) {
        const f32x16 even = fnma(broadcast(2.0f), d[2], d[4]);
        const f32x16 odd = fnma(broadcast(kRoot2), d[1], mul(broadcast(kRoot2 / 2), d[3]));
        const f32x16 even2 = fnma(broadcast(0.5f), d[2], d[4]);
        const f32x16 odd2 = fnma(broadcast(kRoot2 / 2), d[1], mul(broadcast(kRoot2), d[3]));
        r[0] = add(fnma(broadcast(2.5f), d[2], d[4]), d[0]);
        r[1] = add(even, odd);
        r[2] = sub(even, odd);
        r[3] = add(even2, odd2);
        r[4] = sub(even2, odd2);
        r[5] = add(fnma(broadcast(2.5f), d[3], d[5]), d[1]);
    }
    static CNNRT_INLINE void output(const f32x16* m, f32x16* y) {
        const f32x16 a = add(m[1], m[2]), b = sub(m[1], m[2]);
        const f32x16 c = add(m[3], m[4]), d = sub(m[3], m[4]);
        y[0] = add(add(m[0], a), c);
        y[1] = fma(broadcast(kRoot2 / 2), b, mul(broadcast(kRoot2), d));
        y[2] = fma(broadcast(0.5f), a, add(c, c));
        y[3] = fma(broadcast(kRoot2 / 4), b, fma(broadcast(2 * kRoot2), d, m[5]));
    }
    static CNNRT_INLINE void filter(const f32x16* u, f32x16* g) {
        g[0] = u[0];
        g[1] = mul(broadcast(0.75f * kRoot2), sub(u[2], u[1]));
        g[2] = u[5];
    }
};

template <>
struct Transform<6, 3> {
    static CNNRT_INLINE void input(const f32x16* d, f32x16* r) {
        const f32x16 c = broadcast(5.25f), c1 = broadcast(4.25f), quarter = broadcast(0.25f);
        const f32x16 c2 = broadcast(1.25f), four = broadcast(4.0f), five = broadcast(5.0f);
        const f32x16 two = broadcast(2.0f), half = broadcast(0.5f);
        r[0] = fma(c, sub(d[4], d[2]), sub(d[0], d[6]));
        const f32x16 even1 = fnma(c1, d[4], add(d[2], d[6]));
        const f32x16 odd1 = fnma(c1, d[3], add(d[1], d[5]));
        r[1] = add(even1, odd1);
        r[2] = sub(even1, odd1);
        const f32x16 even2 = fnma(c2, d[4], fma(quarter, d[2], d[6]));
        const f32x16 odd2 = fnma(c2, d[3], fma(quarter, d[1], d[5]));
        r[3] = fma(two, odd2, even2);
        r[4] = fnma(two, odd2, even2);
        const f32x16 even3 = fnma(five, d[4], fma(four, d[2], d[6]));
        const f32x16 odd3 = fnma(five, d[3], fma(four, d[1], d[5]));
        r[5] = fma(half, odd3, even3);
        r[6] = fnma(half, odd3, even3);
        r[7] = fma(c, sub(d[3], d[5]), sub(d[7], d[1]));
    }
    static CNNRT_INLINE void output(const f32x16* m, f32x16* y) {
        const f32x16 s1 = add(m[1], m[2]), d1 = sub(m[1], m[2]);
        const f32x16 s2 = add(m[3], m[4]), d2 = sub(m[3], m[4]);
        const f32x16 s3 = add(m[5], m[6]), d3 = sub(m[5], m[6]);
        y[0] = add(add(m[0], s1), add(s2, s3));
        y[1] = fma(broadcast(2.0f), d2, fma(broadcast(0.5f), d3, d1));
        y[2] = fma(broadcast(4.0f), s2, fma(broadcast(0.25f), s3, s1));
        y[3] = fma(broadcast(8.0f), d2, fma(broadcast(0.125f), d3, d1));
        y[4] = fma(broadcast(16.0f), s2, fma(broadcast(0.0625f), s3, s1));
        y[5] = fma(broadcast(32.0f), d2, fma(broadcast(0.03125f), d3, add(d1, m[7])));
    }
    static CNNRT_INLINE void filter(const f32x16* u, f32x16* g) {
        g[0] = u[0];
        g[1] = mul(broadcast(2.25f), sub(u[2], u[1]));
        g[2] = u[7];
    }
};

template <>
struct Transform<2, 5> {
    static CNNRT_INLINE void input(const f32x16* d, f32x16* r) { Transform<4, 3>::input(d, r); }
    static CNNRT_INLINE void output(const f32x16* m, f32x16* y) {
        y[0] = add(add(add(m[0], m[1]), m[2]), add(m[3], m[4]));
        y[1] = fma(broadcast(kRoot2 / 2), sub(m[1], m[2]),
                   fma(broadcast(kRoot2), sub(m[3], m[4]), m[5]));
    }
    static CNNRT_INLINE void filter(const f32x16* u, f32x16* g) {
        // g[1] + g[3] / 2 and g[1] + 2 g[3].
        const f32x16 near = mul(broadcast(0.75f * kRoot2), sub(u[2], u[1]));
        const f32x16 far = mul(broadcast(1.5f * kRoot2), sub(u[3], u[4]));
        g[0] = u[0];
        g[2] = fnma(broadcast(1.5f), add(u[1], u[2]),
                    fnma(broadcast(0.5f), u[5], mul(broadcast(-2.0f), u[0])));
        g[3] = mul(broadcast(2.0f / 3), sub(far, near));
        g[1] = fnma(broadcast(0.5f), g[3], near);
        g[4] = u[5];
    }
};

template <>
struct Transform<2, 3, 2> {
    static CNNRT_INLINE void input(const f32x16* d, f32x16* r) {
        r[0] = sub(d[0], d[2]);
        r[1] = d[2];
        r[2] = sub(d[4], d[2]);
        r[3] = d[1];
        r[4] = d[3];
    }
    static CNNRT_INLINE void output(const f32x16* m, f32x16* y) {
        y[0] = add(add(m[0], m[1]), m[3]);
        y[1] = add(add(m[1], m[2]), m[4]);
    }
    static CNNRT_INLINE void filter(const f32x16* u, f32x16* g) {
        g[0] = u[0];
        g[1] = u[3];
        g[2] = u[2];
    }
};

template <>
struct Transform<4, 3, 2> {
    static CNNRT_INLINE void input(const f32x16* d, f32x16* r) {
        const f32x16 far = broadcast(2.25f), near = broadcast(0.25f);
        const f32x16 even = fnma(far, d[0], d[4]), odd = fnma(far, d[2], d[6]);
        const f32x16 even2 = fnma(near, d[0], d[4]), odd2 = fnma(near, d[2], d[6]);
        r[0] = fma(broadcast(0.5f), even, odd);
        r[1] = fnma(broadcast(0.5f), even, odd);
        r[2] = fma(broadcast(1.5f), even2, odd2);
        r[3] = fnma(broadcast(1.5f), even2, odd2);
        r[4] = fma(broadcast(0.5625f), d[0], fnma(broadcast(2.5f), d[4], d[8]));
        for (int i = 0; i < 4; ++i) r[5 + i] = d[1 + 2 * i];
    }
    static CNNRT_INLINE void output(const f32x16* m, f32x16* y) {
        const f32x16 a = add(m[0], m[1]), b = sub(m[0], m[1]);
        const f32x16 c = add(m[2], m[3]), d = sub(m[2], m[3]);
        y[0] = add(add(a, c), m[5]);
        y[1] = fma(broadcast(0.5f), b, fma(broadcast(1.5f), d, m[6]));
        y[2] = fma(broadcast(0.25f), a, fma(broadcast(2.25f), c, m[7]));
        y[3] = fma(broadcast(0.125f), b, fma(broadcast(3.375f), d, add(m[4], m[8])));
    }
    static CNNRT_INLINE void filter(const f32x16* u, f32x16* g) {
        g[0] = sub(u[1], u[0]);
        g[1] = u[5];
        g[2] = u[4];
    }
};

template <>
struct Transform<4, 7, 2> {
    static constexpr float kA = 0.375f, kB = 0.875f, kC = 1.5f, kA2 = kA * kA, kB2 = kB * kB,
                           kC2 = kC * kC;

    // (x + p) (x^2 - q) (x^2 - r) and (x - p) (x^2 - q) (x^2 - r), of the even pixels.
    static CNNRT_INLINE void pair(const f32x16* d, float p, float q, float r, f32x16* to) {
        const f32x16 sum = broadcast(q + r), product = broadcast(q * r);
        const f32x16 odd = fnma(sum, d[6], fma(product, d[2], d[10]));
        const f32x16 even = fnma(sum, d[4], fma(product, d[0], d[8]));
        to[0] = fma(broadcast(p), even, odd);
        to[1] = fnma(broadcast(p), even, odd);
    }
    static CNNRT_INLINE void input(const f32x16* d, f32x16* r) {
        pair(d, kA, kB2, kC2, r);
        pair(d, kB, kA2, kC2, r + 2);
        pair(d, kC, kA2, kB2, r + 4);
        const f32x16 last = fnma(broadcast(kA2 + kB2 + kC2), d[8], d[12]);
        const f32x16 first = fnma(broadcast(kA2 * kB2 * kC2), d[0],
                                  mul(broadcast(kA2 * kB2 + kA2 * kC2 + kB2 * kC2), d[4]));
        r[6] = add(first, last);
        const f32x16 odd[6] = {d[1], d[3], d[5], d[7], d[9], d[11]};
        Transform<4, 3>::input(odd, r + 7);
    }
    static CNNRT_INLINE void output(const f32x16* m, f32x16* y) {
        const f32x16 a = add(m[0], m[1]), a1 = sub(m[0], m[1]);
        const f32x16 b = add(m[2], m[3]), b1 = sub(m[2], m[3]);
        const f32x16 c = add(m[4], m[5]), c1 = sub(m[4], m[5]);
        f32x16 odd[4];
        Transform<4, 3>::output(m + 7, odd);
        y[0] = add(add(a, b), add(c, odd[0]));
        y[1] = fma(broadcast(kA), a1, fma(broadcast(kB), b1, fma(broadcast(kC), c1, odd[1])));
        y[2] = fma(broadcast(kA2), a, fma(broadcast(kB2), b, fma(broadcast(kC2), c, odd[2])));
        y[3] = fma(broadcast(kA2 * kA), a1,
                   fma(broadcast(kB2 * kB), b1, fma(broadcast(kC2 * kC), c1, add(m[6], odd[3]))));
    }
};

// Kernel taps, and input pixels of a tile, on an axis with m outputs. There are as many products as
// pixels, also at stride 2: r is odd.
constexpr int taps_of(int m, int r) { return m == 1 ? 1 : r; }
constexpr int reads_of(int m, int r, int stride = 1) { return (m - 1) * stride + taps_of(m, r); }

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
