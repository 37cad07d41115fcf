// The instructions of a pointwise program, and the loops that execute them.
//
// A program works on registers: tiles of elements of one type that stay in L1. An instruction goes
// over a whole tile, so that finding its loop costs nothing beside it.
#pragma once

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {

// Before a loop over registers: a result may take the place of an operand, each element the place
// of its own. Without it the compiler tests if they overlap, and goes one by one if they do.
#if defined(__clang__)
#define CNNRT_SAME_PLACES _Pragma("clang loop vectorize(assume_safety)")
#else
#define CNNRT_SAME_PLACES _Pragma("GCC ivdep")
#endif

// y[i] = f(a[i], b[i], c[i]) for i < n, a multiple of 16.
using Loop = void (*)(const Instruction& p, const void* a, const void* b, const void* c, void* y,
                      int64_t n);

// The loop of an operation on operands of a type; null if there is none.
Loop float_loop(Operation operation);
Loop double_loop(const Instruction& p);
Loop integer_loop(Operation operation, DType type);

}  // namespace cnnrt::CNNRT_ISA
