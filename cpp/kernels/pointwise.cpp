// A chain of elementwise operations, tile by tile: values between two of them stay in L1.
//
// A tile is a stretch of the row-major index space. An operand whose elements follow each other
// there is read where it lies; any other one is copied into its register. So is the rest of the
// space, if it is no multiple of 16: instructions work on whole vectors.
#include "pointwise.h"

#include "conversion.h"
#include "element.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kTask = 16384;           // approximate elements in one task
constexpr int64_t kRegisterBytes = 24576;  // bytes of all registers: half of the smallest L1, and a
                                           // quarter for what is read and written
constexpr int64_t kLongest = 1024;         // elements of a tile: beyond it nothing is gained

struct Cut {
    int64_t total = 1, tile, per_task;
    explicit Cut(const PointwiseArgs& a) {
        for (int i = 0; i < a.dims; ++i) total *= a.shape[i];
        const int64_t fits = kRegisterBytes / (a.width * larger(1, a.registers));
        tile = larger<int64_t>(64, smaller(kLongest, fits / 64 * 64));
        per_task = larger<int64_t>(1, kTask / tile);
    }
    int64_t tasks() const { return ceil_div(total, tile * per_task); }
};

// An input or an output over its own axes: those that are one run for it are merged.
struct Operand {
    char* p;
    int size;  // bytes of an element
    int dims;
    int64_t shape[kMaxDims], stride[kMaxDims];

    Operand() = default;
    Operand(char* at, int bytes, const PointwiseArgs& args, int index)
        : p(at), size(bytes), dims(0) {
        const int64_t* strides = args.strides + index * kMaxDims;
        for (int i = 0; i < args.dims; ++i) {
            if (dims && stride[dims - 1] == args.shape[i] * strides[i]) {
                shape[dims - 1] *= args.shape[i];
            } else {
                shape[dims++] = args.shape[i];
            }
            stride[dims - 1] = strides[i];
        }
    }

    // The location of elements [begin, begin + n) if they follow each other, else null.
    char* direct(int64_t begin, int64_t n) const {
        if (stride[dims - 1] != 1) return nullptr;
        const int64_t inner = shape[dims - 1], first = begin % inner;
        return first + n <= inner ? place(begin / inner, first) : nullptr;
    }

    // The location of an element of a row, counted along the last axis.
    char* place(int64_t row, int64_t column) const {
        int64_t at = column * stride[dims - 1];
        for (int i = dims - 2; i >= 0; --i) {
            at += row % shape[i] * stride[i];
            row /= shape[i];
        }
        return p + at * size;
    }
};

// Goes over elements [begin, begin + n) row by row: f(place, stride, count).
template <class T, class F>
CNNRT_INLINE void for_each_row(const Operand& o, int64_t begin, int64_t n, F f) {
    const int last = o.dims - 1;
    const int64_t inner = o.shape[last];
    int64_t row = begin / inner, column = begin % inner;
    while (n > 0) {
        // Rows along the second axis from the end lie evenly.
        T* p = reinterpret_cast<T*>(o.place(row, 0));
        const int64_t step = last ? o.stride[last - 1] : 0;
        int64_t rows = last ? o.shape[last - 1] - row % o.shape[last - 1] : 1;
        for (; rows > 0 && n > 0; --rows, ++row) {
            const int64_t count = smaller(n, inner - column);
            f(p + column * o.stride[last], o.stride[last], count);
            p += step;
            n -= count;
            column = 0;
        }
    }
}

template <class T>
__attribute__((noinline)) void gather(const Operand& o, int64_t begin, int64_t n, T* to) {
    for_each_row<const T>(o, begin, n, [&](const T* p, int64_t stride, int64_t count) {
        if (stride == 1) {
            if (count == 16) {  // a pixel of a block
                __builtin_memcpy(to, p, 16 * sizeof(T));
            } else {
                for (int64_t i = 0; i < count; ++i) to[i] = p[i];
            }
        } else if (stride == 0) {
            const T value = *p;
            for (int64_t i = 0; i < count; ++i) to[i] = value;
        } else {
            for (int64_t i = 0; i < count; ++i) to[i] = p[i * stride];
        }
        to += count;
    });
}

template <class T>
__attribute__((noinline)) void scatter(const Operand& o, int64_t begin, int64_t n, const T* from) {
    for_each_row<T>(o, begin, n, [&](T* p, int64_t stride, int64_t count) {
        if (stride == 1 && count == 16) {
            __builtin_memcpy(p, from, 16 * sizeof(T));
        } else {
            for (int64_t i = 0; i < count; ++i) p[i * stride] = from[i];
        }
        from += count;
    });
}

int bytes_of(uint8_t type) {
    switch (static_cast<DType>(type)) {
#define DTYPE(id, name, type, kind, code) \
    case DType::id:                       \
        return sizeof(type);
#include "dtypes.def"
    }
    return 0;
}

void convert_all(const Instruction& p, const void* a, const void*, const void*, void* y,
                 int64_t n) {
    convert_elements(static_cast<DType>(p.type), a, static_cast<DType>(p.result), y, n);
}

Loop loop_of(const Instruction& p) {
    const auto operation = static_cast<Operation>(p.operation);
    const auto type = static_cast<DType>(p.type);
    if (operation == Operation::convert) return convert_all;
    if (operation == Operation::where) return integer_loop(operation, type);
    if (type == DType::float32) return float_loop(operation);
    if (type == DType::float64) return double_loop(p);
    return integer_loop(operation, type);
}

// A program with its operands, and the locations of its registers for the present tile.
class Machine {
public:
    Machine(const PointwiseArgs& args, const Context& context, const Cut& cut)
        : program_(context.at<const Instruction>(args.program)),
          instructions_(args.instructions),
          once_(args.once),
          slots_(context.scratch),
          slot_bytes_(cut.tile * args.width),
          tile_(cut.tile) {
        const Ref inputs[] = {args.x0, args.x1, args.x2, args.x3,
                              args.x4, args.x5, args.x6, args.x7};
        const Ref outputs[] = {args.y0, args.y1, args.y2, args.y3};
        int loaded = 0;
        for (int i = 0; i < instructions_; ++i) {
            const Instruction& p = program_[i];
            if (p.operation == static_cast<uint8_t>(Operation::load)) {
                inputs_[p.a] = Operand(context.at<char>(inputs[p.a]), bytes_of(p.type), args, p.a);
                loaded = larger(loaded, p.a + 1);
            } else if (p.operation != static_cast<uint8_t>(Operation::constant)) {
                loops_[i] = loop_of(p);
            }
        }
        for (int i = 0; i < instructions_; ++i) {
            const Instruction& p = program_[i];
            if (p.output == kNoOutput) continue;
            outputs_[p.output] = Operand(context.at<char>(outputs[p.output]), bytes_of(p.result),
                                         args, loaded + p.output);
        }
    }

    // Computes the values that are the same in every tile.
    void prepare() {
        for (int i = 0; i < once_; ++i) execute(i, 0, tile_);
    }

    // Computes elements [begin, begin + n).
    void run(int64_t begin, int64_t n) {
        for (int i = once_; i < instructions_; ++i) execute(i, begin, n);
    }

private:
    char* slot(int reg) const { return slots_ + reg * slot_bytes_; }

    void execute(int i, int64_t begin, int64_t n) {
        const Instruction& p = program_[i];
        const int64_t whole = ceil_div(n, 16) * 16;  // slots have room for whole vectors
        switch (static_cast<Operation>(p.operation)) {
            case Operation::load: {
                const Operand& o = inputs_[p.a];
                char* at = n == whole ? o.direct(begin, n) : nullptr;
                if (!at) {
                    at = slot(p.y);
                    with_element(o.size, [&]<class T>(T) {
                        gather<T>(o, begin, n, reinterpret_cast<T*>(at));
                    });
                }
                at_[p.y] = at;
                return;
            }
            case Operation::constant:
                at_[p.y] = slot(p.y);
                with_element(bytes_of(p.result), [&]<class T>(T) {
                    T value;
                    __builtin_memcpy(&value, &p.alpha, sizeof(T));
                    T* y = reinterpret_cast<T*>(slot(p.y));
                    for (int64_t k = 0; k < n; ++k) y[k] = value;
                });
                return;
            default:
                break;
        }
        char* y = nullptr;
        if (p.output != kNoOutput && n == whole) y = outputs_[p.output].direct(begin, n);
        const bool copies = p.output != kNoOutput && !y;
        if (!y) y = slot(p.y);
        loops_[i](p, at_[p.a], at_[p.b], at_[p.c], y, whole);
        at_[p.y] = y;
        if (copies)
            with_element(outputs_[p.output].size, [&]<class T>(T) {
                scatter<T>(outputs_[p.output], begin, n, reinterpret_cast<const T*>(y));
            });
    }

    const Instruction* program_;
    const int instructions_, once_;
    char* slots_;
    const int64_t slot_bytes_, tile_;
    Loop loops_[kMaxInstructions];
    Operand inputs_[kMaxInputs], outputs_[kMaxOutputs];
    char* at_[kMaxRegisters] = {};
};

}  // namespace

void pointwise(const PointwiseArgs& args, const Context& context, int64_t begin, int64_t end) {
    const Cut cut(args);
    Machine machine(args, context, cut);
    machine.prepare();
    const int64_t stop = smaller(cut.total, end * cut.per_task * cut.tile);
    for (int64_t i = begin * cut.per_task * cut.tile; i < stop; i += cut.tile)
        machine.run(i, smaller(cut.tile, stop - i));
}

int64_t pointwise_tasks(const PointwiseArgs& args) { return Cut(args).tasks(); }

int64_t pointwise_scratch(const PointwiseArgs& args) {
    const Cut cut(args);
    return cut.tile * args.width * args.registers;
}

}  // namespace cnnrt::CNNRT_ISA
