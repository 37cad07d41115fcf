// Programs of recorded arithmetic: what was computed from some numbers, computed again from others.
//
// A register holds a Python object. Integers of 64 bits, floats and truth values are kept unboxed,
// and Python's operators are done on them here. Everything else, and what would overflow or raise,
// is left to Python: the results are those of the recorded functions in every case.

#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "bind.h"

namespace cnnrt {
namespace {

using namespace py::literals;

enum class Code : uint8_t {
    kCall,
    kAdd,
    kSub,
    kMul,
    kTrueDiv,
    kFloorDiv,
    kMod,
    kNeg,
    kLt,
    kLe,
    kGt,
    kGe,
    kEq,
    kNe
};

constexpr std::array kOperators = {"add", "sub", "mul", "truediv", "floordiv", "mod", "neg",
                                   "lt",  "le",  "gt",  "ge",      "eq",       "ne"};

enum class Kind : uint8_t { kObject, kInt, kFloat, kBool };

struct Slot {
    Kind kind = Kind::kObject;
    union {
        PyObject* object = nullptr;  // borrowed; null: nothing yet
        int64_t number;              // of kInt and kBool
        double real;
    };
};

Slot of_int(int64_t value) {
    Slot s;
    s.kind = Kind::kInt;
    s.number = value;
    return s;
}

Slot of_float(double value) {
    Slot s;
    s.kind = Kind::kFloat;
    s.real = value;
    return s;
}

Slot of_bool(bool value) {
    Slot s;
    s.kind = Kind::kBool;
    s.number = value;
    return s;
}

Slot unboxed(PyObject* x) {
    if (PyLong_CheckExact(x)) {
        int overflow = 0;
        const int64_t value = PyLong_AsLongLongAndOverflow(x, &overflow);
        if (!overflow) return of_int(value);
    } else if (PyFloat_CheckExact(x)) {
        return of_float(PyFloat_AS_DOUBLE(x));
    } else if (PyBool_Check(x)) {
        return of_bool(x == Py_True);
    }
    Slot s;
    s.object = x;
    return s;
}

// A new reference, or null with an error set.
PyObject* boxed(const Slot& s) {
    switch (s.kind) {
        case Kind::kInt:
            return PyLong_FromLongLong(s.number);
        case Kind::kFloat:
            return PyFloat_FromDouble(s.real);
        case Kind::kBool:
            return PyBool_FromLong(s.number != 0);
        case Kind::kObject:
            break;
    }
    return Py_NewRef(s.object ? s.object : Py_None);
}

constexpr int64_t kExact = int64_t{1} << 53;  // up to here doubles hold every integer

bool exact(const Slot& s) {
    return s.kind == Kind::kFloat ||
           (s.kind == Kind::kInt && s.number >= -kExact && s.number <= kExact);
}

double real(const Slot& s) {
    return s.kind == Kind::kFloat ? s.real : static_cast<double>(s.number);
}

template <class T>
bool compare(Code code, T a, T b) {
    switch (code) {
        case Code::kLt:
            return a < b;
        case Code::kLe:
            return a <= b;
        case Code::kGt:
            return a > b;
        case Code::kGe:
            return a >= b;
        case Code::kEq:
            return a == b;
        default:
            return a != b;
    }
}

// False if Python has to do it.
bool done_on_ints(Code code, int64_t a, int64_t b, Slot& result) {
    int64_t value = 0;
    switch (code) {
        case Code::kAdd:
            if (__builtin_add_overflow(a, b, &value)) return false;
            break;
        case Code::kSub:
            if (__builtin_sub_overflow(a, b, &value)) return false;
            break;
        case Code::kMul:
            if (__builtin_mul_overflow(a, b, &value)) return false;
            break;
        case Code::kFloorDiv:
        case Code::kMod: {
            if (b == 0 || b == -1) return false;
            const int64_t rest = a % b;
            const bool down = rest != 0 && (rest < 0) != (b < 0);
            value = code == Code::kMod ? rest + (down ? b : 0) : a / b - (down ? 1 : 0);
            break;
        }
        default:
            return false;
    }
    result = of_int(value);
    return true;
}

// False if Python has to do it.
bool done(Code code, const Slot& a, const Slot& b, Slot& result) {
    if (a.kind == Kind::kInt && b.kind == Kind::kInt && code != Code::kTrueDiv) {
        if (code >= Code::kLt) {
            result = of_bool(compare(code, a.number, b.number));
            return true;
        }
        return done_on_ints(code, a.number, b.number, result);
    }
    if (!exact(a) || !exact(b)) return false;
    const double x = real(a), y = real(b);
    switch (code) {
        case Code::kAdd:
            result = of_float(x + y);
            return true;
        case Code::kSub:
            result = of_float(x - y);
            return true;
        case Code::kMul:
            result = of_float(x * y);
            return true;
        case Code::kTrueDiv:
            if (y == 0) return false;
            result = of_float(x / y);
            return true;
        case Code::kFloorDiv:
        case Code::kMod:
            return false;
        default:
            result = of_bool(compare(code, x, y));
            return true;
    }
}

class Program {
public:
    using Operations = std::vector<std::tuple<int, py::object, std::vector<int>>>;

    Program(const py::list& values, const Operations& first, const Operations& last,
            std::vector<int> inputs, const std::vector<int>& guards, const py::list& expected,
            std::vector<int> results)
        : inputs_(std::move(inputs)), results_(std::move(results)), blank_(values.size()) {
        const py::module_ python = py::module_::import("operator");
        for (const char* name : kOperators) operators_.push_back(python.attr(name));
        for (size_t i = 0; i < blank_.size(); ++i) {
            kept_.push_back(values[i]);
            blank_[i] = unboxed(kept_.back().ptr());
        }
        for (const auto& operation : first) append(first_, operation);
        for (const auto& operation : last) append(last_, operation);
        check(guards.size() == expected.size(), "a guard without a value");
        for (size_t i = 0; i < guards.size(); ++i) {
            kept_.push_back(expected[i]);
            guards_.push_back({checked(guards[i]), unboxed(kept_.back().ptr())});
        }
        for (const int i : inputs_) checked(i);
        for (const int i : results_) checked(i);
    }

    // The values by register, None where nobody asks for one; None if the guards do not hold.
    py::object run(const py::sequence& inputs) const {
        check(inputs.size() == inputs_.size(), "another number of inputs");
        std::vector<Slot> slots = blank_;
        std::vector<py::object> made;  // what the slots point at
        for (size_t i = 0; i < inputs_.size(); ++i) set(slots, inputs_[i], inputs[i], made);
        try {
            compute(first_, slots, made);
            for (const Guard& g : guards_)
                if (!equal(slots[g.place], g.expected)) return py::none();
            compute(last_, slots, made);
        } catch (py::error_already_set& error) {
            // The values that no guard lets pass may be such as an operation does not take.
            for (PyObject* expected :
                 {PyExc_ArithmeticError, PyExc_ValueError, PyExc_LookupError, PyExc_TypeError})
                if (error.matches(expected)) return py::none();
            throw;
        }
        py::list values(slots.size());
        for (size_t i = 0; i < slots.size(); ++i)
            PyList_SET_ITEM(values.ptr(), static_cast<Py_ssize_t>(i), Py_NewRef(Py_None));
        for (const int i : results_) {
            PyObject* value = boxed(slots[i]);
            if (!value || PyList_SetItem(values.ptr(), i, value)) throw py::error_already_set();
        }
        return values;
    }

private:
    struct Operation {
        int result;
        Code code;
        int begin, count;  // of operands_
        PyObject* function;
    };
    struct Guard {
        int place;
        Slot expected;
    };

    int checked(int place) const {
        check(place >= 0 && static_cast<size_t>(place) < blank_.size(), "no such register");
        return place;
    }

    void append(std::vector<Operation>& operations,
                const std::tuple<int, py::object, std::vector<int>>& source) {
        const auto& [result, function, operands] = source;
        Code code = Code::kCall;
        const size_t arity = operands.size();
        for (size_t i = 0; i < operators_.size(); ++i) {
            const Code found = static_cast<Code>(i + 1);
            if (function.is(operators_[i]) && arity == (found == Code::kNeg ? 1 : 2)) code = found;
        }
        operations.push_back({checked(result), code, static_cast<int>(operands_.size()),
                              static_cast<int>(arity), function.ptr()});
        for (const int i : operands) operands_.push_back(checked(i));
        kept_.push_back(function);
    }

    static void set(std::vector<Slot>& slots, int place, py::object value,
                    std::vector<py::object>& made) {
        slots[place] = unboxed(value.ptr());
        if (slots[place].kind == Kind::kObject) made.push_back(std::move(value));
    }

    void compute(const std::vector<Operation>& operations, std::vector<Slot>& slots,
                 std::vector<py::object>& made) const {
        for (const Operation& o : operations) {
            const int* from = operands_.data() + o.begin;
            if (o.code == Code::kNeg) {
                const Slot x = slots[from[0]];
                if (x.kind == Kind::kFloat) {
                    slots[o.result] = of_float(-x.real);
                    continue;
                }
                if (x.kind == Kind::kInt && x.number != INT64_MIN) {
                    slots[o.result] = of_int(-x.number);
                    continue;
                }
            } else if (o.code != Code::kCall) {
                if (done(o.code, slots[from[0]], slots[from[1]], slots[o.result])) continue;
            }
            py::tuple arguments(o.count);
            for (int i = 0; i < o.count; ++i) {
                PyObject* value = boxed(slots[from[i]]);
                if (!value) throw py::error_already_set();
                PyTuple_SET_ITEM(arguments.ptr(), i, value);
            }
            PyObject* value = PyObject_Call(o.function, arguments.ptr(), nullptr);
            if (!value) throw py::error_already_set();
            set(slots, o.result, py::reinterpret_steal<py::object>(value), made);
        }
    }

    static bool equal(const Slot& a, const Slot& b) {
        if (a.kind == b.kind && a.kind != Kind::kObject)
            return a.kind == Kind::kFloat ? a.real == b.real : a.number == b.number;
        const auto x = py::reinterpret_steal<py::object>(boxed(a));
        const auto y = py::reinterpret_steal<py::object>(boxed(b));
        const int same = x && y ? PyObject_RichCompareBool(x.ptr(), y.ptr(), Py_EQ) : -1;
        if (same < 0) throw py::error_already_set();
        return same != 0;
    }

    std::vector<int> inputs_, results_;
    std::vector<Slot> blank_;
    std::vector<py::object> operators_, kept_;  // kept_: what the operations and slots point at
    std::vector<Operation> first_, last_;
    std::vector<int> operands_;
    std::vector<Guard> guards_;
};

}  // namespace

void bind_program(py::module_& m) {
    py::class_<Program>(m, "Program")
        .def(py::init<const py::list&, const Program::Operations&, const Program::Operations&,
                      std::vector<int>, const std::vector<int>&, const py::list&,
                      std::vector<int>>(),
             "values"_a, "first"_a, "last"_a, "inputs"_a, "guards"_a, "expected"_a, "results"_a)
        .def("run", &Program::run, "inputs"_a);
}

}  // namespace cnnrt
