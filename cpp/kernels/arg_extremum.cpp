// The index of the largest or smallest element along the middle axis of plain [outer, axis, inner].
// Among equals it is the first or the last. NaN is more extreme than any number.
//
// Indices of floats are kept as floats beside the values, lane by lane. To find the last of equals,
// the axis is walked from its end.
#include "element.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kStrip = 64;     // inner positions searched together
constexpr int64_t kChunk = 16384;  // approximate elements read by one task

struct Best {
    f32x16 value, place;

    // Takes v in the lanes in which it is better, and keeps the earlier value if they are equal.
    CNNRT_INLINE void meet(f32x16 v, f32x16 at, bool largest) {
        const mask16 better = largest ? less(value, v) : less(v, value);
        const f32x16 if_nan = select(is_nan(value), place, at);
        place = select(is_nan(v), if_nan, select(better, at, place));
        value = select(is_nan(v), v, select(better, v, value));
    }
};

struct One {
    float value;
    int64_t place;

    void meet(float v, int64_t at, const ArgExtremumArgs& a) {
        const bool nan = v != v, mine = value != value;
        bool better = nan && !mine;
        if (!nan && !mine) better = a.largest ? v > value : v < value;
        const bool equal = (nan && mine) || v == value;
        if (better || (equal && (a.last ? at > place : at < place))) *this = {v, at};
    }
};

int64_t search_row(const ArgExtremumArgs& a, const float* x) {
    static constexpr float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    One one{x[0], 0};
    const int64_t vectors = a.axis / 16;
    if (vectors > 0) {
        const f32x16 lane = load(kLane);
        const auto place = [&](int64_t i) {
            return add(lane, broadcast(static_cast<float>(i * 16)));
        };
        const int64_t start = a.last ? vectors - 1 : 0, step = a.last ? -1 : 1;
        Best best{load(x + start * 16), place(start)};
        for (int64_t k = 1, i = start + step; k < vectors; ++k, i += step)
            best.meet(load(x + i * 16), place(i), a.largest != 0);
        float values[16], places[16];
        store(values, best.value);
        store(places, best.place);
        for (int i = 0; i < 16; ++i) one.meet(values[i], static_cast<int64_t>(places[i]), a);
    }
    for (int64_t i = vectors * 16; i < a.axis; ++i) one.meet(x[i], i, a);
    return one.place;
}

// `kVectors` vectors of inner positions, the last of `lanes`. Rows are far from each other: of each
// all that is needed is read at once.
template <int kVectors>
CNNRT_INLINE void search_vectors(const ArgExtremumArgs& a, const float* x, int64_t* y, int lanes) {
    const int64_t start = a.last ? a.axis - 1 : 0, step = a.last ? -1 : 1;
    const float* p = x + start * a.inner;
    const auto value = [&](int m) {
        return m + 1 < kVectors ? load(p + 16 * m) : load_partial(p + 16 * m, lanes);
    };
    Best best[kVectors];
#pragma GCC unroll 4
    for (int m = 0; m < kVectors; ++m) best[m] = {value(m), broadcast(static_cast<float>(start))};
    for (int64_t k = 1, i = start + step; k < a.axis; ++k, i += step) {
        p += step * a.inner;
        const f32x16 at = broadcast(static_cast<float>(i));
#pragma GCC unroll 4
        for (int m = 0; m < kVectors; ++m) best[m].meet(value(m), at, a.largest != 0);
    }
    float places[16];
#pragma GCC unroll 4
    for (int m = 0; m < kVectors; ++m) {
        store(places, best[m].place);
        const int count = m + 1 < kVectors ? 16 : lanes;
        for (int l = 0; l < count; ++l) y[16 * m + l] = static_cast<int64_t>(places[l]);
    }
}

// `columns` inner positions, at most kStrip.
void search_columns(const ArgExtremumArgs& a, const float* x, int64_t* y, int64_t columns) {
    const int lanes = static_cast<int>((columns - 1) % 16 + 1);
    switch (ceil_div(columns, 16)) {
        case 1:
            return search_vectors<1>(a, x, y, lanes);
        case 2:
            return search_vectors<2>(a, x, y, lanes);
        case 3:
            return search_vectors<3>(a, x, y, lanes);
        default:
            return search_vectors<4>(a, x, y, lanes);
    }
}

// The same of elements of other types. Rows are searched 64 elements at a time, and one by one
// where one of them is better.
template <class T>
int64_t search_row(const ArgExtremumArgs& a, const T* x) {
    const bool most = a.largest != 0;
    int64_t place = a.last ? a.axis - 1 : 0;
    T best = x[place];
    const auto search = [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) {
            const int64_t i = a.last ? end - 1 - (k - begin) : k;
            const bool better = most ? !(x[i] <= best) : !(x[i] >= best);
            if (!better || best != best) continue;
            best = x[i];
            place = i;
        }
    };
    const int64_t whole = a.axis / 64 * 64, rest = a.axis - whole;
    if (a.last) search(whole, a.axis);
    for (int64_t k = 0; k < whole && best == best; k += 64) {
        const int64_t i = a.last ? a.axis - rest - 64 - k : k;
        if (any_better<64>(x + i, best, most)) search(i, i + 64);
    }
    if (!a.last) search(whole, a.axis);
    return place;
}

template <class T>
void search_columns(const ArgExtremumArgs& a, const T* x, int64_t* y, int64_t columns) {
    const int64_t start = a.last ? a.axis - 1 : 0, step = a.last ? -1 : 1;
    const bool most = a.largest != 0;
    T best[kStrip];
    int64_t place[kStrip];
    for (int64_t j = 0; j < columns; ++j) {
        best[j] = x[start * a.inner + j];
        place[j] = start;
    }
    for (int64_t k = 1, i = start + step; k < a.axis; ++k, i += step) {
        const T* p = x + i * a.inner;
        for (int64_t j = 0; j < columns; ++j) {
            bool better = most ? p[j] > best[j] : p[j] < best[j];
            if constexpr (T(1) / T(2) != 0) better |= (p[j] != p[j]) & (best[j] == best[j]);
            best[j] = better ? p[j] : best[j];
            place[j] = better ? i : place[j];
        }
    }
    for (int64_t j = 0; j < columns; ++j) y[j] = place[j];
}

CNNRT_INLINE int64_t per_outer(const ArgExtremumArgs& a) { return ceil_div(a.inner, kStrip); }
CNNRT_INLINE int64_t per_task(const ArgExtremumArgs& a) {
    return larger<int64_t>(1, kChunk / (a.axis * smaller(a.inner, kStrip)));
}

template <class T>
void search(const ArgExtremumArgs& a, const Context& context, int64_t begin, int64_t end) {
    const T* x = context.at<const T>(a.x);
    int64_t* y = context.at<int64_t>(a.y);
    const int64_t stop = smaller(a.outer * per_outer(a), end * per_task(a));
    for (int64_t unit = begin * per_task(a); unit < stop; ++unit) {
        const int64_t outer = unit / per_outer(a), i = unit % per_outer(a) * kStrip;
        const T* from = x + outer * a.axis * a.inner + i;
        int64_t* to = y + outer * a.inner + i;
        if (a.inner == 1)
            *to = search_row(a, from);
        else
            search_columns(a, from, to, smaller(kStrip, a.inner - i));
    }
}

}  // namespace

void arg_extremum(const ArgExtremumArgs& a, const Context& context, int64_t begin, int64_t end) {
    with_order_of(a.type, [&]<class T>(T) { search<T>(a, context, begin, end); });
}

int64_t arg_extremum_tasks(const ArgExtremumArgs& a) {
    return ceil_div(a.outer * per_outer(a), per_task(a));
}

}  // namespace cnnrt::CNNRT_ISA
