// The arguments of kernels, filled by name from Python, and the lists of kernels.def, dtypes.def
// and activations.def as Python sees them.

#include <pybind11/stl.h>

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>
#include <vector>

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

// The enumerations by type: their names, and those of their values in order.
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

template <class E>
E enum_value(const py::handle& value) {
    const auto text = value.cast<std::string>();
    std::string_view list = kValues<E>;
    for (int32_t i = 0; !list.empty(); ++i)
        if (take_name(list) == text) return static_cast<E>(i);
    throw py::value_error(std::string(kEnum<E>) + " has no '" + text + "'; expected one of " +
                          std::string(kValues<E>));
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
void read(const py::object& v, Ref& field) {
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
void read(const py::object& v, View& field) {
    if (v.is_none()) return;
    const auto t = v.cast<py::tuple>();
    if (t.size() != 5) throw py::cast_error();
    read(t[0], field.at);
    field.image = t[1].cast<int64_t>();
    field.block = t[2].cast<int64_t>();
    field.plane = t[3].cast<int64_t>();
    field.row = t[4].cast<int64_t>();
}
void read(const py::object& v, Epilogue& field) {
    if (v.is_none()) return;
    const auto t = v.cast<py::tuple>();
    if (t.size() != 3) throw py::cast_error();
    field.activation = enum_value<Activation>(t[0]);
    field.alpha = t[1].cast<float>();
    field.beta = t[2].cast<float>();
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

// Fills fields, visited in the order of `names`, from the values of the same names.
struct Reader {
    const py::dict& values;
    PyObject* const names;  // a tuple
    Py_ssize_t visited = 0;
    size_t used = 0;

    template <class... T>
    void operator()(std::string_view, T&... fields) {
        (fill(fields), ...);
    }

    template <class T>
    void fill(T& field) {
        PyObject* const name = PyTuple_GET_ITEM(names, visited++);
        PyObject* const value = PyDict_GetItemWithError(values.ptr(), name);
        if (!value) return;
        ++used;
        try {
            read(py::reinterpret_borrow<py::object>(value), field);
        } catch (const py::cast_error&) {
            throw py::type_error("field '" + py::cast<std::string>(name) +
                                 "' has a value of the wrong type");
        }
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

// A tuple of the names of each kernel's fields, made once when the module is loaded.
PyObject* field_names_of[kKernels];

template <class Args>
void add_with(Plan& plan, int kernel, const py::dict& values, bool serial, bool independent,
              double nanoseconds) {
    Args args{};
    Reader reader{values, field_names_of[kernel]};
    args.visit(reader);
    if (reader.used != values.size()) {
        const auto names = py::reinterpret_borrow<py::tuple>(field_names_of[kernel]);
        for (const auto& [name, value] : values)
            if (!names.contains(name))
                throw py::type_error(std::string("kernel '") + plan.tier().kernels[kernel].name +
                                     "' has no field '" + std::string(py::str(name)) + "'");
    }
    plan.add(kernel, &args, serial, independent, nanoseconds);
}

std::string lower_case(std::string_view text) {
    std::string result(text);
    for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return result;
}

}  // namespace

void add_step(Plan& plan, const std::string& kernel, const py::dict& fields, bool serial,
              bool independent, double nanoseconds) {
    int index = 0;
#define KERNEL(name, Args)                                                                       \
    if (kernel == #name)                                                                         \
        return add_with<Visitable##Args>(plan, index, fields, serial, independent, nanoseconds); \
    ++index;
#include "../kernels/kernels.def"
    throw py::value_error("no kernel '" + kernel + "'");
}

void bind_lists(py::module_& m) {
    py::dict kernels;
    int index = 0;
#define KERNEL(name, Args)                           \
    kernels[#name] = field_names<Visitable##Args>(); \
    field_names_of[index++] = py::object(kernels[#name]).release().ptr();
#include "../kernels/kernels.def"
    m.attr("kernels") = kernels;

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
