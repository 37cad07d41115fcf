#include "selection.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

namespace cnnrt {
namespace {

// Pairs of boxes compared between two polls: about 10 ms.
constexpr int64_t kPairsPerPoll = 1 << 23;
constexpr int64_t kBlock = 16;  // elements that one branch looks at

template <class T>
struct Box {
    T low[2], high[2], area;

    Box(const T* box, bool centred) {
        T side[2];
        for (int k = 0; k < 2; ++k) {
            const T a = box[k], b = box[k + 2];
            low[k] = centred ? a - b / 2 : std::min(a, b);
            high[k] = centred ? a + b / 2 : std::max(a, b);
            // A NaN makes the area NaN, and such a box neither suppresses nor is suppressed.
            side[k] = a != a || b != b ? NAN : high[k] - low[k];
        }
        area = side[0] * side[1];
    }
};

// The chosen boxes of one class, as columns: a loop over them becomes vectors.
template <class T>
class Chosen {
public:
    size_t size() const { return area_.size(); }

    void clear() {
        for (auto* column : {&low0_, &low1_, &high0_, &high1_, &area_}) column->clear();
    }

    void add(const Box<T>& box) {
        low0_.push_back(box.low[0]);
        low1_.push_back(box.low[1]);
        high0_.push_back(box.high[0]);
        high1_.push_back(box.high[1]);
        area_.push_back(box.area);
    }

    // True if one of them overlaps the box by more than the threshold.
    bool overlap(const Box<T>& box, T threshold) const {
        const T *low0 = low0_.data(), *low1 = low1_.data();
        const T *high0 = high0_.data(), *high1 = high1_.data(), *area = area_.data();
        const auto hits = [&](size_t i) {
            const T side0 = (box.high[0] < high0[i] ? box.high[0] : high0[i]) -
                            (box.low[0] > low0[i] ? box.low[0] : low0[i]);
            const T side1 = (box.high[1] < high1[i] ? box.high[1] : high1[i]) -
                            (box.low[1] > low1[i] ? box.low[1] : low1[i]);
            const T shared = (side0 > 0 ? side0 : 0) * (side1 > 0 ? side1 : 0);
            return shared > threshold * (area[i] + box.area - shared);
        };
        size_t i = 0;
        for (; i + kBlock <= size(); i += kBlock) {
            int any = 0;
            for (size_t l = 0; l < kBlock; ++l) any |= hits(i + l);
            if (any) return true;
        }
        for (; i < size(); ++i)
            if (hits(i)) return true;
        return false;
    }

private:
    std::vector<T> low0_, low1_, high0_, high1_, area_;
};

// The bits of a score as an integer that is greater if the score is higher. 0 and -0 are equal,
// and NaN is lowest.
template <class T>
auto order_of(T score) {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    constexpr Bits kSign = Bits{1} << (8 * sizeof(T) - 1);
    if (score != score) return Bits{0};
    const Bits bits = std::bit_cast<Bits>(score + T{0});  // -0 + 0 is 0
    return bits & kSign ? static_cast<Bits>(~bits) : static_cast<Bits>(bits | kSign);
}

// A box that may be chosen; the greater one comes first.
struct Candidate {
    uint64_t order;
    int64_t box;

    bool operator<(const Candidate& other) const {
        return order != other.order ? order < other.order : box > other.box;
    }
};

// Writes the boxes of one class that may be chosen, by ascending number, and returns their end.
template <class T>
Candidate* candidates_of(const T* scores, const Suppression& s, Candidate* to) {
    const T least = static_cast<T>(s.least);
    for (int64_t first = 0; first < s.boxes; first += kBlock) {
        const int64_t last = std::min(first + kBlock, s.boxes);
        if (s.filtered) {
            int any = 0;
            for (int64_t i = first; i < last; ++i) any |= scores[i] > least;
            if (!any) continue;
        }
        for (int64_t i = first; i < last; ++i) {
            *to = {order_of(scores[i]), i};
            to += !s.filtered || scores[i] > least;  // no branch: it would be mispredicted
        }
    }
    return to;
}

}  // namespace

template <class T>
bool non_max_suppression(const Suppression& s, const T* boxes, const T* scores,
                         std::vector<int64_t>& chosen, Poll poll) {
    Chosen<T> kept;
    std::vector<Candidate> candidates(static_cast<size_t>(s.boxes));
    Candidate* const first = candidates.data();
    int64_t pairs = 0;
    for (int64_t image = 0; image < s.images; ++image) {
        for (int64_t label = 0; label < s.classes; ++label) {
            Candidate* last =
                candidates_of(scores + (image * s.classes + label) * s.boxes, s, first);
            kept.clear();
            // A heap: most of the order is never needed if only the first few are chosen.
            std::make_heap(first, last);
            pairs += s.boxes;
            while (first < last && static_cast<int64_t>(kept.size()) < s.most) {
                std::pop_heap(first, last);
                const int64_t i = (--last)->box;
                pairs += static_cast<int64_t>(kept.size()) + 1;
                if (pairs > kPairsPerPoll) {
                    pairs = 0;
                    if (poll()) return false;
                }
                const Box<T> box(boxes + (image * s.boxes + i) * 4, s.centred);
                if (kept.overlap(box, static_cast<T>(s.overlap))) continue;
                kept.add(box);
                chosen.insert(chosen.end(), {image, label, i});
            }
        }
    }
    return true;
}

template bool non_max_suppression(const Suppression&, const float*, const float*,
                                  std::vector<int64_t>&, Poll);
template bool non_max_suppression(const Suppression&, const double*, const double*,
                                  std::vector<int64_t>&, Poll);

template <class T>
std::vector<int64_t> non_zero(const T* x, int64_t count, T mask) {
    int64_t set = 0;
    for (int64_t i = 0; i < count; ++i) set += (x[i] & mask) != 0;
    std::vector<int64_t> places(static_cast<size_t>(set));
    int64_t* to = places.data();
    for (int64_t first = 0; first < count; first += kBlock) {
        const int64_t last = std::min(first + kBlock, count);
        T any = 0;
        for (int64_t i = first; i < last; ++i) any |= x[i];
        if ((any & mask) == 0) continue;
        for (int64_t i = first; i < last; ++i)
            if ((x[i] & mask) != 0) *to++ = i;
    }
    return places;
}

template std::vector<int64_t> non_zero(const uint8_t*, int64_t, uint8_t);
template std::vector<int64_t> non_zero(const uint16_t*, int64_t, uint16_t);
template std::vector<int64_t> non_zero(const uint32_t*, int64_t, uint32_t);
template std::vector<int64_t> non_zero(const uint64_t*, int64_t, uint64_t);

}  // namespace cnnrt
