// Selection by value as Python calls it: shapes are checked here, ../selection.h trusts them.

#include "../selection.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <optional>
#include <vector>

#include "bind.h"
#include "gil.h"

namespace cnnrt {
namespace {

using namespace py::literals;

template <class T>
using Rows = py::array_t<T, py::array::c_style>;

template <class T>
py::array_t<int64_t> suppressed(const Rows<T>& boxes, const Rows<T>& scores, int64_t most,
                                double overlap, std::optional<double> least, bool centred) {
    check(boxes.ndim() == 3 && boxes.shape(2) == 4, "boxes must be [images, boxes, 4]");
    check(scores.ndim() == 3 && scores.shape(0) == boxes.shape(0) &&
              scores.shape(2) == boxes.shape(1),
          "scores must be [images, classes, boxes]");
    Suppression s;
    s.images = boxes.shape(0);
    s.classes = scores.shape(1);
    s.boxes = boxes.shape(1);
    s.most = most;
    s.centred = centred;
    s.filtered = least.has_value();
    s.overlap = overlap;
    s.least = least.value_or(0);
    std::vector<int64_t> chosen;
    without_gil(
        [&] { return non_max_suppression(s, boxes.data(), scores.data(), chosen, poll_signals); });
    py::array_t<int64_t> rows({static_cast<py::ssize_t>(chosen.size() / 3), py::ssize_t{3}});
    if (!chosen.empty())
        std::memcpy(rows.mutable_data(), chosen.data(), chosen.size() * sizeof(int64_t));
    return rows;
}

// The places as (rank, count): an axis each, as NumPy's nonzero.
template <class T>
py::array_t<int64_t> places(const Rows<T>& x, T mask) {
    const py::ssize_t rank = x.ndim();
    check(rank >= 1, "an element alone has no place");
    std::vector<int64_t> flat;
    without_gil([&] {
        flat = non_zero(x.data(), x.size(), mask);
        return true;
    });
    const auto count = static_cast<py::ssize_t>(flat.size());
    py::array_t<int64_t> result({rank, count});
    int64_t* to = result.mutable_data();
    for (py::ssize_t axis = rank - 1; axis > 0; --axis) {
        const int64_t size = x.shape(axis);
        int64_t* const row = to + axis * count;
        // Places ascend: most have the quotient of the one before.
        int64_t quotient = 0, start = 0;
        for (py::ssize_t i = 0; i < count; ++i) {
            int64_t& place = flat[static_cast<size_t>(i)];
            if (place >= start + size) {
                quotient = place / size;
                start = quotient * size;
            }
            row[i] = place - start;
            place = quotient;
        }
    }
    if (count > 0) std::memcpy(to, flat.data(), flat.size() * sizeof(int64_t));
    return result;
}

template <class T>
void bind_places(py::module_& m) {
    m.def("non_zero", &places<T>, py::arg("x").noconvert(), "mask"_a);
}

template <class T>
void bind_suppression(py::module_& m) {
    m.def("non_max_suppression", &suppressed<T>, py::arg("boxes").noconvert(),
          py::arg("scores").noconvert(), "most"_a, "overlap"_a, "least"_a, "centred"_a);
}

}  // namespace

void bind_selection(py::module_& m) {
    bind_suppression<float>(m);
    bind_suppression<double>(m);
    bind_places<uint8_t>(m);
    bind_places<uint16_t>(m);
    bind_places<uint32_t>(m);
    bind_places<uint64_t>(m);
}

}  // namespace cnnrt
