// The first elements of each sequence of a batch in reverse order. Rows of `inner` elements are
// copied whole; each goes to its mirrored place on the axis of time.
#include "element.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kChunk = 16384;  // approximate bytes in one task

// A unit of work is the rows along the second of both axes, at one place on the axes before.
CNNRT_INLINE int64_t first_axis(const ReverseArgs& a) { return a.batch_first ? a.batch : a.time; }
CNNRT_INLINE int64_t second_axis(const ReverseArgs& a) { return a.batch_first ? a.time : a.batch; }
CNNRT_INLINE int64_t units(const ReverseArgs& a) { return a.outer * first_axis(a) * a.middle; }
CNNRT_INLINE int64_t units_per_task(const ReverseArgs& a) {
    return larger<int64_t>(1, kChunk / (second_axis(a) * a.inner * a.element));
}

// The number of elements to reverse in a sequence, within its axis.
CNNRT_INLINE int64_t length_of(const ReverseArgs& a, const char* lengths, int64_t batch) {
    int64_t length;
    if (a.length_bytes == 8) {
        __builtin_memcpy(&length, lengths + batch * 8, 8);
    } else {
        int32_t narrow;
        __builtin_memcpy(&narrow, lengths + batch * 4, 4);
        length = narrow;
    }
    return larger<int64_t>(0, smaller(a.time, length));
}

template <class T>
CNNRT_INLINE void copy_row(const T* x, T* y, int64_t n) {
    if (n == 1)
        *y = *x;
    else
        __builtin_memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
}

// All times of one sequence, which lie beside each other.
template <class T>
void reverse_times(const ReverseArgs& a, int64_t length, const T* x, T* y) {
    if (a.inner == 1) {
        for (int64_t t = 0; t < length; ++t) y[t] = x[length - 1 - t];
    } else {
        for (int64_t t = 0; t < length; ++t)
            copy_row(x + (length - 1 - t) * a.inner, y + t * a.inner, a.inner);
    }
    const int64_t done = length * a.inner;
    __builtin_memcpy(y + done, x + done,
                     static_cast<size_t>((a.time - length) * a.inner) * sizeof(T));
}

// One time of all sequences.
template <class T>
void reverse_batch(const ReverseArgs& a, const char* lengths, int64_t time, const T* x, T* y) {
    const int64_t step = a.middle * a.batch * a.inner;  // from one time to the next
    for (int64_t b = 0; b < a.batch; ++b) {
        const int64_t length = length_of(a, lengths, b);
        const int64_t from = time < length ? length - 1 - time : time;
        copy_row(x + (from - time) * step + b * a.inner, y + b * a.inner, a.inner);
    }
}

}  // namespace

void reverse_sequence(const ReverseArgs& a, const Context& context, int64_t begin, int64_t end) {
    const char* lengths = context.at<const char>(a.lengths);
    const int64_t stop = smaller(units(a), end * units_per_task(a));
    with_element(a.element, [&]<class T>(T) {
        const T* x = context.at<const T>(a.x);
        T* y = context.at<T>(a.y);
        for (int64_t unit = begin * units_per_task(a); unit < stop; ++unit) {
            const int64_t first = unit / a.middle % first_axis(a);
            const int64_t at = unit * second_axis(a) * a.inner;
            if (a.batch_first)
                reverse_times(a, length_of(a, lengths, first), x + at, y + at);
            else
                reverse_batch(a, lengths, first, x + at, y + at);
        }
    });
}

int64_t reverse_sequence_tasks(const ReverseArgs& a) {
    return ceil_div(units(a), units_per_task(a));
}

}  // namespace cnnrt::CNNRT_ISA
