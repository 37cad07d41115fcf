// The k largest or smallest elements along the middle axis of plain [outer, axis, inner], in order,
// with their indices; the first of equals. NaN counts as larger than everything.
//
// A heap holds the best so far, the worst of them on top. Elements no better than that are skipped
// 64 at a time: for random numbers all but about k ln(axis / k).
#include "element.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// Unsigned integers in the order of the elements. -0 is 0.
template <class T>
CNNRT_INLINE auto ordered(T x) {
    if constexpr (T(1) / T(2) != 0) {
        using Bits = Select<sizeof(T) == 4, uint32_t, uint64_t>;
        constexpr Bits kSign = Bits{1} << (sizeof(T) * 8 - 1);
        Bits bits;
        __builtin_memcpy(&bits, &x, sizeof x);
        if (x != x) return static_cast<Bits>(~Bits{0});
        if (bits == kSign) return bits;
        return static_cast<Bits>(bits & kSign ? ~bits : bits | kSign);
    } else {
        using Bits = Select<sizeof(T) == 8, uint64_t, uint32_t>;
        constexpr Bits kSign = T(-1) < T(0) ? Bits{1} << (sizeof(Bits) * 8 - 1) : 0;
        return static_cast<Bits>(static_cast<Bits>(x) ^ kSign);
    }
}

// An element and its index, greater if the element is better, or the same and earlier. Elements of
// up to 4 bytes share one integer with the index.
struct Narrow {
    uint64_t key;
    Narrow(uint32_t order, int64_t i) : key(uint64_t{order} << 32 | (0xffffffffu - i)) {}
    int64_t place() const { return 0xffffffffu - static_cast<uint32_t>(key); }
    bool operator<(Narrow b) const { return key < b.key; }
};
struct Wide {
    uint64_t order;
    int64_t index;
    Wide(uint64_t bits, int64_t i) : order(bits), index(i) {}
    int64_t place() const { return index; }
    bool operator<(Wide b) const { return order != b.order ? order < b.order : index > b.index; }
};
template <class T>
using Key = Select<sizeof(T) == 8, Wide, Narrow>;

template <class T>
CNNRT_INLINE Key<T> key_of(T x, int64_t i, bool most) {
    const auto order = ordered(x);
    return {most ? order : ~order, i};
}

// Moves heap[i] down until both of its children are greater.
template <class K>
CNNRT_INLINE void sink(K* heap, int64_t i, int64_t n) {
    const K key = heap[i];
    for (int64_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child]) ++child;
        if (!(heap[child] < key)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
}

template <class T>
void best_of(const T* x, int64_t n, int64_t k, bool most, Key<T>* heap) {
    for (int64_t i = 0; i < k; ++i) heap[i] = key_of(x[i], i, most);
    for (int64_t i = k / 2 - 1; i >= 0; --i) sink(heap, i, k);
    const auto consider = [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
            const Key<T> key = key_of(x[i], i, most);
            if (!(heap[0] < key)) continue;
            heap[0] = key;
            sink(heap, 0, k);
        }
    };
    int64_t i = k;
    for (; i + 64 <= n; i += 64) {
        if (!any_better<64>(x + i, x[heap[0].place()], most)) continue;
        for (int j = 0; j < 64; j += 16)
            if (any_better<16>(x + i + j, x[heap[0].place()], most)) consider(i + j, i + j + 16);
    }
    consider(i, n);
    // Moves the worst to the end, one after the other.
    for (int64_t last = k - 1; last > 0; --last) {
        const Key<T> worst = heap[0];
        heap[0] = heap[last];
        heap[last] = worst;
        sink(heap, 0, last);
    }
}

template <class T>
void topk_tasks_of(const TopkArgs& a, const Context& context, int64_t begin, int64_t end) {
    auto* heap = reinterpret_cast<Key<T>*>(context.scratch);
    T* lane = reinterpret_cast<T*>(heap + a.k);
    T* values = context.at<T>(a.values);
    int64_t* indices = context.at<int64_t>(a.indices);
    for (int64_t task = begin; task < end; ++task) {
        const int64_t outer = task / a.inner, inner = task % a.inner;
        const T* x = context.at<const T>(a.x) + outer * a.axis * a.inner + inner;
        if (a.inner > 1) {
            for (int64_t i = 0; i < a.axis; ++i) lane[i] = x[i * a.inner];
            x = lane;
        }
        best_of(x, a.axis, a.k, a.largest != 0, heap);
        for (int64_t i = 0; i < a.k; ++i) {
            const int64_t place = heap[i].place(), at = (outer * a.k + i) * a.inner + inner;
            if (values) values[at] = x[place];
            if (indices) indices[at] = place;
        }
    }
}

}  // namespace

void topk(const TopkArgs& a, const Context& context, int64_t begin, int64_t end) {
    with_order_of(a.type, [&]<class T>(T) { topk_tasks_of<T>(a, context, begin, end); });
}

int64_t topk_tasks(const TopkArgs& a) { return a.outer * a.inner; }

int64_t topk_scratch(const TopkArgs& a) {
    int64_t bytes = 0;
    with_order_of(a.type, [&]<class T>(T) {
        bytes = a.k * static_cast<int64_t>(sizeof(Key<T>)) +
                (a.inner > 1 ? a.axis * static_cast<int64_t>(sizeof(T)) : 0);
    });
    return bytes;
}

}  // namespace cnnrt::CNNRT_ISA
