// The Python module cnnrt._core: buffers, weight packing, plans, and what the machine offers.

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../memory.h"
#include "../openmp.h"
#include "bind.h"

namespace cnnrt {

using namespace py::literals;

void bind_memory(py::module_& m) {
    py::class_<Memory>(m, "Memory", py::buffer_protocol())
        .def(py::init([](const py::buffer& source) {
                 const py::buffer_info info = source.request();
                 check(PyBuffer_IsContiguous(info.view(), 'C'), "the source is not contiguous");
                 auto memory =
                     std::make_unique<Memory>(static_cast<size_t>(info.size * info.itemsize));
                 std::memcpy(memory->data(), info.ptr, memory->bytes());
                 return memory;
             }),
             "source"_a)
        .def_static(
            "empty",
            [](int64_t nbytes) {
                check(nbytes >= 0, "negative size");
                return std::make_unique<Memory>(static_cast<size_t>(nbytes));
            },
            "nbytes"_a)
        .def_static(
            "view",
            [](const py::buffer& source) {
                const py::buffer_info info = source.request();
                check(PyBuffer_IsContiguous(info.view(), 'C'), "the source is not contiguous");
                check(reinterpret_cast<uintptr_t>(info.ptr) % 64 == 0,
                      "the source does not begin on a 64-byte boundary");
                return std::make_unique<Memory>(Memory::view(
                    static_cast<char*>(info.ptr), static_cast<size_t>(info.size * info.itemsize)));
            },
            "source"_a, py::keep_alive<0, 1>())
        .def_buffer([](Memory& self) {
            // Read-only: plans point at it, and a mapped file cannot be written.
            return py::buffer_info(self.data(), 1, py::format_descriptor<uint8_t>::format(), 1,
                                   {static_cast<py::ssize_t>(self.bytes())}, {1}, true);
        })
        .def_property_readonly("nbytes", &Memory::bytes)
        .def_property_readonly("owned", &Memory::owned);
}

void bind_threads(py::module_& m) {
    py::class_<Threads>(m, "Threads")
        .def(py::init([](int count, const std::string& threading) {
                 check(threading == "pool" || threading == "openmp", "neither pool nor openmp");
                 return Threads{count, threading == "pool" ? Threading::kPool : Threading::kOpenMP};
             }),
             "count"_a, "threading"_a = "pool");
    py::implicitly_convertible<int, Threads>();
    m.def("set_thread_budget", set_thread_budget, "threads"_a);
    m.def("limit_regions", limit_regions, "threads"_a);
    m.def("fork_generation", fork_generation);
    m.def("load_openmp", load_openmp);
    m.def("openmp_is_built", openmp_is_built);
}

}  // namespace cnnrt

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
    using namespace cnnrt;
    m.doc() = "Kernels and executor of cnnrt.";

    py::register_exception_translator([](std::exception_ptr p) {
        try {
            if (p) std::rethrow_exception(p);
        } catch (const IndexFault& e) {
            // (step, index, size): Python names the node.
            const auto what = py::make_tuple(e.step, e.fault.index, e.fault.size);
            PyErr_SetObject(PyExc_IndexError, what.ptr());
        }
    });
    m.def("isas", [] {
        std::vector<std::string> names;
        for (const Tier& t : tiers()) names.emplace_back(t.name);
        return names;
    });
    m.def("overlays", [](const std::string& isa) { return tier(isa).overlays; }, "isa"_a);
    // Now, because pybind11 looks NumPy up under a lock: a fork in the meantime would leave it
    // taken.
    py::dtype::of<float>();
    bind_lists(m);
    bind_threads(m);
    bind_memory(m);
    bind_pack(m);
    bind_plan(m);
    bind_program(m);
    bind_selection(m);
}
