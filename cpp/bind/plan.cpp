// Plans as Python builds and runs them.

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../arena.h"
#include "bind.h"
#include "gil.h"

namespace cnnrt {
namespace {

using namespace py::literals;

// A plan with the shapes and dtypes of the caller's arrays.
struct BoundPlan {
    struct Array {
        std::vector<py::ssize_t> shape;
        py::dtype dtype;

        int64_t bytes() const {
            int64_t product = dtype.itemsize();
            for (const auto size : shape) product *= size;
            return product;
        }
    };
    Plan plan;
    std::vector<Array> inputs, outputs;
    int64_t images = 1;            // per run, each computed by itself
    std::vector<int64_t> strides;  // bytes between images, by input and then output
    py::list kept_alive;           // memory that the steps point at

    BoundPlan(const std::string& isa, std::shared_ptr<RunMemory> memory)
        : plan(cnnrt::tier(isa), memory ? std::move(memory) : std::make_shared<RunMemory>()) {}

    static std::vector<Array> arrays(const py::sequence& specs) {
        std::vector<Array> list;
        for (const auto& spec : specs) {
            const auto t = spec.cast<py::tuple>();
            list.push_back({t[0].cast<std::vector<py::ssize_t>>(), py::dtype::from_args(t[1])});
        }
        return list;
    }

    // Has a run take `count` images, for steps that compute one: the arrays become that much
    // longer.
    void take_images(int64_t count) {
        check(count >= 1, "no images");
        images = count;
        if (count == 1) return;
        for (auto* list : {&inputs, &outputs})
            for (Array& a : *list) {
                check(!a.shape.empty() && a.shape[0] == 1,
                      "an array of images begins with an axis of 1");
                strides.push_back(a.bytes());
                a.shape[0] = count;
            }
    }

    void keep_outputs() const {
        plan.memory()->outputs.keep(
            static_cast<size_t>(std::count_if(outputs.begin(), outputs.end(), [](const Array& a) {
                return static_cast<size_t>(a.bytes()) >= kMinPooledBytes;
            })));
    }
    // A new array for an output. Its memory may outlive the plan.
    py::array make_output(size_t i) const {
        const Array& a = outputs[i];
        const auto bytes = static_cast<size_t>(a.bytes());
        if (bytes < kMinPooledBytes) return py::array(a.dtype, a.shape);
        struct Held {
            std::shared_ptr<RunMemory> from;
            std::unique_ptr<Memory> memory;
            ~Held() { from->outputs.give_back(std::move(memory)); }
        };
        std::unique_ptr<Held> held(new Held{plan.memory(), plan.memory()->outputs.take(bytes)});
        const char* const data = held->memory->data();
        py::capsule owner(held.get(), [](void* p) { delete static_cast<Held*>(p); });
        held.release();
        return py::array(a.dtype, a.shape, data, owner);
    }

    // Workspaces of the plan for the time of one call.
    struct Lease {
        const Plan& plan;
        std::vector<std::unique_ptr<Workspace>> workspaces{};
        void take(int64_t count) {
            while (static_cast<int64_t>(workspaces.size()) < count)
                workspaces.push_back(plan.take_workspace());
        }
        ~Lease() {
            for (auto& w : workspaces) plan.give_back(std::move(w));
        }
    };

    // Points the external spaces at arrays, the first `count` of inputs and outputs.
    void bind_arrays(Workspace& w, const py::sequence& given, size_t count) const {
        if (given.size() != count) throw py::value_error("wrong number of arrays");
        w.spaces.clear();
        w.spaces.push_back(0);
        w.spaces.push_back(reinterpret_cast<uintptr_t>(w.arena.data()));
        for (size_t i = 0; i < count; ++i) {
            const auto a = py::reinterpret_borrow<py::array>(py::object(given[i]));
            const Array& want = i < inputs.size() ? inputs[i] : outputs[i - inputs.size()];
            if (!py::isinstance<py::array>(a) || !(a.flags() & py::array::c_style) ||
                a.ndim() != static_cast<py::ssize_t>(want.shape.size()) ||
                !std::equal(want.shape.begin(), want.shape.end(), a.shape()) ||
                a.dtype().num() != want.dtype.num() || a.dtype().byteorder() == '>')
                throw py::type_error("array " + std::to_string(i) +
                                     " is not contiguous, or not of the planned shape and dtype");
            w.spaces.push_back(reinterpret_cast<uintptr_t>(a.data()));
        }
    }
    py::list bind_outputs(Workspace& w) const {
        py::list results(outputs.size());
        for (size_t i = 0; i < outputs.size(); ++i) {
            py::array a = make_output(i);
            w.spaces.push_back(reinterpret_cast<uintptr_t>(a.mutable_data()));
            results[i] = std::move(a);
        }
        return results;
    }

    py::list run(const py::sequence& given) {
        Lease lease{plan};
        lease.take(std::min<int64_t>(images, plan.threads()));
        Workspace& first = *lease.workspaces[0];
        bind_arrays(first, given, inputs.size());
        py::list results = bind_outputs(first);
        if (images == 1) {
            execute(first, 0, plan.size());
            return results;
        }
        for (auto& w : lease.workspaces) {
            w->image = 0;
            w->spaces = first.spaces;
            w->spaces[kArena] = reinterpret_cast<uintptr_t>(w->arena.data());
        }
        without_gil(
            [&] { return plan.run_images(lease.workspaces, images, strides, poll_signals); });
        return results;
    }

    // Runs steps [first, last) without the GIL.
    void execute(const Workspace& w, size_t first, size_t last, Span* spans = nullptr,
                 bool in_turn = false) const {
        without_gil([&] { return plan.run(w, first, last, poll_signals, spans, in_turn); });
    }
};

// A workspace that Python holds over several calls of run_steps.
struct HeldWorkspace {
    std::shared_ptr<BoundPlan> owner;
    std::unique_ptr<Workspace> workspace;
    ~HeldWorkspace() { owner->plan.give_back(std::move(workspace)); }
};

}  // namespace

void bind_plan(py::module_& m) {
    m.def(
        "lay_out",
        [](const std::vector<std::tuple<int64_t, int64_t, int64_t>>& given) {
            std::vector<Lifetime> buffers;
            buffers.reserve(given.size());
            for (const auto& [bytes, first, last] : given) buffers.push_back({bytes, first, last});
            const int64_t bytes = assign_offsets(buffers);
            std::vector<int64_t> offsets;
            offsets.reserve(buffers.size());
            for (const Lifetime& buffer : buffers) offsets.push_back(buffer.offset);
            return std::make_tuple(bytes, peak_live(buffers), std::move(offsets));
        },
        "lifetimes"_a);
    py::class_<RunMemory, std::shared_ptr<RunMemory>>(m, "RunMemory")
        .def(py::init<>())
        .def("trim", &RunMemory::trim)
        .def_property_readonly("workspaces",
                               [](const RunMemory& self) { return self.workspaces.size(); })
        .def_property_readonly("arena_bytes",
                               [](const RunMemory& self) { return self.workspaces.arena_bytes(); })
        .def_property_readonly(
            "scratch_bytes", [](const RunMemory& self) { return self.workspaces.scratch_bytes(); })
        .def_property_readonly("output_bytes",
                               [](const RunMemory& self) { return self.outputs.idle_bytes(); });
    py::class_<HeldWorkspace>(m, "Workspace");
    py::class_<BoundPlan, std::shared_ptr<BoundPlan>>(m, "Plan")
        .def(py::init<const std::string&, std::shared_ptr<RunMemory>>(), "isa"_a,
             "memory"_a = nullptr)
        .def(
            "add",
            [](BoundPlan& self, const py::str& kernel, const py::dict& fields, bool serial,
               bool independent, double nanoseconds) {
                add_step(self.plan, self.kept_alive, kernel, fields, serial, independent,
                         nanoseconds);
            },
            "kernel"_a, "fields"_a, "serial"_a = false, "independent"_a = false,
            "nanoseconds"_a = 0.0)
        .def(
            "finish",
            [](BoundPlan& self, int64_t arena_bytes, const py::sequence& inputs,
               const py::sequence& outputs, Threads threads, int64_t images) {
                check(arena_bytes >= 0, "negative arena");
                self.plan.set_memory(arena_bytes, threads);
                self.inputs = BoundPlan::arrays(inputs);
                self.outputs = BoundPlan::arrays(outputs);
                self.take_images(images);
                self.keep_outputs();
            },
            "arena_bytes"_a, "inputs"_a, "outputs"_a, "threads"_a, "images"_a = 1)
        .def("run", &BoundPlan::run, "inputs"_a)
        .def("workspace",
             [](const std::shared_ptr<BoundPlan>& self) {
                 return std::unique_ptr<HeldWorkspace>(
                     new HeldWorkspace{self, self->plan.take_workspace()});
             })
        .def(
            "run_steps",
            [](BoundPlan& self, HeldWorkspace& held, const py::sequence& arrays, size_t first,
               size_t last, bool timed, int64_t image, bool in_turn) {
                check(held.owner.get() == &self, "the workspace of another plan");
                check(0 <= image && image < self.images, "no such image");
                check(first <= last && last <= self.plan.size(), "no such step");
                self.bind_arrays(*held.workspace, arrays, self.inputs.size() + self.outputs.size());
                held.workspace->image = 0;
                held.workspace->go_to(image, self.strides);
                const size_t count = timed ? last - first : 0;
                std::vector<Span> spans(static_cast<size_t>(self.plan.threads()) * count);
                self.execute(*held.workspace, first, last, timed ? spans.data() : nullptr, in_turn);
                py::array_t<int64_t> table({static_cast<py::ssize_t>(self.plan.threads()),
                                            static_cast<py::ssize_t>(count), py::ssize_t{2}});
                if (count)
                    std::memcpy(table.mutable_data(), spans.data(), spans.size() * sizeof(Span));
                return table;
            },
            "workspace"_a, "arrays"_a, "first"_a, "last"_a, "timed"_a = false, "image"_a = 0,
            "in_turn"_a = false)
        .def("make_output", &BoundPlan::make_output, "index"_a)
        .def("__len__", [](const BoundPlan& self) { return self.plan.size(); })
        .def("waits",
             [](const BoundPlan& self) {
                 std::vector<bool> waits;
                 for (size_t i = 0; i < self.plan.size(); ++i)
                     waits.push_back(self.plan.step(i).wait);
                 return waits;
             })
        .def_property_readonly("isa", [](const BoundPlan& self) { return self.plan.tier().name; })
        .def_property_readonly("threads", [](const BoundPlan& self) { return self.plan.threads(); })
        .def_property_readonly("arena_bytes",
                               [](const BoundPlan& self) { return self.plan.arena_bytes(); })
        .def_property_readonly("scratch_bytes", [](const BoundPlan& self) {
            return self.plan.scratch_bytes() * self.plan.threads();
        });
}

}  // namespace cnnrt
