// The arguments of kernels, filled by name from Python, and the lists of kernels.def, dtypes.def
// and activations.def as Python sees them.

#include <pybind11/stl.h>

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>
#include <vector>

#include "../bounds.h"
#include "../memory.h"
#include "bind.h"

namespace cnnrt {
namespace {

// Lists of names, as the preprocessor writes a list: "a, b, c".
constexpr std::string_view kSeparator = ", ";

std::string_view take_name(std::string_view& list) {
    const std::string_view name = list.substr(0, list.find(kSeparator));
    list.remove_prefix(std::min(list.size(), name.size() + kSeparator.size()));
    return name;
}

py::tuple names_of(std::string_view list) {
    py::list names;
    while (!list.empty()) {
        PyObject* const name = PyUnicode_InternFromString(std::string(take_name(list)).c_str());
        names.append(py::reinterpret_steal<py::str>(name));
    }
    return py::tuple(names);
}

// For each enumeration type: its name, and the names of its values in order.
template <class E>
constexpr std::string_view kEnum{};
template <class E>
constexpr std::string_view kValues{};

#define ENUM(Name, ...)                             \
    template <>                                     \
    constexpr std::string_view kEnum<Name> = #Name; \
    template <>                                     \
    constexpr std::string_view kValues<Name> = #__VA_ARGS__;
#include "../kernels/kernels.def"

constexpr std::string_view kActivations =
#define ACTIVATION(name, value) #name ", "
#include "../kernels/activations.def"
    ;
template <>
constexpr std::string_view kEnum<Activation> = "Activation";
template <>
constexpr std::string_view kValues<Activation> =
    kActivations.substr(0, kActivations.size() - kSeparator.size());

// The position of a name in a tuple of them; -1 if it is none. Names in source code are interned,
// so that nearly all are found by identity.
int find_name(PyObject* names, const py::handle& name) {
    const auto count = static_cast<int>(PyTuple_GET_SIZE(names));
    for (int i = 0; i < count; ++i)
        if (PyTuple_GET_ITEM(names, i) == name.ptr()) return i;
    for (int i = 0; i < count; ++i)
        if (py::handle(PyTuple_GET_ITEM(names, i)).equal(name)) return i;
    return -1;
}

template <class E>
E enum_value(const py::handle& value) {
    static PyObject* const names = names_of(kValues<E>).release().ptr();
    const int found = find_name(names, value);
    if (found >= 0) return static_cast<E>(found);
    throw py::value_error(std::string(kEnum<E>) + " has no '" + std::string(py::str(value)) +
                          "'; expected one of " + std::string(kValues<E>));
}

DType dtype_value(const py::handle& value) {
    const auto text = value.cast<std::string_view>();
#define DTYPE(id, name, type, kind, code) \
    if (text == name) return DType::id;
#include "../kernels/dtypes.def"
    throw py::value_error("no element type '" + std::string(text) + "'");
}

void read(const py::object& v, int32_t& field) { field = v.cast<int32_t>(); }
void read(const py::object& v, int64_t& field) { field = v.cast<int64_t>(); }
void read(const py::object& v, float& field) { field = v.cast<float>(); }
void read(const py::object& v, DType& field) { field = dtype_value(v); }
void read(const py::object& v, Dims& field) {
    const auto sizes = v.cast<std::vector<int64_t>>();
    check(sizes.size() <= kMaxDims, "more than 8 axes");
    std::copy(sizes.begin(), sizes.end(), field);
}
void read(const py::object& v, OperandStrides& field) {
    const auto strides = v.cast<std::vector<std::vector<int64_t>>>();
    check(strides.size() <= std::size(field) / kMaxDims, "more than 12 operands");
    for (size_t i = 0; i < strides.size(); ++i) {
        check(strides[i].size() <= kMaxDims, "more than 8 axes");
        std::copy(strides[i].begin(), strides[i].end(), field + i * kMaxDims);
    }
}
void read(const py::object& v, Epilogue& field) {
    if (v.is_none()) return;
    const auto t = v.cast<py::tuple>();
    if (t.size() != 3) throw py::cast_error();
    field.activation = enum_value<Activation>(t[0]);
    field.alpha = t[1].cast<float>();
    field.beta = t[2].cast<float>();
}
void read(const py::object& v, Requant& f) {
    if (v.is_none()) return;
    const auto t = v.cast<py::tuple>();
    size_t used = 0;
    const auto next = [&](auto&... fields) {
        (
            [&] {
                if (used >= t.size()) throw py::cast_error();
                read(py::object(t[used++]), fields);
            }(),
            ...);
    };
    next(f.floats, f.zero, f.low, f.high, f.mine, f.other, f.constant, f.residual_first, f.shift,
         f.rounds, f.inner_zero, f.inner_low, f.inner_high);
    if (used != t.size()) throw py::cast_error();
}
void read(const py::object& v, GateEpilogues& field) {
    const auto list = v.cast<py::list>();
    if (list.size() != std::size(field)) throw py::cast_error();
    for (size_t i = 0; i < list.size(); ++i) read(py::object(list[i]), field[i]);
}
template <class E>
    requires std::is_enum_v<E>
void read(const py::object& v, E& field) {
    field = enum_value<E>(v);
}

// The attributes of a buffer of layout/tensors.py.
struct BufferNames {
    PyObject* nbytes = PyUnicode_InternFromString("nbytes");
    PyObject* external = PyUnicode_InternFromString("external");
    PyObject* memory = PyUnicode_InternFromString("memory");
    PyObject* offset = PyUnicode_InternFromString("offset");
};

py::object attribute(PyObject* object, PyObject* name) {
    PyObject* const found = PyObject_GetAttr(object, name);
    if (!found) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(found);
}

// Fills fields, visited in the order of `names`, from the values of the same names, and notes what
// lies where.
struct Reader {
    const py::dict& values;
    PyObject* const names;  // a tuple
    py::list& kept_alive;   // the constants that the fields point at
    Bounds bounds{};
    std::string_view list{};  // the names that follow, as the preprocessor writes them
    Py_ssize_t visited = 0;
    size_t used = 0;

    template <class... T>
    void operator()(std::string_view text, T&... fields) {
        list = text;
        (fill(fields), ...);
    }

    template <class T>
    void fill(T& field) {
        const std::string_view text = take_name(list);
        PyObject* const name = PyTuple_GET_ITEM(names, visited++);
        PyObject* const value = PyDict_GetItemWithError(values.ptr(), name);
        if (!value) return;
        ++used;
        try {
            const auto v = py::reinterpret_borrow<py::object>(value);
            if constexpr (std::is_same_v<T, Ref>)
                read_place(v, field, text, sizeof(float));
            else if constexpr (std::is_same_v<T, View>)
                read_view(v, field, text);
            else
                read(v, field);
        } catch (const py::cast_error&) {
            throw py::type_error("field '" + std::string(text) + "' has a value of the wrong type");
        }
    }

    // A place is a constant's Memory, a buffer and the bytes into it, or a space and an offset.
    void read_place(const py::handle& v, Ref& field, std::string_view name, int64_t itemsize) {
        static const BufferNames attributes;
        if (v.is_none()) return;
        if (!PyTuple_Check(v.ptr())) return read_constant(v, 0, field, name, itemsize);
        if (PyTuple_GET_SIZE(v.ptr()) != 2) throw py::cast_error();
        PyObject* const buffer = PyTuple_GET_ITEM(v.ptr(), 0);
        const auto offset = py::handle(PyTuple_GET_ITEM(v.ptr(), 1)).cast<int64_t>();
        if (PyLong_Check(buffer)) {
            field = {py::handle(buffer).cast<int32_t>(), offset};
            return;
        }
        const py::object memory = attribute(buffer, attributes.memory);
        if (!memory.is_none()) return read_constant(memory, offset, field, name, itemsize);
        const py::object external = attribute(buffer, attributes.external);
        if (external.is_none())
            field = {kArena, attribute(buffer, attributes.offset).cast<int64_t>() + offset};
        else
            field = {kExternal + external.cast<int32_t>(), offset};
        const auto bytes = attribute(buffer, attributes.nbytes).cast<int64_t>();
        bounds.place(field, name, offset, bytes, itemsize);
    }

    void read_constant(const py::handle& v, int64_t offset, Ref& field, std::string_view name,
                       int64_t itemsize) {
        const auto& memory = v.cast<const Memory&>();
        field = {kConstant, reinterpret_cast<int64_t>(memory.data()) + offset};
        bounds.place(field, name, offset, static_cast<int64_t>(memory.bytes()), itemsize);
        kept_alive.append(v);
    }

    // A place, four strides, and the element type, float32 if it is not said.
    void read_view(const py::handle& v, View& field, std::string_view name) {
        if (v.is_none()) return;
        const auto t = v.cast<py::tuple>();
        if (t.size() != 5 && t.size() != 6) throw py::cast_error();
        const auto itemsize = t.size() == 6 ? t[5].attr("itemsize").cast<int64_t>() : 4;
        read_place(t[0], field.at, name, itemsize);
        field.image = t[1].cast<int64_t>();
        field.block = t[2].cast<int64_t>();
        field.plane = t[3].cast<int64_t>();
        field.row = t[4].cast<int64_t>();
    }
};

struct FieldNames {
    py::list names;

    template <class... T>
    void operator()(std::string_view list, T&...) {
        names += names_of(list);
    }
};

// Each struct of arguments with its fields by name: visit(v) calls v("a, b", a, b) for all.
#define ARGS(Name)                  \
    struct Visitable##Name : Name { \
        template <class Visitor>    \
        void visit(Visitor& visitor) {
#define FIELDS(type, ...) visitor(#__VA_ARGS__, __VA_ARGS__);
#define FIELD(type, name, initial) visitor(#name, name);
#define END_ARGS \
    }            \
    }            \
    ;
#include "../kernels/kernels.def"

template <class Args>
py::tuple field_names() {
    Args args{};
    FieldNames visitor;
    args.visit(visitor);
    return py::tuple(visitor.names);
}

// Tuples of the names of the kernels and of the fields of each, made once when the module is
// loaded.
PyObject* kernel_names;
PyObject* field_names_of[kKernels];

template <class Fields, class Args>
void add_with(Plan& plan, py::list& kept_alive, int kernel, const py::dict& values,
              void (*check_bounds)(const Args&, const Bounds&), bool serial, bool independent,
              double nanoseconds) {
    Fields args{};
    Reader reader{values, field_names_of[kernel], kept_alive};
    args.visit(reader);
    const char* const kernel_name = plan.tier().kernels[kernel].name;
    if (reader.used != values.size()) {
        const auto names = py::reinterpret_borrow<py::tuple>(field_names_of[kernel]);
        for (const auto& [name, value] : values)
            if (!names.contains(name))
                throw py::type_error(std::string("kernel '") + kernel_name + "' has no field '" +
                                     std::string(py::str(name)) + "'");
    }
    try {
        check_bounds(args, reader.bounds);
    } catch (const OutOfBounds& error) {
        throw py::index_error(std::string("the kernel '") + kernel_name + "' would use " +
                              error.what());
    }
    plan.add(kernel, &args, serial, independent, nanoseconds);
}

std::string lower_case(std::string_view text) {
    std::string result(text);
    for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return result;
}

}  // namespace

void add_step(Plan& plan, py::list& kept_alive, const py::str& kernel, const py::dict& fields,
              bool serial, bool independent, double nanoseconds) {
    const int found = find_name(kernel_names, kernel);
    int index = 0;
#define KERNEL(name, Args)                                                                     \
    if (found == index)                                                                        \
        return add_with<Visitable##Args, Args>(plan, kept_alive, index, fields, name##_bounds, \
                                               serial, independent, nanoseconds);              \
    ++index;
#include "../kernels/kernels.def"
    throw py::value_error("no kernel '" + std::string(kernel) + "'");
}

void bind_lists(py::module_& m) {
    py::dict kernels;
    int index = 0;
#define KERNEL(name, Args)                           \
    kernels[#name] = field_names<Visitable##Args>(); \
    field_names_of[index++] = py::object(kernels[#name]).release().ptr();
#include "../kernels/kernels.def"
    m.attr("kernels") = kernels;
    kernel_names = py::tuple(kernels).release().ptr();

    py::dict enums;
#define ENUM(Name, ...) enums[py::str(lower_case(kEnum<Name>))] = names_of(kValues<Name>);
#include "../kernels/kernels.def"
    m.attr("enums") = enums;
    m.attr("activations") = names_of(kValues<Activation>);

    py::list dtypes;
#define DTYPE(id, name, type, kind, code) \
    dtypes.append(py::make_tuple(name, sizeof(type), std::string(1, kind), code));
#include "../kernels/dtypes.def"
    m.attr("dtypes") = py::tuple(dtypes);
}

}  // namespace cnnrt
