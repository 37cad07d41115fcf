// y[o, j, i] = x[o, index[o, j, i], i] for elements of any size: rows are copied whole if one index
// serves them. If an index is out of range, y is zero there and the run fails.
#include "element.h"
#include "indexed.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 16384;  // approximate bytes in one task

CNNRT_INLINE int64_t rows_per_task(const IndexedArgs& a) {
    return larger<int64_t>(1, kChunk / larger<int64_t>(1, a.inner * a.element));
}

template <class T>
void gather_elements(const IndexedArgs& a, const Indices& indices, const T* x, T* y, int64_t row) {
    const int64_t o = row / a.count, j = row % a.count;
    x += o * a.axis * a.inner;
    y += row * a.inner;
    for (int64_t i = 0; i < a.inner; ++i) {
        const int64_t place = indices.at(o, j, i);
        y[i] = place < 0 ? T{0} : x[place * a.inner + i];
    }
}

// Rows of one element: a copy of a row would be a call for each.
template <class T>
void gather_singles(const IndexedArgs& a, const Indices& indices, const T* x, T* y, int64_t begin,
                    int64_t end) {
    for (int64_t row = begin; row < end;) {
        const int64_t o = row / a.count, stop = smaller(end, (o + 1) * a.count);
        for (int64_t j = row % a.count; row < stop; ++row, ++j) {
            const int64_t place = indices.at(o, j, 0);
            y[row] = place < 0 ? T{0} : x[o * a.axis + place];
        }
    }
}

}  // namespace

void gather(const IndexedArgs& a, const Context& context, int64_t begin, int64_t end) {
    const Indices indices(a, context);
    const char* x = context.at<const char>(a.x);
    char* y = context.at<char>(a.y);
    const int64_t rows = rows_per_task(a), bytes = a.inner * a.element;
    end = smaller(a.outer * a.count, end * rows);
    if (a.index_inner == 0 && a.inner == 1) {
        with_element(a.element, [&]<class T>(T) {
            gather_singles(a, indices, reinterpret_cast<const T*>(x), reinterpret_cast<T*>(y),
                           begin * rows, end);
        });
        return;
    }
    for (int64_t row = begin * rows; row < end; ++row) {
        if (a.index_inner == 0) {
            const int64_t o = row / a.count, place = indices.at(o, row % a.count, 0);
            char* to = y + row * bytes;
            if (place < 0)
                __builtin_memset(to, 0, static_cast<size_t>(bytes));
            else
                __builtin_memcpy(to, x + (o * a.axis + place) * bytes, static_cast<size_t>(bytes));
            continue;
        }
        with_element(a.element, [&]<class T>(T) {
            gather_elements(a, indices, reinterpret_cast<const T*>(x), reinterpret_cast<T*>(y),
                            row);
        });
    }
}

int64_t gather_tasks(const IndexedArgs& a) { return ceil_div(a.outer * a.count, rows_per_task(a)); }

}  // namespace cnnrt::CNNRT_ISA
