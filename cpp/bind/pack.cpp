// Weight packing as Python calls it: shapes are checked here, ../pack.h trusts them.

#include "../pack.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <vector>

#include "../memory.h"
#include "bind.h"

namespace cnnrt {
namespace {

using namespace py::literals;

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

std::unique_ptr<Memory> new_floats(int64_t count) {
    check(count >= 0, "negative size");
    return std::make_unique<Memory>(static_cast<size_t>(count) * sizeof(float));
}
float* floats(const Memory& m) { return reinterpret_cast<float*>(m.data()); }
int64_t blocks_of(int64_t channels) { return (channels + 15) / 16; }

// The packing of linear weights, of elements as `ArrayType` has them; only floats are converted.
template <class ArrayType>
void bind_pack_linear(py::module_& m, PackedFormat format) {
    const bool convert = format == kFloat32Panels;
    m.def(
        "pack_linear",
        [format](Memory& to, int64_t depth, int64_t row, int64_t column, const ArrayType& w,
                 Threads threads) {
            check(w.ndim() == 2, "weight must be [m, c]");
            const int64_t item = format.bytes;
            check(w.strides(0) % item == 0 && w.strides(1) % item == 0,
                  "strides must be whole elements");
            const int64_t m = w.shape(0), k = w.shape(1);
            check(depth >= 0 && row >= 0 && row % 16 == 0 && column >= 0 && column + k <= depth &&
                      to.owned() &&
                      (row / 16 + blocks_of(m)) * depth * 16 * item <=
                          static_cast<int64_t>(to.bytes()),
                  "the memory is too small, or a view");
            pack_linear(format, w.data(), m, k, w.strides(0) / item, w.strides(1) / item,
                        to.data() + row * depth * item, depth, column, threads);
        },
        "to"_a, "depth"_a, "row"_a, "column"_a, py::arg("weight").noconvert(!convert),
        "threads"_a = Threads{});
}

}  // namespace

void bind_pack(py::module_& m) {
    m.def(
        "pack_conv",
        [](const py::array_t<int8_t, py::array::c_style>& w, Threads threads) {
            check(w.ndim() == 3, "weight must be [m, c, taps]");
            const int64_t panel = kInt8Panels.conv_panel(w.shape(1), w.shape(2));
            auto to = std::make_unique<Memory>(static_cast<size_t>(blocks_of(w.shape(0)) * panel));
            pack_conv(kInt8Panels, w.data(), w.shape(0), w.shape(1), w.shape(2), to->data(),
                      threads);
            return to;
        },
        py::arg("weight").noconvert(), "threads"_a = Threads{});
    m.def(
        "pack_conv",
        [](const Floats& w, Threads threads) {
            check(w.ndim() == 3, "weight must be [m, c, taps]");
            auto to = new_floats(blocks_of(w.shape(0)) * 16 * w.shape(1) * w.shape(2));
            pack_conv(kFloat32Panels, w.data(), w.shape(0), w.shape(1), w.shape(2), floats(*to),
                      threads);
            return to;
        },
        "weight"_a, "threads"_a = Threads{});
    m.def(
        "pack_conv_grouped",
        [](const py::array_t<int8_t, py::array::c_style>& w, int64_t group,
           const std::vector<int32_t>& window, int64_t span, Threads threads) {
            check(w.ndim() == 3 && group > 0, "weight must be [m, c / group, taps]");
            check(static_cast<int64_t>(window.size()) == blocks_of(w.shape(0)),
                  "one window per block");
            const int64_t panel = span * 16 * w.shape(2) * 16;
            auto to = std::make_unique<Memory>(static_cast<size_t>(blocks_of(w.shape(0)) * panel));
            pack_conv_grouped(kInt8Panels, w.data(), w.shape(0), w.shape(1) * group, group,
                              w.shape(2), window.data(), span, panel, to->data(), threads);
            return to;
        },
        py::arg("weight").noconvert(), "group"_a, "window"_a, "span"_a, "threads"_a = Threads{});
    m.def(
        "pack_conv_grouped",
        [](const Floats& w, int64_t group, const std::vector<int32_t>& window, int64_t span,
           Threads threads) {
            check(w.ndim() == 3 && group > 0, "weight must be [m, c / group, taps]");
            check(static_cast<int64_t>(window.size()) == blocks_of(w.shape(0)),
                  "one window per block");
            const int64_t panel = span * 16 * w.shape(2) * 16;
            auto to = new_floats(blocks_of(w.shape(0)) * panel);
            pack_conv_grouped(kFloat32Panels, w.data(), w.shape(0), w.shape(1) * group, group,
                              w.shape(2), window.data(), span, panel, floats(*to), threads);
            return to;
        },
        "weight"_a, "group"_a, "window"_a, "span"_a, "threads"_a = Threads{});
    m.def(
        "pack_planar",
        [](const Floats& w, Threads threads) {
            check(w.ndim() == 3, "weight must be [m, c, taps]");
            const int64_t m = w.shape(0), depth = w.shape(1) * w.shape(2);
            auto to = new_floats(blocks_of(m) * 16 * depth);
            pack_linear(kFloat32Panels, w.data(), m, depth, depth, 1, floats(*to), depth, 0,
                        threads);
            return to;
        },
        "weight"_a, "threads"_a = Threads{});
    bind_pack_linear<py::array_t<float, py::array::forcecast>>(m, kFloat32Panels);
    bind_pack_linear<py::array_t<uint16_t, 0>>(m, kHalfPanels);
    bind_pack_linear<py::array_t<int8_t, 0>>(m, kBytePanels);
    m.def(
        "pack_depthwise",
        [](const Floats& w) {
            check(w.ndim() == 2, "weight must be [c, taps]");
            auto to = new_floats(blocks_of(w.shape(0)) * 16 * w.shape(1));
            pack_linear(kFloat32Panels, w.data(), w.shape(0), w.shape(1), w.shape(1), 1,
                        floats(*to), w.shape(1), 0, {});
            return to;
        },
        "weight"_a);
    m.def(
        "pack_winograd",
        [](const Floats& w, const Doubles& g_h, const Doubles& g_w, Threads threads) {
            check(w.ndim() == 5, "weight must be [m, c, d, h, w]");
            const int64_t kernel = w.shape(3) * 10 + w.shape(4);
            check(kernel == 33 || kernel == 55 || kernel == 13 || kernel == 31,
                  "kernels must be 3x3, 5x5, 1x3 or 3x1");
            FilterTransform axes[2];
            for (int i = 0; i < 2; ++i) {
                const Doubles& g = i ? g_w : g_h;
                const int64_t taps = w.shape(3 + i);
                check(g.ndim() == 2 && g.shape(0) <= kMaxPositions && g.shape(1) == taps,
                      "G must be [size, taps], with a size of at most 9");
                axes[i] = {g.data(), g.shape(0), taps};
            }
            const auto& [down, across] = axes;
            auto to = new_floats(down.size * across.size * blocks_of(w.shape(0)) * 16 * w.shape(1) *
                                 w.shape(2));
            pack_winograd(w.data(), w.shape(0), w.shape(1), w.shape(2), down, across, floats(*to),
                          threads);
            return to;
        },
        "weight"_a, "g_h"_a, "g_w"_a, "threads"_a = Threads{});
}

}  // namespace cnnrt
