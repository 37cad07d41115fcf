// The Python module cnnrt._core: buffers, weight packing, plans, and what the machine offers.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <string>
#include <string_view>
#if defined(__unix__)
#include <cxxabi.h>
#include <unistd.h>
#endif

#include "blocks.h"
#include "fields.h"
#include "memory.h"
#include "pack.h"
#include "plan.h"
#include "team.h"

namespace py = pybind11;
using namespace py::literals;

namespace cnnrt {
namespace {

template <size_t N>
using Names = const std::string_view[N];

constexpr std::string_view kActivations[] = {
#define ACTIVATION(name, value) #name,
#include "kernels/activations.def"
#undef ACTIVATION
};
constexpr Names<9> kBinaries = {"first", "add", "sub", "mul", "div", "min", "max", "pow", "prelu"};
constexpr Names<2> kPools = {"max", "average"};
constexpr Names<7> kReductions = {"sum", "mean", "max", "min", "l1", "l2", "sum_square"};
constexpr Names<10> kDtypes = {"bool",  "uint8", "int8",    "uint16",  "int16",
                               "int32", "int64", "float16", "float32", "float64"};
constexpr Names<3> kCells = {"rnn", "gru", "lstm"};
constexpr Names<3> kSamplings = {"nearest", "linear", "cubic"};
constexpr Names<3> kPaddings = {"zeros", "border", "reflection"};
constexpr Names<2> kOrders = {"rows", "channels"};

template <class E, size_t N>
E named(const Names<N>& names, const py::handle& value, const char* what) {
    const auto text = value.cast<std::string>();
    for (size_t i = 0; i < N; ++i)
        if (names[i] == text) return static_cast<E>(i);
    throw py::value_error(std::string("unknown ") + what + " '" + text + "'");
}

// Fills one field of an args struct from the Python value of that name.
struct Reader {
    const py::dict& values;
    size_t used = 0;

    template <class T>
    void operator()(const char* name, T& field) {
        const py::str key(name);
        if (!values.contains(key)) return;
        ++used;
        try {
            read(py::reinterpret_borrow<py::object>(values[key]), field);
        } catch (const py::cast_error&) {
            throw py::type_error(std::string("field '") + name + "' has a value of the wrong type");
        }
    }

    static void read(const py::object& v, int32_t& field) { field = v.cast<int32_t>(); }
    static void read(const py::object& v, int64_t& field) { field = v.cast<int64_t>(); }
    static void read(const py::object& v, float& field) { field = v.cast<float>(); }
    static void read(const py::object& v, int64_t (&field)[kMaxDims]) {
        const auto list = v.cast<std::vector<int64_t>>();
        if (list.size() > kMaxDims) throw py::value_error("more than 8 axes");
        std::copy(list.begin(), list.end(), field);
    }
    static void read(const py::object& v, Ref& field) {
        if (v.is_none()) return;
        if (py::isinstance<Memory>(v)) {
            field.space = kConstant;
            field.offset = reinterpret_cast<int64_t>(v.cast<const Memory&>().data());
            return;
        }
        const auto [space, offset] = v.cast<std::pair<int32_t, int64_t>>();
        field.space = space;
        field.offset = offset;
    }
    static void read(const py::object& v, View& field) {
        if (v.is_none()) return;
        const auto t = v.cast<py::tuple>();
        if (t.size() != 5) throw py::cast_error();
        read(t[0], field.at);
        field.image = t[1].cast<int64_t>();
        field.block = t[2].cast<int64_t>();
        field.plane = t[3].cast<int64_t>();
        field.row = t[4].cast<int64_t>();
    }
    static void read(const py::object& v, Epilogue& field) {
        if (v.is_none()) return;
        const auto t = v.cast<py::tuple>();
        if (t.size() != 3) throw py::cast_error();
        field.activation = named<Activation>(kActivations, t[0], "activation");
        field.alpha = t[1].cast<float>();
        field.beta = t[2].cast<float>();
    }
    template <size_t N>
    static void read(const py::object& v, Epilogue (&field)[N]) {
        const auto list = v.cast<py::list>();
        if (list.size() != N) throw py::cast_error();
        for (size_t i = 0; i < N; ++i) read(py::object(list[i]), field[i]);
    }
    static void read(const py::object& v, Cell& field) { field = named<Cell>(kCells, v, "cell"); }
    static void read(const py::object& v, Order& field) {
        field = named<Order>(kOrders, v, "order");
    }
    static void read(const py::object& v, Pool& field) { field = named<Pool>(kPools, v, "pool"); }
    static void read(const py::object& v, Reduction& field) {
        field = named<Reduction>(kReductions, v, "reduction");
    }
    static void read(const py::object& v, Dtype& field) {
        field = named<Dtype>(kDtypes, v, "dtype");
    }
    static void read(const py::object& v, Sampling& field) {
        field = named<Sampling>(kSamplings, v, "mode");
    }
    static void read(const py::object& v, Padding& field) {
        field = named<Padding>(kPaddings, v, "padding");
    }
    static void read(const py::object& v, Binary& field) {
        field = named<Binary>(kBinaries, v, "operation");
    }
};

#define CNNRT_VISIT_ARGS(Args, ...) \
    void visit(Reader& reader, Args& args) { CNNRT_FIELDS(reader, args, __VA_ARGS__) }
CNNRT_ALL_ARGS(CNNRT_VISIT_ARGS)

template <class Args>
void add_with(Plan& plan, int kernel, const py::dict& values, bool serial, bool independent,
              double nanoseconds) {
    Args args;
    Reader reader{values};
    visit(reader, args);
    if (reader.used != values.size())
        throw py::type_error(std::string("kernel '") + plan.tier().kernels[kernel].name +
                             "' was given a field that it does not have");
    plan.add(kernel, &args, serial, independent, nanoseconds);
}

void add_step(Plan& plan, const std::string& kernel, const py::dict& values, bool serial,
              bool independent, double nanoseconds) {
    int index = 0;
#define KERNEL(name, Args)                                                            \
    if (kernel == #name)                                                              \
        return add_with<Args>(plan, index, values, serial, independent, nanoseconds); \
    ++index;
#include "kernels/kernels.def"
#undef KERNEL
    throw py::value_error("no kernel '" + kernel + "'");
}

// Takes the GIL by calling `take`. When the interpreter is ending, Python before 3.14 ends a daemon
// thread that asks for it by unwinding its stack, through destructors that need the GIL: here such
// a thread sleeps until the process is gone, as later Pythons let it.
template <class F>
void take_gil(F take) {
#if defined(__GLIBCXX__) && defined(__unix__)
    try {
        take();
    } catch (abi::__forced_unwind&) {
        for (;;) pause();
    }
#else
    take();
#endif
}

// Without the GIL for its lifetime.
class WithoutGil {
public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() {
        take_gil([this] { PyEval_RestoreThread(state_); });
    }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

private:
    PyThreadState* const state_;
};

// Whether a Python signal handler has raised an exception, which the caller then finds set. (Only
// on the main thread do handlers run at all.)
bool signalled() {
    PyGILState_STATE state;
    take_gil([&] { state = PyGILState_Ensure(); });
    const bool raised = PyErr_CheckSignals() != 0;
    PyGILState_Release(state);
    return raised;
}

void need(bool condition, const char* what) {
    if (!condition) throw py::value_error(what);
}

// A plan with the shapes of the caller's arrays, for the call from Python.
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
    std::vector<std::shared_ptr<Blocks>> blocks;  // of outputs; none where NumPy's are as good
    int64_t images = 1;                           // that a run takes, each by itself
    std::vector<int64_t> strides;  // bytes from image to image, of inputs and outputs
    py::list kept;                 // what the steps point at

    explicit BoundPlan(const std::string& isa) : plan(cnnrt::tier(isa)) {}

    static std::vector<Array> arrays(const py::sequence& specs) {
        std::vector<Array> list;
        for (const auto& spec : specs) {
            const auto t = spec.cast<py::tuple>();
            list.push_back({t[0].cast<std::vector<py::ssize_t>>(), py::dtype::from_args(t[1])});
        }
        return list;
    }

    // The steps are those of one image, and a run takes several: arrays that are so much longer.
    void take_images(int64_t count) {
        need(count >= 1, "no images");
        images = count;
        if (count == 1) return;
        for (auto* list : {&inputs, &outputs})
            for (Array& a : *list) {
                need(!a.shape.empty() && a.shape[0] == 1,
                     "an array of images begins with an axis of 1");
                strides.push_back(a.bytes());
                a.shape[0] = count;
            }
    }

    void make_blocks() {
        blocks.clear();
        for (const Array& a : outputs) {
            const auto bytes = static_cast<size_t>(a.bytes());
            blocks.push_back(bytes < kLeastBlock ? nullptr : std::make_shared<Blocks>(bytes));
        }
    }
    // A new array for an output. Its memory outlives the plan if it has to.
    py::array make_output(size_t i) const {
        const auto& [shape, dtype] = outputs[i];
        if (!blocks[i]) return py::array(dtype, shape);
        struct Held {
            std::shared_ptr<Blocks> from;
            std::unique_ptr<Memory> block;
            ~Held() { from->give_back(std::move(block)); }
        };
        std::unique_ptr<Held> held(new Held{blocks[i], blocks[i]->take()});
        const char* const data = held->block->data();
        py::capsule owner(held.get(), [](void* p) { delete static_cast<Held*>(p); });
        held.release();
        return py::array(dtype, shape, data, owner);
    }
    int64_t idle_bytes() const {
        int64_t bytes = 0;
        for (const auto& b : blocks) bytes += b ? b->idle_bytes() : 0;
        return bytes;
    }
    void trim() {
        plan.trim();
        for (const auto& b : blocks)
            if (b) b->trim();
    }

    // Workspaces from the pool for the time of one call.
    struct Lease {
        Plan& plan;
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
        without_gil([&] { return plan.run_images(lease.workspaces, images, strides, signalled); });
        return results;
    }

    // Steps [first, last) without the GIL.
    void execute(const Workspace& w, size_t first, size_t last, Span* spans = nullptr) const {
        without_gil([&] { return plan.run(w, first, last, signalled, spans); });
    }

    // Throws if it was stopped, that is if `run` returns false.
    template <class F>
    static void without_gil(F run) {
        bool whole;
        {
            const WithoutGil released;
            whole = run();
        }
        if (whole) return;
        if (PyErr_Occurred()) throw py::error_already_set();
        throw std::runtime_error("the process was forked by a signal handler during this run");
    }
};

// A workspace held from Python, for plans that are run in stretches.
struct HeldWorkspace {
    std::shared_ptr<BoundPlan> owner;
    std::unique_ptr<Workspace> workspace;
    ~HeldWorkspace() { owner->plan.give_back(std::move(workspace)); }
};

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

std::unique_ptr<Memory> floats(int64_t count) {
    if (count < 0) throw py::value_error("negative size");
    return std::make_unique<Memory>(static_cast<size_t>(count) * 4);
}
float* data(const Memory& m) { return reinterpret_cast<float*>(m.data()); }
int64_t blocks(int64_t channels) { return (channels + 15) / 16; }

}  // namespace
}  // namespace cnnrt

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    using namespace cnnrt;
    m.doc() = "Kernels and executor of cnnrt.";

    py::register_exception_translator([](std::exception_ptr p) {
        try {
            if (p) std::rethrow_exception(p);
        } catch (const IndexFault& e) {
            // (step, index, size), for Python to name the node.
            const auto what = py::make_tuple(e.step, e.fault.index, e.fault.size);
            PyErr_SetObject(PyExc_IndexError, what.ptr());
        }
    });
    m.def("isas", [] {
        std::vector<std::string> names;
        for (const Tier& t : tiers()) names.emplace_back(t.name);
        return names;
    });
    m.def("set_thread_budget", set_thread_budget, "threads"_a);
    m.def("fork_generation", fork_generation);
    // Once, here: pybind11 looks NumPy up under a lock, which a fork meanwhile would leave taken.
    py::dtype::of<float>();
    m.attr("activations") = [] {
        py::list names;
        for (const auto& n : kActivations) names.append(std::string(n));
        return py::tuple(names);
    }();
    m.attr("kernels") = [] {
        py::list names;
        for (int i = 0; i < kKernels; ++i) names.append(tiers().back().kernels[i].name);
        return py::tuple(names);
    }();

    py::class_<Memory>(m, "Memory", py::buffer_protocol())
        .def(py::init([](const py::buffer& source) {
                 const py::buffer_info info = source.request();
                 need(PyBuffer_IsContiguous(info.view(), 'C'), "the source is not contiguous");
                 auto memory =
                     std::make_unique<Memory>(static_cast<size_t>(info.size * info.itemsize));
                 std::memcpy(memory->data(), info.ptr, memory->bytes());
                 return memory;
             }),
             "source"_a)
        .def_static(
            "empty",
            [](int64_t nbytes) {
                need(nbytes >= 0, "negative size");
                return std::make_unique<Memory>(static_cast<size_t>(nbytes));
            },
            "nbytes"_a)
        .def_static(
            "view",
            [](const py::buffer& source) {
                const py::buffer_info info = source.request();
                need(PyBuffer_IsContiguous(info.view(), 'C'), "the source is not contiguous");
                need(reinterpret_cast<uintptr_t>(info.ptr) % 64 == 0,
                     "the source does not begin on a 64-byte boundary");
                return std::make_unique<Memory>(Memory::view(
                    static_cast<char*>(info.ptr), static_cast<size_t>(info.size * info.itemsize)));
            },
            "source"_a, py::keep_alive<0, 1>())
        .def_buffer([](Memory& self) {
            // Read-only: what plans point at does not change, and a mapped file cannot.
            return py::buffer_info(self.data(), 1, py::format_descriptor<uint8_t>::format(), 1,
                                   {static_cast<py::ssize_t>(self.bytes())}, {1}, true);
        })
        .def_property_readonly("nbytes", &Memory::bytes)
        .def_property_readonly("owned", &Memory::owned);

    m.def(
        "pack_conv",
        [](const Floats& w, int threads) {
            need(w.ndim() == 3, "weight must be [m, c, taps]");
            auto to = floats(blocks(w.shape(0)) * 16 * w.shape(1) * w.shape(2));
            pack_conv(w.data(), w.shape(0), w.shape(1), w.shape(2), data(*to), threads);
            return to;
        },
        "weight"_a, "threads"_a = 1);
    m.def(
        "pack_conv_grouped",
        [](const Floats& w, int64_t group, const std::vector<int32_t>& window, int64_t span,
           int threads) {
            need(w.ndim() == 3 && group > 0, "weight must be [m, c / group, taps]");
            need(static_cast<int64_t>(window.size()) == blocks(w.shape(0)), "one window per block");
            const int64_t panel = span * 16 * w.shape(2) * 16;
            auto to = floats(blocks(w.shape(0)) * panel);
            pack_conv_grouped(w.data(), w.shape(0), w.shape(1) * group, group, w.shape(2),
                              window.data(), span, panel, data(*to), threads);
            return to;
        },
        "weight"_a, "group"_a, "window"_a, "span"_a, "threads"_a = 1);
    m.def(
        "pack_planar",
        [](const Floats& w, int threads) {
            need(w.ndim() == 3, "weight must be [m, c, taps]");
            const int64_t m = w.shape(0), depth = w.shape(1) * w.shape(2);
            auto to = floats(blocks(m) * 16 * depth);
            pack_planar(w.data(), m, depth, depth, 1, data(*to), depth, 0, threads);
            return to;
        },
        "weight"_a, "threads"_a = 1);
    m.def(
        "pack_linear",
        [](Memory& to, int64_t depth, int64_t row, int64_t column,
           const py::array_t<float, py::array::forcecast>& w, int threads) {
            need(w.ndim() == 2, "weight must be [m, c]");
            need(w.strides(0) % 4 == 0 && w.strides(1) % 4 == 0, "strides must be whole floats");
            const int64_t m = w.shape(0), k = w.shape(1);
            need(depth >= 0 && row >= 0 && row % 16 == 0 && column >= 0 && column + k <= depth &&
                     to.owned() &&
                     (row / 16 + blocks(m)) * depth * 64 <= static_cast<int64_t>(to.bytes()),
                 "the memory is too small, or a view");
            pack_planar(w.data(), m, k, w.strides(0) / 4, w.strides(1) / 4, data(to) + row * depth,
                        depth, column, threads);
        },
        "to"_a, "depth"_a, "row"_a, "column"_a, "weight"_a, "threads"_a = 1);
    m.def(
        "pack_depthwise",
        [](const Floats& w) {
            need(w.ndim() == 2, "weight must be [c, taps]");
            auto to = floats(blocks(w.shape(0)) * 16 * w.shape(1));
            pack_depthwise(w.data(), w.shape(0), w.shape(1), data(*to));
            return to;
        },
        "weight"_a);
    m.def(
        "pack_winograd",
        [](const Floats& w, const Doubles& g_h, const Doubles& g_w, int threads) {
            need(w.ndim() == 5, "weight must be [m, c, d, h, w]");
            const int64_t kernel = w.shape(3) * 10 + w.shape(4);
            need(kernel == 33 || kernel == 55 || kernel == 13 || kernel == 31,
                 "kernels must be 3x3, 5x5, 1x3 or 3x1");
            FilterTransform axes[2];
            for (int i = 0; i < 2; ++i) {
                const Doubles& g = i ? g_w : g_h;
                const int64_t taps = w.shape(3 + i);
                need(g.ndim() == 2 && g.shape(0) <= 8 && g.shape(1) == taps,
                     "G must be [size, taps], with a size of at most 8");
                axes[i] = {g.data(), g.shape(0), taps};
            }
            const auto& [down, across] = axes;
            auto to =
                floats(down.size * across.size * blocks(w.shape(0)) * 16 * w.shape(1) * w.shape(2));
            pack_winograd(w.data(), w.shape(0), w.shape(1), w.shape(2), down, across, data(*to),
                          threads);
            return to;
        },
        "weight"_a, "g_h"_a, "g_w"_a, "threads"_a = 1);

    py::class_<HeldWorkspace>(m, "Workspace");
    py::class_<BoundPlan, std::shared_ptr<BoundPlan>>(m, "Plan")
        .def(py::init<const std::string&>(), "isa"_a)
        .def(
            "add",
            [](BoundPlan& self, const std::string& kernel, const py::dict& fields, bool serial,
               bool independent, double nanoseconds) {
                for (const auto& item : fields) {
                    // Constants must live as long as the steps that point at them.
                    if (py::isinstance<Memory>(item.second)) self.kept.append(item.second);
                }
                add_step(self.plan, kernel, fields, serial, independent, nanoseconds);
            },
            "kernel"_a, "fields"_a, "serial"_a = false, "independent"_a = false,
            "nanoseconds"_a = 0.0)
        .def(
            "finish",
            [](BoundPlan& self, int64_t arena_bytes, const py::sequence& inputs,
               const py::sequence& outputs, int threads, int64_t images) {
                need(arena_bytes >= 0, "negative arena");
                self.plan.set_memory(arena_bytes, threads);
                self.inputs = BoundPlan::arrays(inputs);
                self.outputs = BoundPlan::arrays(outputs);
                self.take_images(images);
                self.make_blocks();
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
               size_t last, bool timed, int64_t image) {
                need(held.owner.get() == &self, "the workspace of another plan");
                need(0 <= image && image < self.images, "no such image");
                need(first <= last && last <= self.plan.size(), "no such step");
                self.bind_arrays(*held.workspace, arrays, self.inputs.size() + self.outputs.size());
                held.workspace->image = 0;
                held.workspace->go_to(image, self.strides);
                const size_t count = timed ? last - first : 0;
                std::vector<Span> spans(static_cast<size_t>(self.plan.threads()) * count);
                self.execute(*held.workspace, first, last, timed ? spans.data() : nullptr);
                py::array_t<int64_t> table({static_cast<py::ssize_t>(self.plan.threads()),
                                            static_cast<py::ssize_t>(count), py::ssize_t{2}});
                if (count)
                    std::memcpy(table.mutable_data(), spans.data(), spans.size() * sizeof(Span));
                return table;
            },
            "workspace"_a, "arrays"_a, "first"_a, "last"_a, "timed"_a = false, "image"_a = 0)
        .def("make_output", &BoundPlan::make_output, "index"_a)
        .def("trim", &BoundPlan::trim)
        .def_property_readonly("idle_bytes", &BoundPlan::idle_bytes)
        .def_property_readonly("workspaces",
                               [](const BoundPlan& self) { return self.plan.workspaces(); })
        .def("tasks",
             [](const BoundPlan& self, size_t i) {
                 need(i < self.plan.size(), "no such step");
                 return self.plan.step(i).tasks;
             })
        .def("__len__", [](const BoundPlan& self) { return self.plan.size(); })
        .def_property_readonly("isa", [](const BoundPlan& self) { return self.plan.tier().name; })
        .def_property_readonly("threads", [](const BoundPlan& self) { return self.plan.threads(); })
        .def_property_readonly("arena_bytes",
                               [](const BoundPlan& self) { return self.plan.arena_bytes(); })
        .def_property_readonly("scratch_bytes", [](const BoundPlan& self) {
            return self.plan.scratch_bytes() * self.plan.threads();
        });
}
