// Operators whose results have a number of rows that depends on values. A plan cannot hold them as
// steps: they run between its stages, on the caller's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "poll.h"

namespace cnnrt {

struct Suppression {
    int64_t images = 0, classes = 0, boxes = 0;
    int64_t most = 0;       // maximum boxes of one class of one image
    bool centred = false;   // boxes are centre and size; otherwise two opposite corners
    bool filtered = false;  // only scores above `least` count
    double overlap = 0, least = 0;
};

// Greedy non-maximum suppression (ONNX's NonMaxSuppression), for T float or double. Appends (image,
// class, box) of every chosen box. The inputs are boxes [images][boxes][4] and scores
// [images][classes][boxes]. Returns false if `poll` stopped it.
template <class T>
bool non_max_suppression(const Suppression& s, const T* boxes, const T* scores,
                         std::vector<int64_t>& chosen, Poll poll);

// The indices of the elements whose bit in `mask` is set, in row-major order.
template <class T>
std::vector<int64_t> non_zero(const T* x, int64_t count, T mask);

}  // namespace cnnrt
