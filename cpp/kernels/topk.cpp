// The k largest or smallest elements along the middle axis of plain [outer, axis, inner], in order,
// with their indices; the first of equals. NaN counts as larger than everything.
//
// A heap holds the best so far, the worst of them on top. Elements no better than that are skipped
// 64 at a time: for random numbers all but about k ln(axis / k).
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// An element and its index as one integer, greater if the element is better. The upper bits are an
// ordered form of the float, the lower ones the inverted index.
CNNRT_INLINE uint64_t key_of(float x, int64_t i, bool most) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    uint32_t order = bits >> 31 ? ~bits : bits | 0x80000000u;
    if (bits == 0x80000000u) order = bits;  // -0 is 0
    if (x != x) order = ~0u;
    return static_cast<uint64_t>(most ? order : ~order) << 32 |
           (0xffffffffu - static_cast<uint32_t>(i));
}
CNNRT_INLINE int64_t place_of(uint64_t key) { return 0xffffffffu - static_cast<uint32_t>(key); }

// Moves heap[i] down until both of its children are greater.
CNNRT_INLINE void sink(uint64_t* heap, int64_t i, int64_t n) {
    const uint64_t key = heap[i];
    for (int64_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child]) ++child;
        if (key <= heap[child]) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
}

// 1 in the lanes that may be better than the worst element kept, and in those with a NaN.
CNNRT_INLINE f32x16 candidates(f32x16 v, f32x16 worst, bool most) {
    return select(most ? less(v, worst) : less(worst, v), zero(), broadcast(1.0f));
}

void best_of(const float* x, int64_t n, int64_t k, bool most, uint64_t* heap) {
    for (int64_t i = 0; i < k; ++i) heap[i] = key_of(x[i], i, most);
    for (int64_t i = k / 2 - 1; i >= 0; --i) sink(heap, i, k);
    const auto consider = [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
            const uint64_t key = key_of(x[i], i, most);
            if (key <= heap[0]) continue;
            heap[0] = key;
            sink(heap, 0, k);
        }
    };
    int64_t i = k;
    for (; i + 64 <= n; i += 64) {
        const f32x16 worst = broadcast(x[place_of(heap[0])]);
        f32x16 any = zero();
#pragma GCC unroll 4
        for (int j = 0; j < 64; j += 16) any = max(any, candidates(load(x + i + j), worst, most));
        if (largest(any) == 0.0f) continue;
        for (int j = 0; j < 64; j += 16)
            if (largest(candidates(load(x + i + j), worst, most)) != 0.0f)
                consider(i + j, i + j + 16);
    }
    consider(i, n);
    // Moves the worst to the end, one after the other.
    for (int64_t last = k - 1; last > 0; --last) {
        const uint64_t worst = heap[0];
        heap[0] = heap[last];
        heap[last] = worst;
        sink(heap, 0, last);
    }
}

}  // namespace

void topk(const TopkArgs& a, const Context& context, int64_t begin, int64_t end) {
    uint64_t* heap = reinterpret_cast<uint64_t*>(context.scratch);
    float* lane = reinterpret_cast<float*>(heap + a.k);
    float* values = context.at(a.values);
    int64_t* indices = context.at<int64_t>(a.indices);
    for (int64_t task = begin; task < end; ++task) {
        const int64_t outer = task / a.inner, inner = task % a.inner;
        const float* x = context.at<const float>(a.x) + outer * a.axis * a.inner + inner;
        if (a.inner > 1) {
            for (int64_t i = 0; i < a.axis; ++i) lane[i] = x[i * a.inner];
            x = lane;
        }
        best_of(x, a.axis, a.k, a.largest != 0, heap);
        for (int64_t i = 0; i < a.k; ++i) {
            const int64_t place = place_of(heap[i]), at = (outer * a.k + i) * a.inner + inner;
            if (values) values[at] = x[place];
            if (indices) indices[at] = place;
        }
    }
}

int64_t topk_tasks(const TopkArgs& a) { return a.outer * a.inner; }

int64_t topk_scratch(const TopkArgs& a) { return a.k * 8 + (a.inner > 1 ? a.axis * 4 : 0); }

}  // namespace cnnrt::CNNRT_ISA
