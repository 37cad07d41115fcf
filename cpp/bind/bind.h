// What the sources of the Python module cnnrt._core share.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "../plan.h"

namespace cnnrt {

namespace py = pybind11;

// Throws ValueError unless the condition holds.
inline void check(bool condition, const char* message) {
    if (!condition) throw py::value_error(message);
}

// Appends a step of this kernel to the plan, its arguments filled by name, and the constants that
// it reads to `kept_alive`. Throws ValueError for an unknown kernel or value, and TypeError for an
// unknown field or a value of the wrong type. Throws IndexError if the step would leave its
// buffers.
void add_step(Plan& plan, py::list& kept_alive, const py::str& kernel, const py::dict& fields,
              bool serial, bool independent, double nanoseconds);

// Each defines a part of the module; bind_threads comes before those with threads as arguments.
void bind_lists(py::module_& m);
void bind_memory(py::module_& m);
void bind_pack(py::module_& m);
void bind_plan(py::module_& m);
void bind_program(py::module_& m);
void bind_selection(py::module_& m);
void bind_threads(py::module_& m);

}  // namespace cnnrt
