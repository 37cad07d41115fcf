// The contract between the planner and the kernels: what a kernel is given. The argument structs
// are those of kernels.def; a Plan owns them and never changes them afterwards.
//
// Layouts. `plain` is the user's row-major array. `blocked` is [N][C/16][D][H][W][16]: channels in
// blocks of 16, so that the pixel stride is always 16 elements. A View may carry a border around D,
// H and W, and may be a slice of the blocks of a larger tensor. Lanes past the last channel are
// unspecified, and no kernel lets them reach a real channel.
//
// Letters: n image, c channel, o output block, d/h/w output position, k tap, t Winograd tile.
// Strides and offsets count elements; the offset of a Ref counts bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dtype.h"

namespace cnnrt {

constexpr int kMaxDims = 8;             // of the strided kernels
constexpr int kMaxNarrowStates = 4096;  // of recurrent, if its weights are no floats
using Dims = int64_t[kMaxDims];         // sizes or strides, outermost first

// The memory spaces of a run: constants (absolute addresses), the arena, and from kExternal on the
// caller's inputs and outputs.
enum Space : int32_t { kConstant = 0, kArena = 1, kExternal = 2 };

// A location in one of the memory spaces.
struct Ref {
    int32_t space = -1;  // -1: absent
    int64_t offset = 0;
    explicit operator bool() const { return space >= 0; }
};

// A blocked tensor: the first pixel of its interior, and the strides.
struct View {
    Ref at;
    int64_t image = 0, block = 0, plane = 0, row = 0;
    explicit operator bool() const { return static_cast<bool>(at); }
};

// An index in the data that is out of range for its axis; size < 0 if there was none.
struct Fault {
    int64_t index = 0, size = -1;
};

// What a run hands to a kernel.
struct Context {
    const uintptr_t* spaces;  // the address of each memory space
    char* scratch;            // of this thread alone
    Fault* fault;             // where to report an index beyond its axis
    bool shared;              // other threads work on parts of the same step
    template <class T = float>
    T* at(Ref r) const {
        return r ? reinterpret_cast<T*>(spaces[r.space] + static_cast<uintptr_t>(r.offset))
                 : nullptr;
    }
};

enum class Activation : int32_t {
#define ACTIVATION(name, value) name,
#include "activations.def"
};

// What a kernel applies to its result before storing it.
struct Epilogue {
    Activation activation = Activation::none;
    float alpha = 0, beta = 0;
};
// What becomes of int32 sums, v = float(sum) * factor: bytes, round(v) + zero, or floats.
//
// A residual r of bytes is added as fma(v, mine, fma(r - shift, other, constant)), or with both
// products exchanged; the result is rounded, plus shift. With `rounds`, v is first rounded to a
// byte within [inner_low, inner_high], and shift taken off. Bytes are clamped to [low, high].
struct Requant {
    int32_t floats = 0;  // 1: y has floats, v + a bias, activated; 2: y has the sums
    int32_t zero = 0, low = 0, high = 255;
    float mine = 0, other = 0, constant = 0;
    int32_t residual_first = 0, shift = 0;
    int32_t rounds = 0, inner_zero = 0, inner_low = 0, inner_high = 0;
};

// The epilogues of a recurrent layer. Each direction has those of the gates, the candidate and the
// output of lstm.
using GateEpilogues = Epilogue[6];

// Of a pointwise program, one after the other: 8 inputs and 4 outputs.
constexpr int kMaxInputs = 8, kMaxOutputs = 4;
using OperandStrides = int64_t[(kMaxInputs + kMaxOutputs) * kMaxDims];

// One line of such a program: an Operation on registers, each of which holds a tile.
constexpr int kMaxInstructions = 256, kMaxRegisters = 96;
constexpr uint8_t kNoOutput = 255;

struct Instruction {
    uint8_t operation;  // Operation
    uint8_t type;       // DType of the operands
    uint8_t result;     // DType of the result
    uint8_t y;          // the register of the result
    uint8_t a, b, c;    // of the operands; of load: a is the input, of activation: c is its number
    uint8_t output;     // the output that the result is, or kNoOutput
    float alpha, beta;  // parameters; of constant: the 8 bytes of the value, of an activation of
                        // float64: one double
};
static_assert(sizeof(Instruction) == 16);

#define ENUM(Name, ...) enum class Name : int32_t { __VA_ARGS__ };
#define ARGS(Name) struct Name {
#define FIELDS(type, ...) type __VA_ARGS__;
#define FIELD(type, name, initial) type name = initial;
#define END_ARGS \
    }            \
    ;
#include "kernels.def"

}  // namespace cnnrt
